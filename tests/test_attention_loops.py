"""A compiled step's loops for attention compute what its products and softmax do."""

import math
from functools import partial
from operator import getitem

import pytest
import torch
from kernels_together import together
from test_compile import compiles
from test_compile_rewrites import assert_same_after, drawn, targets, traced
from torch.fx.experimental.proxy_tensor import make_fx

import lincoln_fn as lf
from lincoln_fn.compiler.inductor.vectors import lanes
from lincoln_fn.compiler.kernels.attention import op
from lincoln_fn.compiler.passes import attention
from lincoln_fn.fastpath import fast

aten = torch.ops.aten
pytestmark = pytest.mark.usefixtures("needs_vectors")


def written(q, k, v, g, is_causal):
    """Compute y, dq, dk and dv in float64."""
    q, k, v, g = (tensor.double() for tensor in (q, k, v, g))
    scores = q @ k.mT
    if is_causal:
        past = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
        scores = scores.masked_fill(~past, -math.inf)
    weights = torch.softmax(scores, -1)
    dweights = g @ v.mT
    dscores = weights * (dweights - (dweights * weights).sum(-1, keepdim=True))
    return weights @ v, dscores @ k, dscores.mT @ q, weights.mT @ g


def by_loops(q, k, v, g, is_causal):
    y = op.forward(q, k.mT, v, is_causal)
    return y, *op.backward(q, k.mT, v.mT, g, is_causal)


def heads(count, queries, keys, features, values):
    sizes = ((queries, features), (keys, features), (keys, values), (queries, values))
    return [drawn(i, count, length, n * lanes()) for i, (length, n) in enumerate(sizes)]


# Heads, queries, keys, vectors of features and of values, whether causal, and threads: one part and
# several; keys that fill tiles and that do not; more queries than a block has.
SIZES = {
    "one": (1, 1, 1, 1, 1, True, 2),
    "a query": (2, 1, 9, 1, 2, False, 2),
    "a key": (2, 7, 1, 2, 1, True, 1),
    "whole tiles": (3, 2 * lanes(), 4 * lanes(), 1, 3, False, 1),
    "parts of tiles": (3, 37, 53, 2, 1, True, 2),
    "more keys than queries": (2, 70, 101, 3, 4, False, 2),
    "several blocks": (2, 150, 139, 1, 2, True, 1),
}  # fmt: skip


@compiles
def test_equal_the_formulas():
    given = [(*heads(*sizes), is_causal) for *sizes, is_causal, _ in SIZES.values()]

    def run(given, threads):
        torch.set_num_threads(threads)
        return by_loops(*given)

    calls = [partial(run, x, size[-1]) for x, size in zip(given, SIZES.values(), strict=True)]
    for name, case, made in zip(SIZES, given, together(calls), strict=True):
        for ours, exact in zip(made, written(*case), strict=True):
            assert ours.shape == exact.shape, name
            assert (ours - exact).abs().max() <= 4e-6 * max(exact.abs().max(), 1), name


EXTREMES = {
    "large scores": lambda q: 1e4 * q,
    "ties": torch.zeros_like,
    "denormals": lambda q: 1e-40 * q,
}


@compiles
@pytest.mark.parametrize("name", EXTREMES)
def test_equal_the_formulas_at_the_extremes(name):
    q, *others = heads(2, 21, 19, 1, 1)
    given = (EXTREMES[name](q), *others)
    for ours, exact in zip(by_loops(*given, True), written(*given, True), strict=True):
        assert ours.isfinite().all()
        assert (ours - exact).abs().max() <= 1e-5 * max(exact.abs().max(), 1)


@compiles
@pytest.mark.parametrize("place", [0, 13])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_stays_so(place, value):
    q, k, v, _ = heads(2, 21, 19, 1, 1)
    q[1, place, 3] = value
    y = op.forward(q, k.mT, v, True)
    assert y[0].isfinite().all()
    assert y[1].isfinite().all(1).tolist() == [row != place for row in range(21)]


