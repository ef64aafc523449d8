"""Small products in float32 by a kernel of this library's, alone and in compiled steps."""

from functools import partial
from itertools import product as pairs

import pytest
import torch
from helpers import begin, drawn, same_number
from helpers.compiling import compiles, since_2_13
from helpers.kernels_together import together

import lincoln_fn as lf
from benchmarks import memory
from lincoln_fn.compiler import cpp_kernel
from lincoln_fn.compiler.inductor.settings import lanes
from lincoln_fn.compiler.passes import products
from lincoln_fn.compiler.passes.products import by_kernel as product
from lincoln_fn.compiler.passes.products import suits_kernel as supports

pytestmark = [pytest.mark.full, compiles, since_2_13]


# Rows, terms and columns: whole tiles and parts of them, fewer columns than a vector has numbers,
# odd numbers, and one of each.
SHAPES = [(32, 30, 64), (37, 5, 17), (10, 128, 30), (66, 40, 5), (16, 1, 16), (1, 9, 40), (1, 1, 1)]
ORDERS = [(False, False), (True, False), (False, True), (True, True)]


def laid(x, by_columns):
    return x.mT.contiguous().mT if by_columns else x


def test_the_product_is_that_of_float64(needs_vectors):
    given = []
    # One matrix, and three in a batch.
    for (rows, terms, count), orders, batch in pairs(SHAPES, ORDERS, ((), (3,))):
        a, b = drawn(0, *batch, rows, terms), drawn(1, *batch, terms, count)
        given.append((laid(a, orders[0]), laid(b, orders[1])))
    for (a, b), made in zip(given, together([partial(product, *x) for x in given]), strict=True):
        exact = (a.double() @ b.double()).float()
        assert (made.shape, made.dtype) == (exact.shape, torch.float32)
        # Many rows that are too short for a vector are columns, but not those of x^T g.
        is_high = b.shape[-1] < lanes() and a.shape[-2] >= 4 * lanes()
        is_narrow = is_high and a.is_contiguous()
        assert (made.mT if is_narrow else made).is_contiguous()
        assert same_number(made, exact)


def test_one_row_is_multiplied_by_aten(monkeypatch):
    a, b = drawn(0, 1, 40), drawn(1, 40, 70)
    monkeypatch.setattr(products, "by_kernel", lambda a, b: 1 / 0)
    assert same_number(products.product(a, b), a @ b)
    assert same_number(products._one_with_one(a[None], b[None]), (a @ b)[None])


def test_factors_with_gaps(needs_vectors):
    a, b = drawn(0, 9, 20)[:, ::2], drawn(1, 10, 70)[:, 3:]
    assert same_number(product(a, b), a @ b)


def test_extremes(needs_vectors):
    a = torch.tensor([[1e4, -1e4], [1e-40, -0.0], [torch.inf, 1.0], [torch.nan, 1.0]])
    for count in (1, 40):
        b = torch.tensor([[1e4], [1.0]]).expand(2, count).contiguous()
        assert same_number(product(a[:3], b), a[:3] @ b)
        assert product(a, b)[3].isnan().all()


def test_a_thousand_terms_are_as_exact_as_when_they_are_added_one_after_the_other(needs_vectors):
    a, b = drawn(0, 8, 1024), drawn(1, 1024, 20)
    exact, in_turn = a.double() @ b.double(), torch.zeros(8, 20)
    for i in range(1024):
        in_turn = in_turn + a[:, i : i + 1] * b[i]
    assert (product(a, b) - exact).abs().max() <= (in_turn - exact).abs().max()


def test_which_products_are_small(monkeypatch, needs_vectors):
    a, b = drawn(0, 128, 64), drawn(1, 64, 64)
    assert supports(a, b)
    assert supports(a[None], b[None])
    assert not supports(a, drawn(1, 64, 65))
    assert supports(a[:4, :1].expand(4, 1024), drawn(1, 1024, 2))
    assert not supports(a[:4, :1].expand(4, 1025), drawn(1, 1025, 2))  # of too many terms
    assert not supports(a[:0], b)
    assert not supports(a.double(), b.double())
    assert not supports(a, b.double())
    assert not supports(a.to("meta"), b.to("meta"))
    monkeypatch.setattr(cpp_kernel, "lanes", lambda: 0)
    assert not supports(a, b)


def test_an_activation_writes_over_what_it_is_made_of():
    net, loss = lf.serial(lf.dense(10), lf.sigmoid(), lf.dense(1)), lf.losses.sigmoid_cross_entropy
    x, target = drawn(0, 128, 30), torch.arange(128) % 2
    step, *states = begin(net, x, loss(), lf.optim.adamw(), donate=True)
    compiled = lf.compile(step)

    def take():
        states.append(compiled(states.pop(), (x, target[:, None]))[0])

    for _ in range(3):
        take()
    # Two tensors of ten features: y, where z was, and dz.
    assert memory.allocated(take) <= 2 * 4 * 128 * 10 + 1024
