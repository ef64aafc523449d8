"""Products of float32 are made in bfloat16 where torch allows it, and nowhere else."""

import pytest
import torch
from test_compile import compiles
from test_compile_rewrites import drawn, run, targets, traced
from torch.fx import Graph

import lincoln_fn as lf
from lincoln_fn.compiled import products, small_products, ways
from lincoln_fn.compiled.donation import written_over
from lincoln_fn.compiled.tracing import trace
from lincoln_fn.fastpath import bfloat16
from lincoln_fn.fastpath import product as libraries

X, W, B, G = drawn(0, 70, 90), drawn(1, 80, 90), drawn(2, 80), drawn(3, 70, 80)
# Half a unit in the last of bfloat16's 8 places.
ROUNDING = 2.0**-8


@pytest.fixture
def medium(monkeypatch):
    """A processor that has vectors of bfloat16, for products of any size, and leave to use them."""
    monkeypatch.setattr(bfloat16, "HERE", True)
    monkeypatch.setattr(bfloat16, "_LEAST", 1)
    monkeypatch.setattr(libraries, "_LEAST_OF_ONEDNN", 1)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    yield
    torch.set_float32_matmul_precision(before)


def rounded(a, b):
    """The product of factors that are rounded to bfloat16."""
    return a.bfloat16().double() @ b.bfloat16().double()


def assert_rounded(given, product, offset=0.0):
    assert given.dtype is torch.float32
    error = (given - (offset + product)).abs()
    assert (error <= ROUNDING * product.abs() + 1e-5).all()


def assert_moves_alike(step, state, batch, *, atol, apart):
    """Take three steps compiled, as the eager ones up to a part of the way."""
    compiled, exact = lf.compile(step), lf.make_step(step.net, step.loss, step.optimizer)
    begun = [leaf.clone() for leaf in lf.tree.leaves(state, states=True)]
    ours, theirs = state, lf.tree.map(torch.clone, state, states=True)
    for _ in range(3):
        theirs, expected = exact(theirs, batch)
        ours, value = compiled(ours, batch)
        torch.testing.assert_close(value, expected, rtol=atol, atol=atol)
    leaves = (lf.tree.leaves(given, states=True) for given in (ours, theirs))
    for mine, its, old in zip(*leaves, begun, strict=True):
        assert mine.stride() == its.stride()
        assert (its - mine).double().norm() <= apart * (its - old).double().norm()
    assert len(compiled.run.graphs) == 1


def assert_keeps_its_state(step, state, batch):
    """Refuse a batch that is not finite, with the state as it was."""
    compiled, kept = lf.compile(step), lf.tree.map(torch.clone, state, states=True)
    x, target = batch
    with pytest.raises(lf.NonFiniteError, match="step 1: x holds values that are not finite"):
        compiled(state, (x * torch.inf, target))
    leaves = (lf.tree.leaves(given, states=True) for given in (state, kept))
    assert all(map(torch.equal, *leaves))


@pytest.mark.usefixtures("medium")
@pytest.mark.parametrize("x", [X, X.view(7, 10, 90)], ids=["rows", "batches"])
@pytest.mark.parametrize("bias", [B, None], ids=["bias", "no bias"])
def test_linear(monkeypatch, x, bias):
    monkeypatch.setattr(libraries, "HERE", True)
    monkeypatch.setattr(libraries, "_LEAST_OF_ONEDNN", 1)
    y = libraries.linear(x, W, bias)
    assert y.shape == (*x.shape[:-1], 80)
    assert_rounded(y, rounded(x, W.mT), 0.0 if bias is None else bias)
    assert (y - torch.nn.functional.linear(x, W, bias)).abs().max() > 1e-3


@pytest.mark.usefixtures("medium")
@pytest.mark.parametrize("order", ["by rows", "by columns"])
def test_gradient_and_update_of_a_weight(order):
    weight = W.mT if order == "by columns" else W.mT.contiguous()
    kept, product = weight.clone(), rounded(X.mT, G)
    dweight = libraries.outer(X, G, like=weight)
    assert_rounded(dweight, product)
    assert (dweight - X.mT @ G).abs().max() > 1e-3
    moved = libraries.add_outer(weight, X, G, -0.5)
    assert torch.equal(weight, kept)
    assert_rounded(moved, -0.5 * product, kept)
    donated = libraries.add_outer(weight.clone(), X, G, -0.5, donate=True)
    assert torch.equal(donated, moved)
    for made in (dweight, moved, donated):
        assert made.stride() == weight.stride()


@pytest.mark.usefixtures("medium")
@pytest.mark.parametrize("precision", ["highest", "high"])
def test_torch_must_allow_it(precision):
    assert bfloat16.is_allowed()
    torch.set_float32_matmul_precision(precision)
    assert not bfloat16.is_allowed()
    assert torch.equal(libraries.outer(X, G, like=W.mT.contiguous()), X.mT @ G)