X = drawn(5, 5, 6, 4 * lanes())
T = torch.tensor([0, 2, 1, 1, 0])


def attends(**form):
    return lf.serial(lf.multi_head_attention(4, **form), lf.flatten(), lf.dense(3))


def lone(is_causal=False):
    """Make a network whose attention has a layer of its own, which keeps its weights."""
    inputs = lf.parallel(lf.dense(lanes()), lf.dense(lanes()), lf.dense(2 * lanes()))
    attended = lf.scaled_dot_product_attention(is_causal=is_causal)
    return lf.serial(inputs, attended, lf.flatten(), lf.dense(3))


@compiles
@pytest.mark.parametrize(("net", "x"), [(attends, X), (lone, (X, X, X))])
def test_they_take_the_place_of_attention(net, x):
    for is_causal in (False, True):
        graph, arguments = traced(net(is_causal=is_causal), x, T)
        if is_causal == (net is attends):
            assert_same_after(attention.rewrite, graph, arguments)
        else:
            attention.rewrite(graph)
        called = targets(graph)
        assert called.count(op.forward) == called.count(op.backward) == 1
        (node,) = graph.graph.find_nodes(op="call_function", target=op.forward)
        assert node.args[-1] is is_causal
        assert called.count(getitem) >= 3
        assert not {aten.bmm.default, aten._softmax.default} & set(called)


def chained(q, k, v, g):
    """Give the gradients of attention whose keys and values are another's y."""
    layer = fast(lf.scaled_dot_product_attention())
    y, first = layer.forward((), (q, k, v))
    _, second = layer.forward((), (q, y, y))
    (dq, dkeys, dvalues, *_), _ = layer.backward((), second, g)
    (*dx, _), _ = layer.backward((), first, dkeys)
    return dq, dvalues, *dx


@compiles
def test_one_reads_what_another_makes():
    given = heads(2, 9, 9, 1, 1)
    graph = make_fx(chained)(*given)
    assert_same_after(attention.rewrite, graph, given)
    assert targets(graph).count(op.backward) == 2
    assert aten.bmm.default not in targets(graph)


def begun_with_dv(q, k, v, g):
    weights = torch.softmax(q @ k.mT, -1)
    dv, dweights = weights.mT @ g, g @ v.mT
    dscores = aten._softmax_backward_data(dweights, weights, -1, weights.dtype)
    return weights @ v, dscores @ k, dscores.mT @ q, dv


def along_queries(q, k, v, g):
    return torch.softmax(q @ k.mT, 1) @ v


def up_to_the_next(q, k, v, g):
    past = torch.ones(lanes(), lanes(), dtype=torch.bool).tril(1)
    return torch.softmax((q @ k.mT).masked_fill(~past, -math.inf), -1) @ v


def the_first_for_all(q, k, v, g):
    past = torch.ones(1, lanes(), dtype=torch.bool).tril()
    return torch.softmax((q @ k.mT).masked_fill(~past, -math.inf), -1) @ v


def weights_shown(q, k, v, g):
    weights = torch.softmax(q @ k.mT, -1)
    return weights @ v, weights


def scores_turned(q, k, v, g):
    return torch.softmax((q @ k.mT).mT, -1) @ v


