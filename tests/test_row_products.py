"""Products of rows with rows by a loop of this library's, alone and in compiled steps."""

import functools

import pytest
import torch
from test_compile import assert_compiles, compiles
from test_compile_rewrites import column_major, drawn, run, targets, traced
from torch.testing import assert_close

import lincoln_fn as lf
from lincoln_fn.compiled import columns, loops, products, row_products
from lincoln_fn.compiled.row_products import makes, product
from lincoln_fn.compiled.ways import many_with_one, row_by_columns
from lincoln_fn.fastpath import bfloat16
from lincoln_fn.fastpath import product as libraries

aten = torch.ops.aten

pytestmark = [
    compiles,
    pytest.mark.usefixtures("needs_vectors"),
    pytest.mark.skipif(
        torch.__version__ < "2.13", reason="Python calls the loops of older torches"
    ),
]


@pytest.fixture(autouse=True)
def _by_mkl(monkeypatch):
    monkeypatch.setattr(libraries, "HERE", False)
    monkeypatch.setattr(libraries, "MKL", True)


@pytest.fixture
def _of_any_size(monkeypatch):
    for name in ("_SIDE", "_LEAST", "_TURNED_FROM"):
        monkeypatch.setattr(row_products, name, 1)
    monkeypatch.setattr(row_products, "_FILLED", 0.0)


# Rows, terms and columns: many tiles and one, whole ones and parts, columns for several blocks, and
# one of each; with fewer rows than columns what is made is turned.
SHAPES = [(32, 48, 96), (70, 33, 45), (45, 33, 70), (100, 1500, 90), (3, 7, 5), (1, 1, 1)]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_product_is_that_of_float64(shape, threads):
    rows, terms, count = shape
    torch.set_num_threads(threads)
    a, b = drawn(0, rows, terms), drawn(1, count, terms).mT
    made = product(a, b)
    assert made.is_contiguous()
    assert_close(made, (a.double() @ b.double()).float(), rtol=1e-5, atol=1e-4)
    by_columns = row_by_columns(a, b)
    assert by_columns.mT.is_contiguous()
    assert_close(by_columns, (a.double() @ b.double()).float(), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("is_turned", [False, True])
def test_nothing_is_written_behind_the_product(is_turned):
    a, b = drawn(0, 70, 33), drawn(1, 45, 33)
    (loop,) = (loop for loop in loops.LOOPS.values() if loop.name == "row_product")
    made = torch.zeros(80, 80).flatten()
    loops._built(loop.code((a, b, is_turned), "kernel"), ("float*",) * 3)(a, b, made)
    expected = b @ a.mT if is_turned else a @ b.mT
    assert_close(made[: 70 * 45], expected.flatten())
    assert not made[70 * 45 :].any()


def test_extremes():
    a = torch.tensor([[1e4, -1e4], [1e-40, -0.0], [torch.inf, 1.0], [torch.nan, 1.0]])
    for count in (1, 40):
        b = torch.tensor([[1e4, 1.0]]).expand(count, 2).contiguous().mT
        assert_close(product(a, b), a @ b, equal_nan=True)


def test_many_terms_are_as_exact_as_torch_makes_them():
    a, b = drawn(0, 40, 2**13), drawn(1, 64, 2**13).mT
    exact = a.double() @ b.double()
    assert (product(a, b) - exact).abs().max() <= 2 * (a @ b - exact).abs().max()


def test_which_products_suit(monkeypatch):
    def suits(n, k, m, dtype=torch.float32, device="cpu"):
        a = torch.empty(n, k, dtype=dtype, device=device)
        return makes(a, a.new_empty(m, k).mT)

    for shape in (
        (128, 784, 500),
        (500, 784, 128),
        (32, 256, 64),
        (128, 64, 64),
        (48, 2**15, 64),
        (80, 800, 81),
    ):
        assert suits(*shape), shape
    for shape in (
        (31, 784, 500),
        (500, 784, 31),
        (32, 255, 64),
        (64, 255, 128),  # it is turned, of few terms
        (127, 64, 64),
    ):
        assert not suits(*shape), shape
    assert not suits(128, 784, 500, dtype=torch.float64)
    assert not suits(128, 784, 500, device="meta")
    a, b = torch.empty(128, 784), torch.empty(500, 784)
    assert not makes(a, b.mT.contiguous())
    assert not makes(a.mT.contiguous().mT, b.mT)
    assert not makes(a, torch.empty(500, 785)[:, 1:].mT)
    assert not makes(a, b.mT.double())
    for name, elsewhere in (("HERE", True), ("MKL", False)):
        before = getattr(libraries, name)
        monkeypatch.setattr(libraries, name, elsewhere)
        assert not makes(a, b.mT)
        monkeypatch.setattr(libraries, name, before)
    monkeypatch.setattr(loops, "lanes", lambda: 0)
    assert not makes(a, b.mT)


@pytest.mark.parametrize(("lanes", "least"), [(16, 48), (8, 36)])
def test_tiles_are_to_be_filled(lanes, least, monkeypatch):
    monkeypatch.setattr(row_products, "lanes", lambda: lanes)
    for side in range(33, 49):
        assert makes(torch.empty(100, 784), torch.empty(side, 784).mT) is (side >= least)


@pytest.mark.parametrize("precision", ["high", "medium"])
def test_torch_is_left_products_that_it_may_round(precision):
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        assert bfloat16.may_round()
        assert not makes(torch.empty(128, 784), torch.empty(500, 784).mT)
    finally:
        torch.set_float32_matmul_precision(before)


NET = lf.serial(lf.dense(130), lf.tanh(), lf.dense(90), lf.tanh(), lf.dense(3))
X, TARGET = drawn(0, 140, 300), torch.arange(140) % 3
LARGE = functools.partial(column_major, least=2**15)


def test_a_step_makes_its_products_so():
    graph, arguments = traced(NET, X, TARGET, layout=LARGE)
    expected = run(graph, arguments)
    products.rewrite(graph, small=False)
    # y of the first layer, whose W is column-major, and dx of the second, whose W is row-major.
    assert targets(graph).count(product) == 2
    for ours, theirs in zip(run(graph, arguments), expected, strict=True):
        assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_activations_by_columns_are_made_so(monkeypatch):
    monkeypatch.setattr(columns, "_LEAST", 2**15)
    graph, arguments = traced(NET, X[:64], TARGET[:64], layout=LARGE)
    expected = run(graph, arguments)
    columns.rewrite(graph, small=False)
    assert targets(graph).count(row_by_columns) == 1
    for ours, theirs in zip(run(graph, arguments), expected, strict=True):
        assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("_of_any_size")
def test_many_products_with_one_are_made_so(monkeypatch):
    a, b = drawn(0, 60, 50, 40), drawn(1, 70, 40).mT.expand(60, 40, 70)
    monkeypatch.setattr(row_products, "_made", lambda *given: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        many_with_one(a, b)
    monkeypatch.undo()
    assert_close(many_with_one(a, b), a @ b)


# With a smaller eps, Adam makes steps of the rounding errors of a gradient that is nearly 0.
OPTIMIZERS = [lf.optim.sgd(0.1), lf.optim.adamw(0.01, eps=1e-6)]


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
def test_compiled_steps_are_eager_ones(optimizer):
    assert_compiles(NET, optimizer, X, TARGET, donate=True, layout=LARGE)
