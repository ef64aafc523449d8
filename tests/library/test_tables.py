"""Which layers have a row in the tables of rooms; a new layer needs none.

What has no row has the default, which works for every layer: the gradients of single examples call
its backward for one example after the other, a step keeps its whole cache even if the layer is
frozen, `decode` tries whether it works position by position, and the fast path computes the
formula.
"""

import re
from collections import defaultdict

from helpers.cases import CASES

from lincoln_fn.core import file_of
from lincoln_fn.core.declaration import input_grad_of, kind_of
from lincoln_fn.decoding.rows import row_of
from lincoln_fn.fastpath.table import TWINS

TABLES = {
    "reads": lambda layer: input_grad_of(layer).reads is not None,
    "decode": lambda layer: row_of(layer) is not None,
    "twin": lambda layer: any(twin.formula is file_of(layer) for twin in TWINS),
}
ROWS = {
    "reads decode twin": "conv",
    "reads twin": "dense embedding",
    "reads": "conv_transpose",
    "decode twin": (
        "attention_heads gated_linear_recurrence linear_attention linear_scan lstm "
        "scaled_dot_product_attention selective_scan"
    ),
    "decode": (
        "circular_pad constant_pad gru positional_embedding reflection_pad replication_pad rnn "
        "rotary_embedding sinusoidal_positions zero_pad"
    ),
    "twin": (
        "avg_pool batch_norm elu gelu group_norm hardshrink hardswish layer_norm leaky_relu "
        "max_pool relu relu6 selu silu softplus softshrink threshold"
    ),
}
SINGLE = [case for case in CASES if case.layer.composition is None]


def test_these_layers_have_a_row_in_these_tables_and_all_others_have_the_default():
    rows = defaultdict(set)
    for case in SINGLE:
        name = re.match(r"[a-z_0-9]+?(?=(\dd)?\()", case.layer.name)[0]
        rows[name] |= {table for table, has_row in TABLES.items() if has_row(case.layer)}
    found = defaultdict(set)
    for name, tables in rows.items():
        found[" ".join(table for table in TABLES if table in tables)].add(name)
    del found[""]
    assert found == {tables: set(names.split()) for tables, names in ROWS.items()}


def test_every_layer_has_a_kind():
    assert not [case for case in SINGLE if kind_of(case.layer) is None]
