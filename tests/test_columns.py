"""Activations by columns: the same numbers, in a compiled step of wide layers, or a small one."""

import functools

import pytest
import torch
from test_compile import assert_close, compiles
from test_compile_rewrites import assert_same_after, drawn, targets, traced

import lincoln_fn as lf
from lincoln_fn.compiled import columns, products, small_products, ways
from lincoln_fn.fastpath import product

aten = torch.ops.aten

X, T = drawn(0, 6, 90), torch.tensor([0, 2, 1, 1, 2, 0])
NETS = {
    "sigmoid": lf.serial(lf.dense(100), lf.sigmoid(), lf.dense(3)),
    "no bias": lf.serial(lf.dense(100, bias=False), lf.relu(), lf.dense(3)),
    "wide after wide": lf.serial(lf.dense(100), lf.gelu(), lf.dense(95), lf.tanh(), lf.dense(3)),
    "dropout": lf.serial(lf.dense(100), lf.dropout(0.4), lf.silu(), lf.dense(3)),
    "residual": lf.serial(lf.dense(100), lf.residual(lf.dense(100)), lf.layer_norm(), lf.dense(3)),
    "batch_norm": lf.serial(lf.dense(100), lf.batch_norm(), lf.prelu(), lf.dense(3)),
}


@pytest.fixture(autouse=True)
def _as_if_large(monkeypatch):
    monkeypatch.setattr(columns, "_LEAST", 9000)
    monkeypatch.setattr(products, "_THIN_FROM", 1)
    monkeypatch.setattr(product, "HERE", False)
    monkeypatch.setattr(small_products, "_MOST", {})


def turned(graph):
    return [t for t in targets(graph) if getattr(t, "__name__", "") == "turned"]


@pytest.mark.parametrize("name", NETS)
def test_the_graph_has_the_same_numbers(name):
    graph, arguments = traced(NETS[name], X, T)
    assert_same_after(functools.partial(columns.rewrite, small=False), graph, arguments)
    wide = {"wide after wide": 3, "residual": 3}.get(name, 1)  # forward, and back to the first
    assert targets(graph).count(ways.transposed) == wide
    # What batch_norm and prelu are made of is not known element by element here.
    assert bool(turned(graph)) == (name != "batch_norm")


def test_a_thin_gradient_comes_back_by_columns():
    graph, _ = traced(NETS["sigmoid"], X, T)
    columns.rewrite(graph, small=False)
    looped = graph.graph.find_nodes(op="call_function", target=ways.looped_by_columns)
    assert [tuple(node.meta["val"].shape) for node in looped] == [(6, 100)]
    made = ways.looped_by_columns(drawn(1, 6, 3), drawn(2, 3, 100))
    assert made.stride() == (1, 6)
    torch.testing.assert_close(made, drawn(1, 6, 3) @ drawn(2, 3, 100))


@pytest.mark.parametrize(
    ("shapes", "dtype", "count"),
    [
        (((99, 90), (90, 100)), torch.float32, 1),
        (((100, 90), (90, 100)), torch.float32, 0),  # as many examples as features
        (((6, 90), (90, 99)), torch.float32, 0),  # too few numbers
        (((6, 1024), (1024, 1024)), torch.float32, 1),
        (((6, 1024), (1024, 1025)), torch.float32, 0),  # too many
        (((6, 90), (90, 100)), torch.float64, 0),
    ],
)
def test_which_products_are_wide(shapes, dtype, count, monkeypatch):
    x, weight = (torch.empty(shape, dtype=dtype) for shape in shapes)
    assert columns._way(x, weight, small=False) is (ways.transposed if count else None)
    monkeypatch.setattr(product, "HERE", True)
    assert columns._way(x, weight, small=False) is None


def test_operations_of_other_shapes_stay():
    graph, _ = traced(NETS["sigmoid"], X, T)
    before = targets(graph)
    columns.rewrite(graph, small=False)
    kept = [old for old, new in zip(before, targets(graph), strict=True) if old is new]
    assert aten.sigmoid.default not in kept
    assert before.count(aten.exp.default) == kept.count(aten.exp.default) == 1  # of the loss


def test_an_operation_is_turned_with_all_that_it_takes():
    seen = []

    def scaled(x, bias, scale, *, alpha):
        seen.append((x.shape, bias.shape))
        return (x + bias) * scale * alpha

    x, bias = drawn(3, 6, 4), drawn(4, 4)
    for scale in (2.0, torch.tensor(2.0)):
        made = columns._turned(scaled)(x, bias, scale, alpha=3)
        torch.testing.assert_close(made, (x + bias) * 6)
    assert seen == [((4, 6), (4, 1))] * 2


@compiles
def test_a_gradient_leaves_the_graph_by_columns():
    net, optimizer = NETS["sigmoid"], lf.optim.sgd(0.1)
    step = lf.make_step(net, lf.losses.softmax_cross_entropy(), optimizer, donate=True)
    compiled, state = lf.compile(step), lf.init_state(net, optimizer, lf.Key(0), X)
    state, _ = compiled(state, (X, T))
    (made,) = compiled.run.graphs.values()
    x, g, *_ = made.run([*lf.tree.leaves(state, states=True), X, T])
    assert (x.shape, g.shape) == ((90, 6), (6, 100))
    assert g.stride() == (1, 6)


@compiles
@pytest.mark.parametrize("name", ["sigmoid", "wide after wide", "dropout"])
def test_compiled_steps_are_eager_ones(name):
    net, optimizer = NETS[name], lf.optim.sgd(0.1)
    loss = lf.losses.softmax_cross_entropy()
    step = lf.make_step(net, loss, optimizer)
    compiled = lf.compile(lf.make_step(net, loss, optimizer, donate=True))
    state = lf.init_state(net, optimizer, lf.Key(0), X)
    expected = state
    state = lf.tree.map(lambda t: torch.empty_like(t).copy_(t), state, states=True)
    for _ in range(3):
        expected, wanted = step(expected, (X, T))
        state, value = compiled(state, (X, T))
        assert_close((state, value), (expected, wanted))
    strides = [leaf.stride() for leaf in lf.tree.leaves(state.params)]
    assert strides == [leaf.stride() for leaf in lf.tree.leaves(expected.params)]


SMALL = {
    # The network, the shape of x, and how many products lie by columns, forward and back.
    "logistic": (lf.serial(lf.dense(10), lf.sigmoid(), lf.dense(1)), (20, 30), 3),  # and dW
    "deep": (lf.serial(lf.dense(4), lf.tanh(), lf.dense(7), lf.silu(), lf.dense(1)), (16, 5), 4),
    "few examples": (lf.serial(lf.dense(4), lf.tanh(), lf.dense(1)), (15, 5), 0),
    "a vector of features": (lf.serial(lf.dense(16), lf.tanh(), lf.dense(1)), (20, 5), 0),
    "many multiply-adds": (lf.serial(lf.dense(10), lf.tanh(), lf.dense(1)), (128, 60), 0),
    "one input": (lf.serial(lf.dense(4), lf.tanh(), lf.dense(1)), (20, 1), 0),
}


@pytest.mark.parametrize("name", SMALL)
def test_narrow_products_of_a_small_step_lie_by_columns(name):
    net, shape, count = SMALL[name]
    graph, arguments = traced(net, drawn(0, *shape), drawn(1, shape[0], 1), lf.losses.mse())
    assert_same_after(functools.partial(columns.rewrite, small=True), graph, arguments)
    assert targets(graph).count(ways.looped_by_columns) == count
    assert bool(turned(graph)) == bool(count)
