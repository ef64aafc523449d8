"""Updates of one product in a compiled step: which are found, and what of them."""

import pytest
import torch
from test_compile_rewrites import drawn
from torch.fx.experimental.proxy_tensor import make_fx

from lincoln_fn.compiled import columns
from lincoln_fn.compiled.sums import sum_for

W, V, A, B = drawn(0, 4, 5), drawn(1, 4, 5), drawn(2, 4, 3), drawn(3, 3, 5)
BY_COLUMNS = drawn(4, 5, 4).mT


def low(a, b):
    return a.bfloat16() @ b.bfloat16()


FOUND = {
    "addmm": (W, lambda w, v, a, b: torch.addmm(w, a, b, alpha=-0.2), -0.2, False),
    "addmm of 1": (W, lambda w, v, a, b: torch.addmm(w, a, b), 1, False),
    "turned addmm": (
        BY_COLUMNS,
        lambda w, v, a, b: torch.addmm(w.mT, b.mT, a.mT, alpha=-0.2).mT,
        -0.2,
        True,
    ),
    "bfloat16": (W, lambda w, v, a, b: w - low(a, b).float() * 0.3, -0.3, False),
    "turned bfloat16": (
        BY_COLUMNS,
        lambda w, v, a, b: w - low(b.mT, a.mT).mT.float() * 0.3,
        -0.3,
        True,
    ),
}
NOT_FOUND = {
    "of another leaf": lambda w, v, a, b: torch.addmm(v, a, b),
    "with beta": lambda w, v, a, b: torch.addmm(w, a, b, beta=0.5),
    "of a leaf's rows": lambda w, v, a, b: torch.addmm(w, v[:, :3], b),
    "of a leaf's columns": lambda w, v, a, b: torch.addmm(w, a, v[:3]),
    "of another kind": lambda w, v, a, b: torch.addmm(w, a, b).mT,
    "in bfloat16, of another leaf": lambda w, v, a, b: v - low(a, b).float() * 0.3,
    "by a rate that is a tensor": lambda w, v, a, b: w - low(a, b).float() * a.sum(),
    "with no rate": lambda w, v, a, b: w - low(a, b).float(),
    "with no cast": lambda w, v, a, b: w - (a @ b) * 0.3,
    "cast from double": lambda w, v, a, b: w - (a.double() @ b.double()).float() * 0.3,
    "of no product": lambda w, v, a, b: w - v.bfloat16().float() * 0.3,
    "added": lambda w, v, a, b: w + low(a, b).float() * 0.3,
    "no update": lambda w, v, a, b: a @ b,
}


def found(update, leaf):
    graph = make_fx(update, tracing_mode="fake")(leaf, V, A, B).graph
    leaves = graph.find_nodes(op="placeholder")
    return sum_for(leaves[0], graph.output_node().args[0], leaves[:2])


@pytest.mark.parametrize("name", FOUND)
def test_a_sum_is_found(name):
    leaf, update, alpha, is_turned = FOUND[name]
    added = found(update, leaf)
    a, b = (node.meta["val"] for node in (added.a, added.b))
    assert (added.alpha, added.is_turned) == (alpha, is_turned)
    assert (a.shape, b.shape) == (((5, 3), (3, 4)) if is_turned else ((4, 3), (3, 5)))
    assert added.node.meta["val"].shape == ((5, 4) if is_turned else (4, 5))


@pytest.mark.parametrize("name", NOT_FOUND)
def test_another_update_is_no_sum(name):
    assert found(NOT_FOUND[name], W) is None


def test_a_leaf_that_would_lie_otherwise_or_has_more_axes_is_not_added_to():
    for leaf, update in (
        (BY_COLUMNS, lambda w, v, a, b: torch.addmm(w, a, b)),
        (W[None], lambda w, v, a, b: torch.addmm(w.view(4, 5), a, b).view(1, 4, 5)),
    ):
        assert found(update, leaf) is None


@pytest.mark.parametrize(
    ("dtype", "cast", "is_seen"),
    [
        (torch.float32, lambda w: w.bfloat16(), True),
        (torch.float32, lambda w: w.bfloat16().mT, False),
        (torch.float64, lambda w: w.bfloat16(), False),
        (torch.float64, lambda w: w.float(), False),
        (torch.float32, lambda w: w, True),
    ],
)
def test_what_a_weight_is_rounded_from(dtype, cast, is_seen):
    def product(x, w):
        factor = cast(w)
        return x.to(factor.dtype) @ factor

    graph = make_fx(product, tracing_mode="fake")(drawn(5, 2, 4), drawn(6, 4, 4).to(dtype)).graph
    (made,) = graph.find_nodes(op="call_function", target=torch.ops.aten.mm.default)
    _, weight = graph.find_nodes(op="placeholder")
    assert (columns._factors(made)[1] is weight) == is_seen
