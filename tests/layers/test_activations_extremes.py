"""Activations of numbers from denormal ones to 1e4, in float32, float64 and bfloat16."""

import pytest
import torch
from helpers.activation_formulas import ELEMENTWISE, VERSIONS, G, X, both
from helpers.compare import same_number

import lincoln_fn as lf
from lincoln_fn import layers

in_both_versions = pytest.mark.parametrize("version", VERSIONS)

MAGNITUDES = torch.cat(
    [
        torch.tensor([0.0, 1e-45, 1e-40]),
        torch.logspace(-38, 4, 421),
        torch.linspace(0, 20, 401),
        torch.linspace(20, 110, 181),
    ]
)
GRID = torch.cat([MAGNITUDES, -MAGNITUDES])
# Where dy/dx passes through 0 as a sum of terms near 1, it is as good as their rounding.
CROSSING = {
    *("gelu()", "gelu(approximate='tanh')", "quick_gelu()", "silu()", "mish()", "hardswish()")
}
# y below this may be flushed to 0, where an exponential overflows or loses its digits.
TINY = 1e-20


def assert_as_good(given, truth, rounding=0.0):
    assert given.dtype is torch.float32
    assert torch.isfinite(given).all()
    excess = (given.double() - truth).abs() - (1e-5 * truth.abs() + TINY + rounding)
    assert excess.max() <= 0, f"off at {GRID[excess > 0] if GRID.shape == truth.shape else truth}"


@in_both_versions
@pytest.mark.parametrize("layer", ELEMENTWISE, ids=str)
def test_float32_is_as_good_as_float64_from_denormals_to_1e4(layer, version):
    y, dx = both(VERSIONS[version](layer), GRID, torch.ones_like(GRID))
    true_y, true_dx = both(layer, GRID.double(), torch.ones_like(GRID).double())
    by_kernel = layer.name.startswith("gelu(") and version == "fast"
    # ATen's gelu is as good as the rounding of (1 + erf z) / 2, times x.
    assert_as_good(y, true_y, by_kernel * 2.0**-21 * GRID.double().abs().clamp(min=1))
    assert_as_good(dx, true_dx, 2.0**-20 if by_kernel else 2.0**-22 * (layer.name in CROSSING))


# torch's forward mode loads its rules by torch.jit.script.
@pytest.mark.filterwarnings("ignore:.torch.jit.script")
@pytest.mark.parametrize("layer", ELEMENTWISE, ids=str)
def test_derivatives_of_backward_are_as_good_as_float64(layer):
    def results(x):
        def dx(x, g):
            return both(layer, x, g)[1]

        ones = torch.ones_like(x)
        forwards = torch.func.jvp(dx, (x, ones), (ones, ones))[1]
        return forwards, *torch.func.vjp(dx, x, ones)[1](ones)

    for given, truth in zip(results(GRID), results(GRID.double()), strict=True):
        assert torch.isfinite(given).all()
        # Sums of terms near 1 that cross 0, times x; for gelu by tanh times x^3, x being below 10.
        unit = 2.0**-16 if "tanh" in layer.name else 2.0**-20
        assert_as_good(given, truth, unit * (1 + GRID.abs().clamp(max=20).double()))


@in_both_versions
def test_the_softmin_of_far_apart_numbers(version):
    x = torch.tensor([[1e4, -1e4, 0.0], [1e4, 1e4, -0.0], [3e-45, 0.0, -1e-40]])
    y, dx = both(VERSIONS[version](lf.softmin()), x, torch.tensor([1.0, -2.0, 0.5]).expand(3, 3))
    expected = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1 / 3, 1 / 3, 1 / 3]])
    assert same_number(y, expected)
    last = torch.tensor([-7 / 18, 11 / 18, -2 / 9])
    assert same_number(dx, torch.stack([torch.zeros(3), torch.zeros(3), last]))


@in_both_versions
def test_glu_is_as_good_as_float64(version):
    gates = GRID[::7]
    x = torch.cartesian_prod(gates, gates)
    y, dx = both(VERSIONS[version](lf.glu()), x, torch.ones(len(x), 1))
    true_y, true_dx = both(lf.glu(), x.double(), torch.ones(len(x), 1).double())
    assert_as_good(y, true_y)
    assert_as_good(dx[:, 0], true_dx[:, 0])
    # 1 - s(b) is as good as the rounding of s(b), times a.
    assert_as_good(dx[:, 1], true_dx[:, 1], 2.0**-23 * x[:, 0].abs().double())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_tanhshrink_near_0_is_its_series(dtype):
    x = torch.tensor([1e-12, 1e-6, 1e-3, 0.01, -0.02, 0.03], dtype=dtype)
    x64 = x.double()
    series = x64**3 / 3 - 2 * x64**5 / 15 + 17 * x64**7 / 315 - 62 * x64**9 / 2835
    y = layers.tanhshrink.forward((), x)[0]
    # The first term that is left out is 1382 x^11 / 155925.
    assert same_number(y, series, terms=series.abs(), error=1e-14, dtype=dtype)


