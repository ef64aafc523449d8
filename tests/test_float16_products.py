"""Products in float16 by loops: nearer to the exact ones than bfloat16's, whatever the range."""

import pytest
import torch
from test_bfloat16 import assert_keeps_its_state, assert_moves_alike
from test_compile import compiles
from test_compile_rewrites import column_major, drawn, run, targets, traced
from torch.testing import assert_close

import lincoln_fn as lf
from lincoln_fn.compiled import columns, float16_products, loops, products
from lincoln_fn.compiled.donation import written_over
from lincoln_fn.compiled.float16_products import adds, makes, product, update
from lincoln_fn.compiled.tracing import trace
from lincoln_fn.compiled.ways import float16_by_columns, many_with_one
from lincoln_fn.fastpath import bfloat16

CAPABILITIES = getattr(torch.cpu, "get_capabilities", dict)()

pytestmark = [
    compiles,
    pytest.mark.skipif(
        not CAPABILITIES.get("avx512_fp16") or torch.__version__ < "2.13" or loops.lanes() != 16,
        reason="no vectors of float16, or an older torch",
    ),
]

YES = torch.tensor(True)
# Rows, terms and columns: many tiles and one, whole ones and parts, of both halves and of one, many
# terms, and one of each.
SHAPES = [(128, 96, 200), (70, 33, 45), (30, 1500, 90), (27, 50, 129), (3, 7, 5), (1, 1, 1)]


@pytest.fixture(autouse=True)
def _here(monkeypatch):
    """A processor without AMX, and leave to round."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_fp16": True})
    monkeypatch.setattr(bfloat16, "HERE", False)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    yield
    torch.set_float32_matmul_precision(before)


def lying(x, by_columns):
    return x.mT.contiguous().mT if by_columns else x


def error(made, exact):
    return ((made.double() - exact).norm() / exact.norm()).item()


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("b_by_columns", [False, True])
@pytest.mark.parametrize("a_by_columns", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_products_are_nearer_than_those_of_bfloat16(shape, a_by_columns, b_by_columns, threads):
    rows, terms, count = shape
    torch.set_num_threads(threads)
    a, b = lying(drawn(0, rows, terms), a_by_columns), lying(drawn(1, terms, count), b_by_columns)
    exact, rounded = a.double() @ b.double(), a.bfloat16().double() @ b.bfloat16().double()
    made = product(a, b)
    assert made.is_contiguous()
    # Of a single number, chance decides.
    most = 0.6 * error(rounded, exact) if rows > 1 else 2**-10
    assert error(made, exact) <= most
    weight = 10 * drawn(2, rows, count)
    updated = weight.clone()
    update(updated, a, b, YES)
    assert_close(updated, weight + made, rtol=1e-5, atol=1e-5)
    update(updated, a, b, ~YES)
    assert_close(updated, weight + made, rtol=1e-5, atol=1e-5)


def test_a_line_is_as_exact_as_its_own_largest_number():
    sizes = 10.0 ** torch.arange(-18, 18, 3)
    a, b = sizes[:, None] * drawn(0, 12, 80), drawn(1, 80, 12) * sizes.flip(0)
    exact = a.double() @ b.double()
    made = product(a, b).double()
    bound = a.double().norm(dim=1, keepdim=True) * b.double().norm(dim=0)
    assert ((made - exact).abs() <= 2**-9 * bound).all()


def test_extremes():
    # Sums that float16 has no room for, and numbers that float32 hardly has.
    ones = torch.ones(3, 200)
    for a, b in (
        (1e4, 1e4),
        (1e-20, 1e-20),
        (1e-40, 1.0),
        (1e28, 1e8),
        (0.0, 1e38),
        (31.999, 31.999),
    ):
        made = product(a * ones, b * ones.mT.contiguous())
        assert_close(made, torch.full((3, 3), a * b * 200), rtol=0.01, atol=1e-44)
    a = torch.tensor([[torch.inf, 1.0], [1.0, torch.nan], [3e38, 1.0], [3.0, 0.0]])
    b = torch.tensor([[1.0, -2.0, 0.0], [1.0, 4.0, 5.0]])
    for by_columns in (False, True):
        made = product(lying(a, by_columns), b)
        assert torch.equal(
            made.isfinite(), torch.tensor([[0, 0, 0]] * 2 + [[1, 0, 1], [1, 1, 1]]).bool()
        )
        assert torch.equal(product(b.mT, lying(a.mT, by_columns)).mT.isfinite(), made.isfinite())


@pytest.mark.parametrize("is_known", [True, False])
def test_nothing_is_written_behind_the_product(is_known):
    a, b, made = drawn(0, 70, 33), drawn(1, 33, 45), torch.zeros(80, 80).flatten()
    (loop,) = (loop for loop in loops.LOOPS.values() if loop.name == "float16_product")
    code = loop.code((a, b, False, False), "kernel")
    if not is_known:  # by a compiler that has no vectors of float16
        code = f"#undef __AVX512FP16__\n{code}"
    loops._built(code, ("float*",) * 3)(a, b, made)
    assert error(made[: 70 * 45].view(70, 45), a.double() @ b.double()) <= 2**-9
    assert not made[70 * 45 :].any()


def test_which_products_suit(monkeypatch):
    def suits(n, k, m, dtype=torch.float32, device="cpu"):
        a, b = (torch.empty(shape, dtype=dtype, device=device) for shape in ((n, k), (k, m)))
        assert makes(a, b) is adds(a.new_empty(n, m), a, b)
        return makes(a, b)

    for shape in ((128, 784, 500), (32, 1024, 32), (64, 256, 64)):
        assert suits(*shape), shape
    for shape in ((31, 4096, 32), (4096, 31, 32), (32, 4096, 31), (63, 256, 64)):
        assert not suits(*shape), shape
    assert not suits(128, 784, 500, dtype=torch.float64)
    assert not suits(128, 784, 500, device="meta")
    a, b, weight = torch.empty(128, 784), torch.empty(784, 500), torch.empty(128, 500)
    assert not makes(a, b.double())
    assert not makes(a.expand(2, 128, 784), b)
    assert not adds(weight.double(), a, b)
    assert not adds(weight.mT.contiguous().mT, a, b)
    for found in ({}, {"avx512_fp16": False}, {"avx512_fp16": True, "amx_bf16": True}):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda found=found: found)
        assert not suits(128, 784, 500)
    monkeypatch.undo()
    for lanes in (8, 0):
        monkeypatch.setattr(float16_products, "lanes", lambda lanes=lanes: lanes)
        assert not suits(128, 784, 500)


@pytest.mark.parametrize("precision", ["high", "highest"])
def test_products_stay_exact_without_leave(precision):
    torch.set_float32_matmul_precision(precision)
    assert not makes(torch.empty(128, 784), torch.empty(784, 500))


@pytest.fixture
def small(monkeypatch):
    """Take products of a test's size for large ones."""
    monkeypatch.setattr(columns, "_LEAST", 2**13)
    monkeypatch.setattr(float16_products, "_LEAST", 2**14)