@pytest.mark.usefixtures("medium")
def test_which_products_suit(monkeypatch):
    assert bfloat16.is_faster(torch.empty(64, 64), torch.empty(64, 64))
    assert bfloat16.is_faster(torch.empty(8, 8, 64), torch.empty(64, 64))
    for rows, n_in, n_out in ((63, 64, 64), (64, 63, 64), (64, 64, 63)):
        assert not bfloat16.is_faster(torch.empty(rows, n_in), torch.empty(n_in, n_out))
    assert not bfloat16.is_faster(X.double(), W.mT.double())
    assert not bfloat16.is_faster(X.to("meta"), W.mT.to("meta"))
    monkeypatch.setattr(bfloat16, "_LEAST", 2**24)
    assert bfloat16.is_faster(torch.empty(256, 256), torch.empty(256, 256))
    assert not bfloat16.is_faster(torch.empty(255, 256), torch.empty(256, 256))
    assert not bfloat16.is_faster(torch.empty(0, 0), torch.empty(0, 2**24))
    monkeypatch.setattr(bfloat16, "HERE", False)
    assert not bfloat16.is_faster(torch.empty(256, 256), torch.empty(256, 256))


@pytest.mark.usefixtures("medium")
def test_autograd_and_torch_func_see_torch_s_own_product():
    learned = X.clone().requires_grad_()
    product = libraries.outer(learned, G, like=W.mT.contiguous())
    assert torch.equal(product, X.mT @ G)
    assert product.requires_grad
    weight = W.mT.contiguous()
    with torch.no_grad():
        by_vmap = torch.func.vmap(lambda g: libraries.add_outer(weight, X, g, 1.0))(G[None])
    torch.testing.assert_close(by_vmap[0], weight + X.mT @ G)


NET = lf.serial(lf.dense(80), lf.tanh(), lf.dense(3))
TARGET = torch.arange(70) % 3


@pytest.mark.usefixtures("medium")
def test_products_of_a_compiled_step():
    graph, arguments = traced(NET, X, TARGET)
    before = run(graph, arguments)
    products.rewrite(graph, small=False)
    # Forward, and the first weight's gradient; those of three classes are narrow.
    assert targets(graph).count(ways.in_bfloat16) == 2
    for ours, theirs in zip(run(graph, arguments), before, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=2e-2, atol=2e-2)
    made = ways.in_bfloat16(X, W.mT)
    assert_rounded(made, rounded(X, W.mT))


@pytest.mark.usefixtures("medium")
def test_a_donated_update_stays_in_the_graph():
    optimizer = lf.optim.sgd(0.1)
    step = lf.make_step(NET, lf.losses.softmax_cross_entropy(), optimizer, donate=True)
    state = lf.init_state(NET, optimizer, lf.Key(0), X)

    def products_handed_out():
        made = trace(step, state, (X, TARGET))
        count = len(lf.tree.leaves(state, states=True))
        return sum(fate.outputs == 2 for fate in written_over(made, count, small=False))

    in_bfloat16 = products_handed_out()
    torch.set_float32_matmul_precision("highest")
    assert products_handed_out() == in_bfloat16 + 1


@pytest.mark.usefixtures("medium")
def test_a_flat_product_that_is_added_is_a_loop(monkeypatch):
    monkeypatch.setattr(small_products, "_MOST", {})

    def way(a, b):
        graph = Graph()
        factors = [graph.placeholder(name) for name in "ab"]
        for node, value in zip(factors, (a, b), strict=True):
            node.meta["val"] = value
        added = graph.call_function(torch.ops.aten.addmm.default, (None, *factors))
        return products.better_way(added, small=False)

    g, x = drawn(0, 3, 70), drawn(1, 70, 80)
    assert way(g, x) is ways.looped
    assert way(drawn(0, 16, 70), x) is None
    assert way(g, drawn(1, 70, 15)) is not ways.looped
    assert way(g.int(), x.int()) is None
    assert way(torch.empty(15, 1000), torch.empty(1000, 80)) is None
    torch.set_float32_matmul_precision("highest")
    assert way(g, x) is None


@compiles
@pytest.mark.usefixtures("medium")
def test_a_compiled_step_heeds_what_torch_is_told_now():
    optimizer = lf.optim.sgd(0.1)
    step = lf.make_step(NET, lf.losses.softmax_cross_entropy(), optimizer)
    compiled = lf.compile(step)
    state = lf.init_state(NET, optimizer, lf.Key(0), X)

    def error(precision):
        torch.set_float32_matmul_precision(precision)
        new_state, value = compiled(state, (X, TARGET))
        torch.set_float32_matmul_precision("highest")
        exact, _ = step(state, (X, TARGET))
        assert value.isfinite()
        return (new_state.params[0].weight - exact.params[0].weight).abs().max().item()

    assert error("highest") < 1e-7
    assert 1e-6 < error("medium") < 1e-3
    assert error("highest") < 1e-7
