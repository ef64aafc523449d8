"""A compiled step makes products of float32 in bfloat16 where torch allows it."""

import pytest
import torch
from helpers import drawn, same_number, traced
from helpers.graphs import run
from torch.fx.experimental.proxy_tensor import make_fx

import lincoln_fn as lf
from lincoln_fn.compiler.passes import products

X, W = drawn(0, 70, 90), drawn(1, 80, 90)
# Half a unit in the last of bfloat16's 8 places.
ROUNDING = 2.0**-8


@pytest.fixture(autouse=True)
def _medium(monkeypatch, precision):
    """A processor that has vectors of bfloat16, for products of any size, and leave to use them."""
    monkeypatch.setattr(products, "_CASTS", True)
    monkeypatch.setattr(products, "_LEAST_CAST", 1)
    precision("medium")


def test_which_products_are_cast(monkeypatch, precision):
    def is_cast(rows, terms, columns, **kind):
        a = torch.empty(rows, terms, **kind)
        return products._is_cast(a, a.new_empty(terms, columns))

    assert is_cast(64, 64, 64)
    assert not any(is_cast(*(63 if i == j else 64 for j in range(3))) for i in range(3))
    assert not is_cast(64, 64, 64, dtype=torch.float64)
    assert not is_cast(64, 64, 64, device="meta")
    monkeypatch.setattr(products, "_LEAST_CAST", 2**24)
    assert is_cast(256, 256, 256)
    assert not is_cast(255, 256, 256)
    assert not is_cast(0, 0, 2**24)
    for name in ("highest", "high"):
        precision(name)
        assert not is_cast(256, 256, 256)
    precision("medium")
    monkeypatch.setattr(products, "_CASTS", False)
    assert not is_cast(256, 256, 256)


@pytest.mark.full
def test_products_of_a_compiled_step():
    net = lf.serial(lf.dense(80), lf.tanh(), lf.dense(3))
    graph, arguments = traced(net, X, torch.arange(70) % 3)
    before = run(graph, arguments)
    products.rewrite(graph)
    assert same_number(run(graph, arguments), before, dtype=torch.bfloat16)
    # Forward, and the first weight's gradient; those of three classes have too few columns.
    made = make_fx(graph)(*lf.tree.leaves(arguments, states=True)).graph
    many = made.find_nodes(op="call_function", target=torch.ops.aten.mm.default)
    assert sum(node.meta["val"].dtype is torch.bfloat16 for node in many) == 2
    product, exact = products.product(X, W.mT), X.bfloat16().double() @ W.mT.bfloat16().double()
    assert product.dtype is torch.float32
    assert ((product - exact).abs() <= ROUNDING * exact.abs() + 1e-5).all()