def test_tanhshrink_is_right_where_its_branches_meet():
    x = torch.tensor([-1.0, 1 - 2**-53, 1.0, 1 + 2**-52], dtype=torch.float64)
    y = layers.tanhshrink.forward((), x)[0]
    assert same_number(y, x - torch.tanh(x), length=16)


def test_the_formula_of_gelu_keeps_its_digits_far_below_0():
    y = lf.gelu().predict((), torch.tensor([-8.0]))
    assert same_number(y, torch.tensor([-8 * 6.220960574271785e-16]))


@in_both_versions
def test_softplus_keeps_its_digits_far_below_0(version):
    y = VERSIONS[version](lf.softplus()).predict((), torch.tensor([-40.0]))
    assert same_number(y, torch.tensor([4.248354255291589e-18]))


@in_both_versions
def test_softplus_in_float64_is_exact_past_torchs_threshold(version):
    x = torch.tensor([20.5, 39.0, 39.99, 40.01, 50.0], dtype=torch.float64)
    for layer in map(VERSIONS[version], (lf.softplus(), lf.softplus(threshold=1e9))):
        y, dx = both(layer, x, torch.ones_like(x))
        assert same_number(y, x + torch.log1p(torch.exp(-x)), length=4)
        assert same_number(dx, 1 / (1 + torch.exp(-x)), length=4)
        y, dx = both(layer, torch.tensor([1e4]), torch.ones(1))
        assert (y.item(), dx.item()) == (1e4, 1)


@in_both_versions
def test_gelu_tanh_survives_an_overflowing_square(version):
    x = torch.tensor([-1e30, 1e30])
    y, dx = both(VERSIONS[version](lf.gelu("tanh")), x, torch.ones(2))
    assert y.tolist() == [0, x[1].item()]
    assert dx.tolist() == [0, 1]


@in_both_versions
@pytest.mark.parametrize("layer", [*ELEMENTWISE, lf.softmin(), lf.glu()], ids=str)
def test_bfloat16(layer, version):
    x = X.bfloat16()
    y = layer.predict((), x)
    g = G[..., : y.shape[-1]].bfloat16()
    y, dx = both(VERSIONS[version](layer), x, g)
    true_y, true_dx = both(layer, x.double(), g.double())
    # softmin's formula rounds y and each of its four operations; a processor, its sum of g y.
    is_sum = layer.name == "softmin()"
    bound, of_sum = (5 * 2.0**-9, 2.0**-7 * g.abs().max()) if is_sum else (2.0**-7, 0.0)
    for given, truth in ((y, true_y), (dx, true_dx)):
        assert given.dtype is torch.bfloat16
        assert (given - truth).abs().max() <= bound * truth.abs().max() + of_sum


@in_both_versions
def test_hardtanh_in_bfloat16_stops_at_an_end_that_is_not_a_bfloat16(version):
    x = torch.tensor([-3.0, 0.05, 3.0], dtype=torch.bfloat16)
    layer = VERSIONS[version](lf.hardtanh(-0.1, 0.1))
    assert both(layer, x, torch.ones_like(x))[1].tolist() == [0, 1, 0]


@in_both_versions
@pytest.mark.parametrize("layer", [*ELEMENTWISE, lf.softmin(), lf.glu()], ids=str)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_stays_finite(layer, dtype, version):
    x = torch.tensor([[-3e4, -20.0, -1e-7, 0.0, 12.0, 3e4]], dtype=dtype)
    y = layer.predict((), x)
    for result in both(VERSIONS[version](layer), x, torch.ones_like(y)):
        assert result.dtype is dtype
        assert torch.isfinite(result).all()


@in_both_versions
@pytest.mark.parametrize("layer", ELEMENTWISE, ids=str)
def test_what_is_no_number_stays_none(layer, version):
    assert VERSIONS[version](layer).predict((), torch.tensor([torch.nan])).isnan().all()
