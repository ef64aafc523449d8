"""Small products in bfloat16 by a loop: torch's own, whose sums are in float32."""

import pytest
import torch
from test_bfloat16_products import pytestmark  # noqa: F401  # only where its loops run
from test_compile_rewrites import drawn, targets
from torch.testing import assert_close

import lincoln_fn as lf
from lincoln_fn.compiled import bfloat16_products, columns, products
from lincoln_fn.compiled.small_products import makes, product
from lincoln_fn.compiled.tracing import trace
from lincoln_fn.compiled.ways import small_by_columns

# Rows, terms and columns, and which factors lie by columns: whole blocks and parts of them, odd
# numbers, and one of each.
CASES = [
    ((10, 500, 128), (False, False), 2),
    ((10, 128, 500), (True, True), 2),
    ((500, 10, 128), (True, False), 1),
    ((130, 33, 65), (True, True), 2),
    ((7, 5, 97), (False, True), 1),
    ((64, 32, 31), (False, True), 2),
    ((1, 1, 1), (False, False), 2),
]


def low(seed, *shape, by_columns=False):
    made = drawn(seed, *shape).bfloat16()
    return made.mT.contiguous().mT if by_columns else made


@pytest.mark.parametrize(("shape", "by_columns", "threads"), CASES, ids=str)
def test_the_product_is_that_of_float64(shape, by_columns, threads):
    rows, terms, columns = shape
    torch.set_num_threads(threads)
    a = low(0, rows, terms, by_columns=by_columns[0])
    b = low(1, terms, columns, by_columns=by_columns[1])
    made = product(a, b)
    assert (made.shape, made.dtype) == ((rows, columns), torch.bfloat16)
    assert made.is_contiguous()
    # Rounded once, at the end.
    assert_close(made.double(), a.double() @ b.double(), rtol=2**-8, atol=1e-5)


def test_factors_with_gaps():
    a, b = low(0, 9, 20)[:, ::2], low(1, 10, 70)[:, 3:]
    assert_close(product(a, b), a @ b, rtol=2**-8, atol=1e-5)


def test_extremes():
    a = torch.tensor([[1e4, -1e4], [1e-40, -0.0], [torch.inf, 1.0], [torch.nan, 1.0]]).bfloat16()
    b = torch.tensor([[1e4], [1.0]]).bfloat16()
    expected = (a.float() @ b.float()).bfloat16()
    assert_close(product(a, b), expected, equal_nan=True)


def test_which_products_are_small(monkeypatch):
    a, b = low(0, 128, 64), low(1, 64, 128)
    assert makes(a, b)
    assert not makes(a, low(1, 64, 129))
    assert not makes(a[:0], b)
    assert not makes(a, b.float())
    assert not makes(a[None], b[None])
    monkeypatch.setattr(bfloat16_products, "lanes", lambda: 8)
    assert not makes(a, b)


def test_a_compiled_step_makes_its_small_products_so():
    x, target = drawn(0, 40, 50), torch.arange(40) % 3
    layers = lf.serial(lf.dense(30), lf.tanh(), lf.dense(3))
    net = lf.in_dtype(layers, torch.bfloat16, torch.float32)
    step = lf.make_step(net, lf.losses.softmax_cross_entropy(), lf.optim.sgd(0.1))
    state = lf.init_state(net, step.optimizer, lf.Key(0), x)
    graph = trace(step, state, (x, target)).graph
    columns.rewrite(graph, small=False)
    products.rewrite(graph, small=False)
    made = targets(graph)
    # Forward and for dparams of both layers, back to the first; the logits and their dW are narrow.
    assert (made.count(product), made.count(small_by_columns)) == (3, 2)
    (new, value), (exact, expected) = (run(state, (x, target)) for run in (lf.compile(step), step))
    assert_close(value, expected, rtol=1e-2, atol=1e-2)
    params = (lf.tree.leaves(given.params) for given in (new, exact, state))
    for ours, theirs, old in zip(*params, strict=True):
        assert (theirs - ours).norm() <= 0.05 * (theirs - old).norm()


def test_a_gradient_comes_back_by_columns():
    a, b = low(0, 6, 3), low(1, 3, 100)
    assert columns._loop(a, b, small=False) is small_by_columns
    assert columns._loop(a.double(), b.double(), small=False) is None
    made = small_by_columns(a, b)
    assert made.mT.is_contiguous()
    assert_close(made, a @ b, rtol=2**-8, atol=1e-5)
