"""Small products in float32 by a loop of this library's, alone and in compiled steps."""

import pytest
import torch
from test_compile import compiles
from test_compile_rewrites import drawn, run, targets, traced
from torch.fx.experimental.proxy_tensor import make_fx
from torch.testing import assert_close

import lincoln_fn as lf
from benchmarks import memory
from lincoln_fn.compiled import columns, loops, products, small_products
from lincoln_fn.compiled.donation import written_over
from lincoln_fn.compiled.small_products import makes, product
from lincoln_fn.compiled.tracing import trace
from lincoln_fn.compiled.ways import (
    apart,
    looped,
    looped_by_columns,
    many_with_one,
    small_by_columns,
)

aten = torch.ops.aten

pytestmark = [
    compiles,
    pytest.mark.skipif(
        torch.__version__ < "2.13", reason="Python calls the loops of older torches"
    ),
]

# Rows, terms and columns: whole tiles and parts of them, fewer columns than a vector has numbers,
# odd numbers, and one of each.
SHAPES = [(32, 30, 64), (37, 5, 17), (10, 128, 30), (33, 40, 5), (16, 1, 16), (1, 9, 40), (1, 1, 1)]
ORDERS = [(False, False), (True, False), (False, True), (True, True)]


def laid(x, by_columns):
    return x.mT.contiguous().mT if by_columns else x


