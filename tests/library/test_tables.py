"""Which tables have a row for which layer: a new layer is put where it belongs.

What has no row has the default, which works for every layer: the gradients of single examples call
its backward for one example after the other, a step keeps its whole cache even if the layer is
frozen, `decode` tries whether it works position by position, and the fast path computes the
formula.
"""

import re
from collections import defaultdict

from helpers.cases import CASES

import lincoln_fn as lf
from lincoln_fn.core.declaration import gradients_of, input_grad_of, kind_of
from lincoln_fn.decoding.rows import row_of
from lincoln_fn.fastpath.table import TWINS

TABLES = {
    "kind": lambda layer: kind_of(layer) is not None,
    "terms": lambda layer: bool(gradients_of(layer).terms or gradients_of(layer).dx_and_terms),
    "reads": lambda layer: input_grad_of(layer).reads is not None,
    "decode": lambda layer: row_of(layer) is not None,
    "twin": lambda layer: any(twin.matches(layer) for twin in TWINS),
}
ROWS = {
    "kind terms reads decode twin": "conv",
    "kind terms decode twin": "gated_linear_recurrence lstm selective_scan",
    "kind terms reads twin": "dense embedding",
    "kind decode twin": (
        "attention_heads linear_attention linear_scan scaled_dot_product_attention"
    ),
    "kind terms decode": "gru positional_embedding rnn",
    "kind terms reads": "conv_transpose",
    "kind terms twin": "group_norm layer_norm",
    "kind decode": (
        "circular_pad constant_pad reflection_pad replication_pad rotary_embedding "
        "sinusoidal_positions zero_pad"
    ),
    "kind terms": (
        "bias bilinear class_token cosine_similarities graph_attention gru_cell inference "
        "instance_norm lstm_cell prelu relative_position_bias rms_norm rnn_cell"
    ),
    "kind twin": (
        "avg_pool batch_norm elu gelu hardshrink hardswish leaky_relu max_pool relu relu6 selu "
        "silu softplus softshrink threshold"
    ),
    "kind": (
        "absolute celu clamp cos exp hardsigmoid hardtanh log log_sigmoid mish power "
        "quick_gelu reciprocal rrelu shift sigmoid sin softcap softsign sqrt stop_gradient "
        "tanh tanhshrink "
        "adaptive_avg_pool adaptive_max_pool add alibi alpha_dropout amax broadcast_tensors "
        "broadcast_to concatenate dilate divide dropout feature_alpha_dropout flatten flip "
        "fractional_max_pool gather global_avg_pool glu graph_conv identity index_select "
        "last_state linear_head local_response_norm log_softmax logsumexp lp_pool masked_mean "
        "matmul maximum mean multiply norm normalize permute pixel_shuffle pixel_unshuffle "
        "reshape scale scatter select softmax softmin spectral_norm split stack "
        "stochastic_depth subtract sum take timestep_embedding token_log_probs unflatten "
        "upsample variance weight_norm where"
    ),
}


def test_a_layer_has_a_row_in_these_tables_and_the_default_in_the_others():
    rows = defaultdict(set)
    for case in CASES:
        if case.layer.composition is None:
            name = re.match(r"[a-z_0-9]+?(?=(\dd)?\()", case.layer.name)[0]
            rows[name] |= {table for table, has_row in TABLES.items() if has_row(case.layer)}
    found = defaultdict(set)
    for name, tables in rows.items():
        found[" ".join(table for table in TABLES if table in tables)].add(name)
    assert found == {tables: set(names.split()) for tables, names in ROWS.items()}


# Batch norm mixes the examples. The gradient of a linear head's matrix comes from the loss, already
# summed. The others make a layer's weight: their gradients are computed for one example after the
# other.
NO_TERMS = ("batch_norm", "linear_head", "spectral_norm", "weight_norm")


def test_every_layer_with_parameters_has_terms_but_these():
    for case in CASES:
        if case.layer.composition is None and lf.tree.leaves(case.params()):
            has_terms = TABLES["terms"](case.layer)
            assert has_terms != case.layer.name.startswith(NO_TERMS), case
