"""Products in bfloat16 by loops: those of the rounded factors, with sums in float32."""

import pytest
import torch
from test_bfloat16 import (
    assert_keeps_its_state,
    assert_moves_alike,
    medium,  # noqa: F401  # a fixture
)
from test_compile import compiles
from test_compile_rewrites import column_major, drawn
from torch.testing import assert_close

import lincoln_fn as lf
from lincoln_fn.compiled import bfloat16_products, columns
from lincoln_fn.compiled.bfloat16_products import adds, makes, product, update
from lincoln_fn.compiled.donation import written_over
from lincoln_fn.compiled.loops import lanes
from lincoln_fn.compiled.tracing import trace
from lincoln_fn.fastpath.processor import is_amd_with

pytestmark = [
    compiles,
    pytest.mark.skipif(
        not (is_amd_with("avx512_bf16") and torch.__version__ >= "2.13" and lanes() == 16),
        reason="no AMD processor with vectors of bfloat16, or an older torch",
    ),
]
# Rows, features in and out: whole blocks and parts of them, odd numbers, and one of each.
SHAPES = [(128, 784, 500), (97, 130, 65), (64, 33, 130), (5, 7, 3), (2, 64, 65), (1, 1, 1)]
YES = torch.tensor(True)


def rounded(x):
    return x.bfloat16().double()


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_products_are_those_of_rounded_factors(dtype, shape, threads):
    rows, n_in, n_out = shape
    x, weight, g = drawn(0, rows, n_in), drawn(1, n_out, n_in), drawn(2, n_out, rows)
    x, g = x.to(dtype), g.to(dtype)
    torch.set_num_threads(threads)
    y = product(x, weight.mT)
    assert (y.shape, y.dtype) == ((rows, n_out), dtype)
    assert y.mT.is_contiguous()
    rounding = 1e-5 if dtype is torch.float32 else 2**-8
    assert_close(y.double(), rounded(x) @ rounded(weight).mT, rtol=rounding, atol=1e-4)
    updated = weight.clone()
    update(updated, g, x, YES)
    expected = weight.double() + rounded(g) @ rounded(x)
    assert_close(updated.double(), expected, rtol=1e-5, atol=1e-4)
    # Rounding moves numbers by more than that.
    assert (y.double() - x.double() @ weight.mT.double()).abs().max() > 1e-3 or rows < 3
    kept = updated.clone()
    update(updated, g, x, ~YES)
    assert torch.equal(updated, kept)


def test_a_product_by_in_dtype_suits_without_leave():
    x, weight, g = torch.empty(128, 784), torch.empty(500, 784), torch.empty(500, 128)
    low_x, low_g = x.bfloat16(), g.bfloat16()
    assert makes(low_x, weight.mT)
    assert adds(weight, low_g, low_x)
    assert not makes(x, weight.mT)
    assert not adds(weight, g, x)
    # A weight that is itself in bfloat16 or of another dtype, and factors of two dtypes.
    assert not makes(low_x, weight.bfloat16().mT)
    assert not adds(weight.double(), low_g, low_x)
    assert not adds(weight, g, low_x)
    # Too small.
    assert not makes(low_x[:63], weight.mT)
    assert not adds(weight, low_g[:, :63].contiguous(), low_x[:63])


def test_extremes():
    x = torch.tensor([[1e4, -1e4], [1e-40, -0.0], [torch.inf, 1.0], [torch.nan, 1.0]])
    weight = torch.tensor([[1e4, 1.0]])
    y = product(x, weight.mT)
    expected = (x.bfloat16().float() @ weight.bfloat16().float().mT)[:, 0]
    assert_close(y[:, 0], expected, rtol=1e-6, atol=1e-30, equal_nan=True)


@pytest.mark.usefixtures("medium")
def test_which_products_suit(monkeypatch):
    x, weight, g = torch.empty(128, 784), torch.empty(500, 784), torch.empty(500, 128)
    by_rows = torch.empty(784, 500)
    assert makes(x, weight.mT)
    assert adds(weight, g, x)
    assert adds(weight, g.mT.contiguous().mT, x)
    # W or x that lies otherwise; x too large for a cache, or too small, or of another dtype.
    for bad_x, bad_weight in (
        (x, by_rows.mT),
        (x.mT.contiguous().mT, weight),
        (torch.empty(512, 784), weight),
        (torch.empty(63, 784), weight),
        (x.double(), weight.double()),
    ):
        assert not makes(bad_x, bad_weight.mT)
        assert not adds(bad_weight, torch.empty(500, len(bad_x), dtype=bad_x.dtype), bad_x)
    with monkeypatch.context() as patched:
        patched.setattr(bfloat16_products, "lanes", lambda: 8)
        assert not makes(x, weight.mT)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_f": True})
    assert not makes(x, weight.mT)
    assert not adds(weight, g, x)


NETS = {
    "sigmoid": lf.serial(lf.dense(128), lf.sigmoid(), lf.dense(3)),
    "deep": lf.serial(lf.dense(128), lf.tanh(), lf.dense(120), lf.gelu(), lf.dense(3)),
    "no bias": lf.serial(lf.dense(128, bias=False), lf.relu(), lf.dense(3)),
    "residual": lf.serial(lf.dense(128), lf.residual(lf.dense(128)), lf.dense(3)),
}
X, T = drawn(0, 70, 90), torch.arange(70) % 3


@pytest.fixture
def small(medium, monkeypatch):  # noqa: F811  # the fixture above
    """Take products of a test's size for large ones."""
    monkeypatch.setattr(columns, "_LEAST", 2**13)


def steps(name, optimizer, donate, dtype=torch.float32):
    net = NETS[name]
    if dtype is not torch.float32:
        net = lf.in_dtype(net, dtype, torch.float32)
    step = lf.make_step(net, lf.losses.softmax_cross_entropy(), optimizer, donate=donate)
    return step, column_major(lf.init_state(net, optimizer, lf.Key(0), X), least=2**13)


def targets_of(step, state):
    traced = trace(step, state, (X, T))
    if step.donate:
        written_over(traced, len(lf.tree.leaves(state, states=True)), small=False)
    columns.rewrite(traced.graph, small=False)
    return [node.target for node in traced.graph.graph.nodes]


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("donate", [False, True])
@pytest.mark.parametrize("name", NETS)
def test_a_step_is_the_eager_one_in_bfloat16(name, donate, dtype):
    step, state = steps(name, lf.optim.sgd(0.1), donate, dtype)
    products = 2 if name in ("deep", "residual") else 1
    targets = targets_of(step, state)
    assert targets.count(product) == products
    assert targets.count(update) == (products if donate else 0)
    assert_moves_alike(step, state, (X, T), atol=1e-2, apart=0.05)


@pytest.mark.usefixtures("small")
def test_momentum_has_the_product_and_no_update():
    step, state = steps("sigmoid", lf.optim.sgd(0.1, momentum=0.9), True)
    targets = targets_of(step, state)
    assert targets.count(product) == 1
    assert targets.count(update) == 0


@pytest.mark.usefixtures("small")
def test_a_step_that_is_not_finite_leaves_its_state():
    step, state = steps("sigmoid", lf.optim.sgd(0.1), True)
    assert_keeps_its_state(step, state, (X, T))