@pytest.mark.parametrize("by_columns", ORDERS, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_product_is_that_of_float64(shape, by_columns):
    rows, terms, count = shape
    # One matrix, and three in a batch.
    for batch in ((), (3,)):
        a = laid(drawn(0, *batch, rows, terms), by_columns[0])
        b = laid(drawn(1, *batch, terms, count), by_columns[1])
        made = product(a, b)
        assert (made.shape, made.dtype) == ((*batch, rows, count), torch.float32)
        assert made.is_contiguous()
        assert_close(made, (a.double() @ b.double()).float())


def test_factors_with_gaps():
    a, b = drawn(0, 9, 20)[:, ::2], drawn(1, 10, 70)[:, 3:]
    assert_close(product(a, b), a @ b)


def test_extremes():
    a = torch.tensor([[1e4, -1e4], [1e-40, -0.0], [torch.inf, 1.0], [torch.nan, 1.0]])
    for count in (1, 40):
        b = torch.tensor([[1e4], [1.0]]).expand(2, count).contiguous()
        assert_close(product(a, b), a @ b, equal_nan=True)


def test_a_thousand_terms_are_as_exact_as_when_they_are_added_one_after_the_other():
    a, b = drawn(0, 8, 1024), drawn(1, 1024, 20)
    exact, in_turn = a.double() @ b.double(), torch.zeros(8, 20)
    for i in range(1024):
        in_turn = in_turn + a[:, i : i + 1] * b[i]
    assert (product(a, b) - exact).abs().max() <= (in_turn - exact).abs().max()


def test_which_products_are_small(monkeypatch):
    a, b = drawn(0, 128, 64), drawn(1, 64, 64)
    assert makes(a, b)
    assert makes(a[None], b[None])
    assert not makes(a, drawn(1, 64, 65))
    assert makes(a[:4, :1].expand(4, 1024), drawn(1, 1024, 2))
    assert not makes(a[:4, :1].expand(4, 1025), drawn(1, 1025, 2))  # of too many terms
    assert not makes(a[:0], b)
    assert not makes(a.double(), b.double())
    assert not makes(a, b.double())
    assert not makes(a.to("meta"), b.to("meta"))
    monkeypatch.setattr(loops, "lanes", lambda: 0)
    assert not makes(a, b)


NET = lf.serial(lf.dense(30), lf.tanh(), lf.dense(3))
X, TARGET = drawn(0, 40, 50), torch.arange(40) % 3


@pytest.mark.parametrize("small", [False, True])
def test_a_step_makes_its_small_products_so(small):
    graph, arguments = traced(NET, X, TARGET)
    expected = run(graph, arguments)
    products.rewrite(graph, small=small)
    made = targets(graph)
    # Of the second layer, Inductor's loops make all three in a small step; its logits and its dW
    # are narrow.
    counts = [made.count(way) for way in (product, small_by_columns, looped)]
    assert counts == ([2, 0, 3] if small else [3, 2, 0])
    for ours, theirs in zip(run(graph, arguments), expected, strict=True):
        assert_close(ours, theirs)


def test_updates_by_one_product_are_made_so_in_a_small_step():
    optimizer = lf.optim.sgd(0.1)
    graph, arguments = traced(NET, X, TARGET, optimizer=optimizer)
    expected = run(graph, arguments)
    products.rewrite(graph, small=True)
    assert aten.addmm.default not in targets(graph)
    for ours, theirs in zip(run(graph, arguments), expected, strict=True):
        assert_close(ours, theirs)
    # And of a donated state within the graph; in a larger step by ATen, over the weight itself.
    step = lf.make_step(NET, lf.losses.softmax_cross_entropy(), optimizer, donate=True)
    state = lf.init_state(NET, optimizer, lf.Key(0), X)
    for small, count in ((True, 0), (False, 1)):
        made = trace(step, state, (X[:30], TARGET[:30]))
        fates = written_over(made, len(lf.tree.leaves(state, states=True)), small=small)
        assert sum(fate.outputs == 2 for fate in fates) == count


def test_many_products_with_one_are_a_small_one():
    a, b = drawn(0, 6, 5, 7), drawn(1, 7, 20).expand(6, 7, 20)
    graph = make_fx(many_with_one)(a, b)
    assert targets(graph).count(torch.ops.lincoln_fn.small_product_float32.default) == 1
    assert_close(graph(a, b), a @ b)


def test_products_of_many_small_matrices():
    a, b = drawn(0, 6, 5, 7), drawn(1, 6, 7, 20)
    graph = make_fx(torch.bmm)(a, b)
    products.rewrite_many(graph)
    assert targets(graph).count(product) == 1
    assert_close(graph(a, b), a @ b)
    graph = make_fx(torch.bmm)(a.double(), b.double())
    products.rewrite_many(graph)
    assert targets(graph).count(aten.bmm.default) == 1


@pytest.mark.parametrize("optimizer", [lf.optim.sgd(0.1), lf.optim.sgd(0.1, 0.9)], ids=str)
def test_compiled_steps_are_eager_ones(optimizer):
    # Attention of heads too narrow for its own loop, whose products are of many small matrices.
    net = lf.serial(
        lf.dense(12), lf.transformer_encoder_block(3, 24, 0.0), lf.flatten(), lf.dense(3)
    )
    x, target = drawn(0, 8, 5, 6), torch.arange(8) % 3
    step = lf.make_step(net, lf.losses.softmax_cross_entropy(), optimizer)
    expected = state = lf.init_state(net, optimizer, lf.Key(0), x)
    compiled = lf.compile(step)
    for _ in range(2):
        (expected, wanted), (state, value) = (
            step(expected, (x, target)),
            compiled(state, (x, target)),
        )
        assert_close(value, wanted)
    for ours, theirs in zip(*(lf.tree.leaves(s.params) for s in (state, expected)), strict=True):
        assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_small_products_of_a_small_step_lie_by_columns():
    # The layer's own is too large for Inductor's loops; the gradient comes back by one of them.
    x, weight = drawn(0, 128, 30), drawn(1, 30, 10)
    assert columns._way(x, weight, small=True) is small_by_columns
    assert columns._loop(drawn(2, 128, 1), weight.mT[:1], small=True) is looped_by_columns
    made = small_by_columns(x, weight)
    assert made.mT.is_contiguous()
    assert_close(made, x @ weight)


def test_a_product_that_is_added_to_stays_apart(monkeypatch):
    monkeypatch.setattr(small_products, "_MOST", {})
    optimizer = lf.optim.sgd(0.1, 0.9)
    step = lf.make_step(NET, lf.losses.softmax_cross_entropy(), optimizer)
    graph = trace(step, lf.init_state(NET, optimizer, lf.Key(0), X), (X, TARGET)).graph
    products.rewrite(graph, small=False)
    # The momentum of the first weight: the gradient of the second is narrow.
    assert targets(graph).count(apart) == 1


def test_an_activation_writes_over_what_it_is_made_of():
    net, optimizer = lf.serial(lf.dense(10), lf.sigmoid(), lf.dense(1)), lf.optim.adamw()
    x, target = drawn(0, 128, 30), torch.arange(128) % 2
    step = lf.make_step(net, lf.losses.sigmoid_cross_entropy(), optimizer, donate=True)
    states = [lf.init_state(net, optimizer, lf.Key(0), x)]
    compiled = lf.compile(step)

    def take():
        states.append(compiled(states.pop(), (x, target[:, None]))[0])

    for _ in range(3):
        take()
    # Two tensors of ten features: y, where z was, and dz.
    assert memory.allocated(take) <= 2 * 4 * 128 * 10 + 1024
