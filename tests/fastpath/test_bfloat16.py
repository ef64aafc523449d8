"""A compiled step makes products of float32 in bfloat16 where torch allows it."""

import pytest
import torch
from helpers.compare import same_number
from helpers.compiling import compiles
from helpers.graphs import drawn, run, traced
from torch.fx.experimental.proxy_tensor import make_fx

import lincoln_fn as lf
from lincoln_fn.compiler.passes import products
from lincoln_fn.fastpath import bfloat16
from lincoln_fn.fastpath import product as libraries

X, W = drawn(0, 70, 90), drawn(1, 80, 90)
# Half a unit in the last of bfloat16's 8 places.
ROUNDING = 2.0**-8


@pytest.fixture
def medium(monkeypatch):
    """A processor that has vectors of bfloat16, for products of any size, and leave to use them."""
    monkeypatch.setattr(bfloat16, "HERE", True)
    monkeypatch.setattr(bfloat16, "_LEAST", 1)
    monkeypatch.setattr(libraries, "_LEAST_OF_ONEDNN", 1)
    monkeypatch.setattr(libraries, "_LEAST_SUM_OF_ONEDNN", 1)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    yield
    torch.set_float32_matmul_precision(before)


def rounded(a, b):
    """The product of factors that are rounded to bfloat16."""
    return a.bfloat16().double() @ b.bfloat16().double()


def assert_rounded(given, product):
    assert given.dtype is torch.float32
    error = (given - product).abs()
    assert (error <= ROUNDING * product.abs() + 1e-5).all()


@pytest.mark.usefixtures("medium")
@pytest.mark.parametrize("precision", ["highest", "high"])
def test_torch_must_allow_it(precision):
    large = torch.empty(2**9, 2**9), torch.empty(2**9, 2**9)
    assert bfloat16.is_faster(*large)
    torch.set_float32_matmul_precision(precision)
    assert not bfloat16.is_faster(*large)


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


NET = lf.serial(lf.dense(80), lf.tanh(), lf.dense(3))
TARGET = torch.arange(70) % 3


@pytest.mark.usefixtures("medium")
def test_products_of_a_compiled_step():
    graph, arguments = traced(NET, X, TARGET)
    before = run(graph, arguments)
    products.rewrite(graph)
    assert same_number(run(graph, arguments), before, dtype=torch.bfloat16)
    # Forward, and the first weight's gradient; those of three classes have too few columns.
    made = make_fx(graph)(*lf.tree.leaves(arguments, states=True)).graph
    many = made.find_nodes(op="call_function", target=torch.ops.aten.mm.default)
    assert sum(node.meta["val"].dtype is torch.bfloat16 for node in many) == 2
    assert_rounded(products.product(X, W.mT), rounded(X, W.mT))


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