NET = lf.serial(lf.dense(128), lf.tanh(), lf.dense(100), lf.tanh(), lf.dense(3))
X, T = drawn(0, 70, 90), torch.arange(70) % 3


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("donate", [False, True])
def test_a_step_makes_its_products_so(donate):
    step = lf.make_step(NET, lf.losses.softmax_cross_entropy(), lf.optim.sgd(0.1), donate=donate)
    state = column_major(lf.init_state(NET, step.optimizer, lf.Key(0), X), least=2**13)
    graph = trace(step, state, (X, T))
    if donate:
        written_over(graph, len(lf.tree.leaves(state, states=True)), small=False)
    columns.rewrite(graph.graph, small=False)
    products.rewrite(graph.graph, small=False)
    made = targets(graph.graph)
    # y of both, and dx of the second layer; the others are added to W.
    assert made.count(float16_by_columns) == 3
    assert made.count(update if donate else product) == 2
    assert_moves_alike(step, state, (X, T), atol=2e-3, apart=0.01)


@pytest.mark.usefixtures("small")
def test_a_step_that_is_not_finite_leaves_its_state():
    step = lf.make_step(NET, lf.losses.softmax_cross_entropy(), lf.optim.sgd(0.1), donate=True)
    state = column_major(lf.init_state(NET, step.optimizer, lf.Key(0), X), least=2**13)
    assert_keeps_its_state(step, state, (X, T))


@pytest.mark.usefixtures("small")
def test_products_of_any_step_are_made_so():
    graph, arguments = traced(NET, X, T, layout=column_major)
    expected = run(graph, arguments)
    products.rewrite(graph, small=False)
    assert targets(graph).count(product) >= 3
    for ours, theirs in zip(run(graph, arguments), expected, strict=True):
        assert_close(ours, theirs, rtol=1e-2, atol=2e-3)


def test_many_products_with_one_are_made_so(monkeypatch):
    a, b = drawn(0, 60, 50, 40), drawn(1, 40, 70).expand(60, 40, 70)
    monkeypatch.setattr(float16_products, "_product", lambda *given: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        many_with_one(a, b)
    monkeypatch.undo()
    assert error(many_with_one(a, b), a.double() @ b.double()) < 2**-9