def scores_cut_otherwise(q, k, v, g):
    scores = (q @ k.mT).view(2, -1, lanes() // 2)
    return torch.softmax(scores, -1).view(2, lanes(), -1) @ v


def backwards(q, k, v, g):
    weights = torch.softmax(q @ k.mT, -1)
    dscores = aten._softmax_backward_data(g @ v.mT, weights, -1, weights.dtype)
    return weights, dscores, weights.mT @ g


def weights_behind(q, k, v, g):
    return v.mT @ torch.softmax(q @ k.mT, -1)


def dweights_turned(q, k, v, g):
    weights = torch.softmax(q @ k.mT, -1)
    dscores = aten._softmax_backward_data((g @ v.mT).mT, weights, -1, weights.dtype)
    return weights.mT @ g, dscores @ k, dscores.mT @ q


def dscores_by_weights_turned(q, k, v, g):
    weights = torch.softmax(q @ k.mT, -1)
    dscores = aten._softmax_backward_data(g @ v.mT, weights.mT, -1, weights.dtype)
    return weights.mT @ g, dscores @ k, dscores.mT @ q


def dq_alone(q, k, v, g):
    _, dscores, dv = backwards(q, k, v, g)
    return dv, dscores @ k


def dscores_shown(q, k, v, g):
    _, dscores, dv = backwards(q, k, v, g)
    return dv, dscores @ k, dscores.mT @ q, dscores


def dq_of_keys_turned(q, k, v, g):
    _, dscores, dv = backwards(q, k, v, g)
    return dv, dscores @ k.mT, dscores.mT @ q


OTHERS_LIKE_IT = [
    along_queries, up_to_the_next, the_first_for_all, weights_shown, scores_turned,
    scores_cut_otherwise, weights_behind, dweights_turned, dscores_by_weights_turned, dq_alone,
    dscores_shown, dq_of_keys_turned,
]  # fmt: skip


@compiles
@pytest.mark.parametrize("other", OTHERS_LIKE_IT)
def test_what_looks_like_attention_stays(other):
    given = heads(2, lanes(), lanes(), 1, 1)
    graph = make_fx(other)(*given)
    before = targets(graph)
    assert_same_after(attention.rewrite, graph, given)
    assert targets(graph) == before


@compiles
def test_gradients_that_are_asked_for_too_early_stay():
    given = heads(2, 9, 9, 1, 1)
    graph = make_fx(begun_with_dv)(*given)
    assert_same_after(attention.rewrite, graph, given)
    assert op.backward not in targets(graph)


PADDING = torch.arange(6) < torch.tensor([[6], [4], [5], [6], [1]])
OTHERS = {
    "dropout": (attends(dropout=0.5), X),
    "a mask": (attends(), (X, PADDING)),
    "numbers added": (attends(), (X, drawn(6, 1, 1, 6, 6))),
    "features that fill no vector": (attends(), X[..., : 2 * lanes()]),
    "no vectors of float64": (attends(), X.double()),
    "fewer heads than threads": (attends(), X[:1]),
}


@compiles
@pytest.mark.parametrize("name", OTHERS)
def test_other_attention_stays(name):
    net, x = OTHERS[name]
    if name.startswith("fewer"):
        torch.set_num_threads(5)
    graph, _ = traced(net, x, T[: len(lf.tree.leaves(x)[0])])
    attention.rewrite(graph)
    assert op.forward not in targets(graph)
    assert targets(graph).count(aten.bmm.default) == 7


# Of the seven products q k^T, weights v; q k^T again, g v^T, weights^T g, dscores k, dscores^T q.
@compiles
@pytest.mark.parametrize(("product", "factor"), [(4, 1), (5, 1), (6, 1), (4, 0), (5, 0), (6, 0)])
def test_a_backward_pass_of_other_numbers_stays(product, factor):
    graph, _ = traced(attends(), X, T)
    node = graph.graph.find_nodes(op="call_function", target=aten.bmm.default)[product]
    given = node.args[factor]
    with graph.graph.inserting_before(node):
        flipped = graph.graph.call_function(aten.flip.default, (given, [0]))
    flipped.meta = dict(given.meta)
    node.replace_input_with(given, flipped)
    attention.rewrite(graph)
    assert targets(graph).count(op.forward) == 1
    assert op.backward not in targets(graph)


@compiles
def test_scores_with_another_mask_stay():
    for target, args in ((aten.tril.default, 1), (aten.masked_fill.Scalar, -1e9)):
        graph, _ = traced(attends(is_causal=True), X, T)
        for node in graph.graph.find_nodes(op="call_function", target=target):
            node.args = (*node.args[:2], args)
        attention.rewrite(graph)
        assert op.forward not in targets(graph)
