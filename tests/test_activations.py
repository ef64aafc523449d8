"""What the table of cases cannot say of activations: formulas, kinks, extremes, shapes, errors."""

import math

import pytest
import torch
import torch.nn.functional as F
from cases.case import normal

import lincoln_fn as lf
from lincoln_fn import keys, layers
from lincoln_fn.nn.activations import __all__ as smooth_names
from lincoln_fn.nn.piecewise import __all__ as piecewise_names
from lincoln_fn.nn.rectifiers import __all__ as rectifier_names

X = 3 * normal(5, 4, 6).double()
G = normal(5, 4, 6, seed=1).double()
RELU6 = lambda x: x.clamp(0, 6)  # noqa: E731


def phi(x):
    return torch.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)


def big_phi(x):
    return (1 + torch.erf(x / math.sqrt(2))) / 2


def tanh_inside(x):
    return math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)


def gelu_tanh_slope(x):
    t, c = torch.tanh(tanh_inside(x)), math.sqrt(2 / math.pi)
    return (1 + t) / 2 + x * (1 - t**2) / 2 * c * (1 + 3 * 0.044715 * x**2)


def softplus(x):
    return torch.log(1 + torch.exp(x))


def mish_slope(x):
    t = torch.tanh(softplus(x))
    return t + x * torch.sigmoid(x) * (1 - t**2)


A, L = 1.6732632423543772848170429916717, 1.0507009873554804934193352946

# By layer: y, dy/dx, and torch's function.
ELEMENTWISE = {
    lf.leaky_relu(0.2): (
        lambda x: x.clamp(min=0) + 0.2 * x.clamp(max=0),
        lambda x: torch.where(x > 0, torch.ones_like(x), 0.2),
        lambda x: F.leaky_relu(x, 0.2),
    ),
    lf.relu6(): (RELU6, lambda x: ((x > 0) & (x < 6)).double(), F.relu6),
    lf.elu(0.3): (
        lambda x: torch.where(x > 0, x, 0.3 * (torch.exp(x) - 1)),
        lambda x: torch.where(x > 0, 1.0, 0.3 * torch.exp(x)),
        lambda x: F.elu(x, 0.3),
    ),
    lf.selu(): (
        lambda x: torch.where(x > 0, L * x, L * A * (torch.exp(x) - 1)),
        lambda x: torch.where(x > 0, L, L * A * torch.exp(x)),
        F.selu,
    ),
    lf.celu(0.3): (
        lambda x: x.clamp(min=0) + (0.3 * (torch.exp(x / 0.3) - 1)).clamp(max=0),
        lambda x: torch.where(x > 0, 1.0, torch.exp(x / 0.3)),
        lambda x: F.celu(x, 0.3),
    ),
    lf.gelu(): (lambda x: x * big_phi(x), lambda x: big_phi(x) + x * phi(x), F.gelu),
    lf.gelu("tanh"): (
        lambda x: x * (1 + torch.tanh(tanh_inside(x))) / 2,
        gelu_tanh_slope,
        lambda x: F.gelu(x, approximate="tanh"),
    ),
    lf.silu(): (
        lambda x: x / (1 + torch.exp(-x)),
        lambda x: torch.sigmoid(x) * (1 + x * (1 - torch.sigmoid(x))),
        F.silu,
    ),
    lf.mish(): (lambda x: x * torch.tanh(softplus(x)), mish_slope, F.mish),
    lf.softplus(): (softplus, torch.sigmoid, F.softplus),
    lf.softplus(0.5, 1.0): (
        lambda x: torch.where(0.5 * x > 1, x, softplus(0.5 * x) / 0.5),
        lambda x: torch.where(0.5 * x > 1, 1.0, torch.sigmoid(0.5 * x)),
        lambda x: F.softplus(x, 0.5, 1.0),
    ),
    lf.softsign(): (
        lambda x: x / (1 + x.abs()),
        lambda x: 1 / (1 + x.abs()) ** 2,
        F.softsign,
    ),
    lf.tanhshrink(): (
        lambda x: x - torch.tanh(x),
        lambda x: torch.tanh(x) ** 2,
        F.tanhshrink,
    ),
    lf.hardtanh(-0.5, 2.0): (
        lambda x: x.clamp(-0.5, 2),
        lambda x: ((x > -0.5) & (x < 2)).double(),
        lambda x: F.hardtanh(x, -0.5, 2.0),
    ),
    lf.hardswish(): (
        lambda x: x * RELU6(x + 3) / 6,
        lambda x: torch.where(x <= -3, 0.0, torch.where(x >= 3, 1.0, x / 3 + 0.5)),
        F.hardswish,
    ),
    lf.hardsigmoid(): (
        lambda x: RELU6(x + 3) / 6,
        lambda x: ((x > -3) & (x < 3)).double() / 6,
        F.hardsigmoid,
    ),
    lf.hardshrink(): (
        lambda x: torch.where(x.abs() > 0.5, x, 0.0),
        lambda x: (x.abs() > 0.5).double(),
        F.hardshrink,
    ),
    lf.softshrink(): (
        lambda x: x.sign() * (x.abs() - 0.5).clamp(min=0),
        lambda x: (x.abs() > 0.5).double(),
        F.softshrink,
    ),
    lf.threshold(0.5, 7.0): (
        lambda x: torch.where(x > 0.5, x, 7.0),
        lambda x: (x > 0.5).double(),
        lambda x: F.threshold(x, 0.5, 7.0),
    ),
}


def both(layer, x, g):
    y, cache = layer.forward((), x)
    dx, dparams = layer.backward((), cache, g)
    assert dparams == ()
    return y, dx


@pytest.mark.parametrize("layer", ELEMENTWISE, ids=str)
def test_is_its_formula(layer):
    y_formula, slope, _ = ELEMENTWISE[layer]
    y, dx = both(layer, X, G)
    torch.testing.assert_close(y, y_formula(X), rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(dx, G * slope(X), rtol=1e-12, atol=1e-14)


def test_softmin_is_its_formula():
    y, dx = both(lf.softmin(dim=1), X, G)
    expected = torch.exp(-X) / torch.exp(-X).sum(1, keepdim=True)
    torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-14)
    dz = expected * (G - (G * expected).sum(1, keepdim=True))
    torch.testing.assert_close(dx, -dz, rtol=1e-12, atol=1e-14)


def test_glu_is_its_formula():
    a, b = X[:, :2], X[:, 2:]
    s, g = torch.sigmoid(b), G[:, 1:3]
    y, dx = both(lf.glu(dim=1), X, g)
    torch.testing.assert_close(y, a * s, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(dx[:, :2], g * s, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(dx[:, 2:], g * a * s * (1 - s), rtol=1e-12, atol=1e-14)


# Where any of the layers above has a kink or a jump, and the numbers beside it.
KINKS = torch.tensor([0.0, -0.0, 0.5, -0.5, 2.0, -2.0, 3.0, -3.0, 6.0], dtype=torch.float64)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("layer", ELEMENTWISE, ids=str)
def test_kinks_are_torchs(layer, dtype):
    kinks = KINKS.to(dtype)
    above, below = (torch.nextafter(kinks, torch.full_like(kinks, end)) for end in (9, -9))
    x = torch.cat([kinks, above, below]).requires_grad_()
    ELEMENTWISE[layer][2](x).sum().backward()
    _, dx = both(layer, x.detach(), torch.ones_like(x))
    torch.testing.assert_close(dx, x.grad, rtol=1e-6, atol=1e-6 if dtype is torch.float32 else 1e-8)


@pytest.mark.parametrize(
    ("layer", "x", "dx"),
    [
        (lf.leaky_relu(0.2), [0.0], [0.2]),
        (lf.relu6(), [0.0, 6.0], [0.0, 0.0]),
        (lf.elu(0.5), [0.0], [0.5]),
        (lf.selu(), [0.0], [L * A]),
        (lf.celu(0.5), [0.0], [1.0]),
        (lf.softsign(), [0.0], [1.0]),
        (lf.hardtanh(), [-1.0, 1.0], [0.0, 0.0]),
        (lf.hardswish(), [-3.0, 3.0], [0.0, 1.0]),
        (lf.hardsigmoid(), [-3.0, 3.0], [0.0, 0.0]),
        (lf.hardshrink(0.5), [-0.5, 0.5], [0.0, 0.0]),
        (lf.hardshrink(0.0), [0.0, 1e-45], [0.0, 1.0]),
        (lf.softshrink(0.5), [-0.5, 0.5], [0.0, 0.0]),
        (lf.threshold(0.5, 7.0), [0.5], [0.0]),
        (lf.threshold(-2.0, 7.0), [-2.0, -1.9], [0.0, 1.0]),
    ],
    ids=str,
)
def test_kinks_are_as_the_derivation_says(layer, x, dx):
    given = both(layer, torch.tensor(x), torch.ones(len(x)))[1]
    torch.testing.assert_close(given, torch.tensor(dx))


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
CROSSING = {"gelu()", "gelu(approximate='tanh')", "silu()", "mish()", "hardswish()"}
# y below this may be flushed to 0, where an exponential overflows or loses its digits.
TINY = 1e-20


def assert_as_good(given, truth, rounding=0.0):
    assert given.dtype is torch.float32
    assert torch.isfinite(given).all()
    excess = (given.double() - truth).abs() - (1e-5 * truth.abs() + TINY + rounding)
    assert excess.max() <= 0, f"off at {GRID[excess > 0] if GRID.shape == truth.shape else truth}"


@pytest.mark.parametrize("layer", ELEMENTWISE, ids=str)
def test_float32_is_as_good_as_float64_from_denormals_to_1e4(layer):
    y, dx = both(layer, GRID, torch.ones_like(GRID))
    true_y, true_dx = both(layer, GRID.double(), torch.ones_like(GRID).double())
    assert_as_good(y, true_y)
    assert_as_good(dx, true_dx, 2.0**-22 if layer.name in CROSSING else 0.0)


def test_the_softmin_of_far_apart_numbers():
    x = torch.tensor([[1e4, -1e4, 0.0], [1e4, 1e4, -0.0], [3e-45, 0.0, -1e-40]])
    y, dx = both(lf.softmin(), x, torch.tensor([1.0, -2.0, 0.5]).expand(3, 3))
    expected = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1 / 3, 1 / 3, 1 / 3]])
    torch.testing.assert_close(y, expected)
    last = torch.tensor([-7 / 18, 11 / 18, -2 / 9])
    torch.testing.assert_close(dx, torch.stack([torch.zeros(3), torch.zeros(3), last]))


def test_glu_is_as_good_as_float64():
    gates = GRID[::7]
    x = torch.cartesian_prod(gates, gates)
    y, dx = both(lf.glu(), x, torch.ones(len(x), 1))
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
    tolerance = 1e-6 if dtype is torch.float32 else 5e-14
    torch.testing.assert_close(y.double(), series, rtol=tolerance, atol=0)


def test_tanhshrink_is_right_where_its_branches_meet():
    x = torch.tensor([-1.0, 1 - 2**-53, 1.0, 1 + 2**-52], dtype=torch.float64)
    y = layers.tanhshrink.forward((), x)[0]
    torch.testing.assert_close(y, x - torch.tanh(x), rtol=2e-15, atol=0)


def test_gelu_and_softplus_keep_their_digits_far_below_0():
    x = torch.tensor([-8.0])
    y = lf.gelu().predict((), x)
    torch.testing.assert_close(y, torch.tensor([-8 * 6.220960574271785e-16]), rtol=1e-5, atol=0)
    y = lf.softplus().predict((), torch.tensor([-40.0]))
    torch.testing.assert_close(y, torch.tensor([4.248354255291589e-18]), rtol=1e-5, atol=0)


def test_softplus_in_float64_is_exact_past_torchs_threshold():
    x = torch.tensor([20.5, 39.0, 39.99, 40.01, 50.0], dtype=torch.float64)
    for layer in (lf.softplus(), lf.softplus(threshold=1e9)):
        y, dx = both(layer, x, torch.ones_like(x))
        torch.testing.assert_close(y, x + torch.log1p(torch.exp(-x)), rtol=1e-15, atol=0)
        torch.testing.assert_close(dx, 1 / (1 + torch.exp(-x)), rtol=1e-15, atol=0)
    assert torch.isfinite(lf.softplus(threshold=1e9).predict((), torch.tensor([1e4]))).all()


def test_gelu_tanh_survives_an_overflowing_square():
    x = torch.tensor([-1e30, 1e30])
    y, dx = both(lf.gelu("tanh"), x, torch.ones(2))
    assert y.tolist() == [0, x[1].item()]
    assert dx.tolist() == [0, 1]


@pytest.mark.parametrize("layer", [*ELEMENTWISE, lf.softmin(), lf.glu()], ids=str)
def test_bfloat16(layer):
    x = X.bfloat16()
    y = layer.predict((), x)
    g = G[..., : y.shape[-1]].bfloat16()
    y, dx = both(layer, x, g)
    true_y, true_dx = both(layer, x.double(), g.double())
    for given, truth in ((y, true_y), (dx, true_dx)):
        assert given.dtype is torch.bfloat16
        assert (given - truth).abs().max() <= 2.0**-7 * truth.abs().max()


def test_hardtanh_in_bfloat16_stops_at_an_end_that_is_not_a_bfloat16():
    x = torch.tensor([-3.0, 0.05, 3.0], dtype=torch.bfloat16)
    assert both(lf.hardtanh(-0.1, 0.1), x, torch.ones_like(x))[1].tolist() == [0, 1, 0]


@pytest.mark.parametrize("layer", [*ELEMENTWISE, lf.softmin(dim=1), lf.glu(dim=1)], ids=str)
def test_any_strides_shapes_and_devices(layer):
    x = normal(2, 4, 3, 5)
    g = normal(*layer.predict((), x).shape, seed=1)
    y, dx = both(layer, x, g)
    strided = x.transpose(0, 3).contiguous().transpose(0, 3)
    for same in (strided, x.to(memory_format=torch.channels_last)):
        other_y, other_dx = both(layer, same, g.mT.contiguous().mT)
        torch.testing.assert_close(other_y, y, rtol=1e-6, atol=1e-7)
        torch.testing.assert_close(other_dx, dx, rtol=1e-6, atol=1e-7)
    for part in (slice(0, 1), slice(0, 0)):
        one_y, one_dx = both(layer, x[part], g[part])
        torch.testing.assert_close(one_y, y[part], rtol=1e-6, atol=1e-7)
        torch.testing.assert_close(one_dx, dx[part], rtol=1e-6, atol=1e-7)
    assert layer.predict((), x.to("meta")).shape == y.shape


@pytest.mark.parametrize("layer", [*ELEMENTWISE, lf.softmin(), lf.glu()], ids=str)
def test_vmap(layer):
    x = normal(3, 5, 4)
    y, cache = layer.forward((), x)
    g = normal(*y.shape, seed=1)
    mapped = torch.func.vmap(lambda x, g: both(layer, x, g))(x, g)
    torch.testing.assert_close(mapped, (y, layer.backward((), cache, g)[0]))
    # A Jacobian: many g for one cache.
    many = torch.stack([g, 2 * g])
    dx = torch.func.vmap(lambda g: layer.backward((), cache, g)[0])(many)
    torch.testing.assert_close(dx[1], layer.backward((), cache, 2 * g)[0])


def test_selu_keeps_mean_0_and_variance_1():
    z = torch.linspace(-12, 12, 240_001, dtype=torch.float64)
    y = lf.selu().predict((), z)
    for power, moment in ((1, 0.0), (2, 1.0)):
        assert (y**power * phi(z)).sum().item() * 1e-4 == pytest.approx(moment, abs=1e-6)


def test_prelu_sums_over_all_that_share_a_slope():
    x, g = normal(2, 3, 4), normal(2, 3, 4, seed=1)
    for layer, axes in ((lf.prelu(), (0, 1, 2)), (lf.prelu(3), (0, 2))):
        params = layer.init(lf.Key(0), x)
        y, cache = layer.forward(params, x)
        dx, dparams = layer.backward(params, cache, g)
        torch.testing.assert_close(y, torch.where(x > 0, x, 0.25 * x))
        torch.testing.assert_close(dx, torch.where(x > 0, g, 0.25 * g))
        expected = (g * x.clamp(max=0)).sum(axes).view(-1)
        torch.testing.assert_close(dparams.weight, expected)


def test_prelu_takes_its_slope_at_0_and_keeps_its_dtype():
    x = torch.zeros(2, 3, dtype=torch.bfloat16)
    layer = lf.prelu(3, init=0.5)
    params = layer.init(lf.Key(0), x.to("meta"))
    assert params.weight.tolist() == [0.5, 0.5, 0.5]
    dx, dparams = layer.backward(params, x, torch.ones_like(x))
    assert dx.tolist() == [[0.5] * 3] * 2
    assert dparams.weight.dtype is torch.bfloat16
    assert dparams.weight.tolist() == [0, 0, 0]


def test_prelu_takes_single_numbers_and_any_strides():
    layer = lf.prelu(init=0.5)
    y, dx, dweight = numbers_of(layer, torch.tensor(-3.0), torch.tensor(2.0))
    assert (y.item(), dx.item(), dweight.tolist()) == (-1.5, 1.0, [-6.0])
    x, g = normal(2, 4, 3, 5), normal(2, 4, 3, 5, seed=1)
    straight = numbers_of(lf.prelu(4), x, g)
    folded = numbers_of(lf.prelu(4), x.to(memory_format=torch.channels_last), g.mT.contiguous().mT)
    torch.testing.assert_close(folded, straight)


def numbers_of(layer, x, g):
    params = layer.init(lf.Key(0), x)
    y, cache = layer.forward(params, x)
    dx, dparams = layer.backward(params, cache, g)
    return y, dx, dparams.weight


def test_rrelu_draws_slopes_between_its_ends():
    x = -torch.ones(10_000)
    layer = lf.rrelu(0.2, 0.6)
    params = layer.init(lf.Key(3), x)
    y, cache = layer.forward(params, x)
    assert y.max() <= -0.2
    assert y.min() > -0.6
    assert y.mean().item() == pytest.approx(-0.4, abs=0.005)
    assert y.std().item() == pytest.approx(0.4 / math.sqrt(12), abs=0.003)
    dx, dparams = layer.backward(params, cache, 3 * torch.ones_like(x))
    torch.testing.assert_close(dx, -3 * y)
    assert dparams is params


def test_rrelu_draws_anew_after_advance_and_not_before():
    x = normal(20)
    layer = lf.rrelu()
    params = layer.init(lf.Key(3), x)
    y, cache = layer.forward(params, x)
    assert torch.equal(layer.forward(params, x)[0], y)
    following = layer.advance(params, cache)
    again = layer.forward(following, x)[0]
    assert torch.equal(again[x > 0], y[x > 0])
    assert (again[x < 0] != y[x < 0]).all()
    torch.testing.assert_close(layer.predict(params, x), F.rrelu(x))
    zeros = layer.forward(params, torch.zeros(20))[1]
    assert zeros.max() < 1 / 3
    assert layer.forward(params, x.bfloat16())[0].dtype is torch.bfloat16


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: lf.gelu("exact"), "gelu: expected approximate none or tanh, got 'exact'"),
        (lambda: lf.softplus(0.0), "softplus: expected beta above 0, got 0.0"),
        (lambda: lf.celu(0.0), "celu: expected alpha above 0, got 0.0"),
        (lambda: lf.prelu(0), "prelu: expected num_parameters of at least 1, got 0"),
        (lambda: lf.rrelu(0.3, 0.2), "rrelu: expected lower at most upper, got 0.3 and 0.2"),
        (
            lambda: lf.hardtanh(1.0, 1.0),
            "hardtanh: expected min_val below max_val, got 1.0 and 1.0",
        ),
        (lambda: lf.hardshrink(-0.1), "hardshrink: expected lambd of at least 0, got -0.1"),
        (lambda: lf.softshrink(-0.1), "softshrink: expected lambd of at least 0, got -0.1"),
    ],
)
def test_wrong_hyperparameters(make, message):
    with pytest.raises(ValueError, match="expected") as caught:
        make()
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: lf.glu().forward((), torch.zeros(2, 3)),
            "glu: expected x of even size along dim=-1, got (2, 3)",
        ),
        (
            lambda: lf.glu(dim=2).forward((), torch.zeros(2, 4)),
            "glu: expected x to have an axis dim=2, got shape (2, 4)",
        ),
        (
            lambda: lf.glu().backward(
                (), lf.glu().forward((), torch.zeros(2, 4))[1], torch.zeros(2, 4)
            ),
            "glu: expected g of shape (2, 2), got (2, 4)",
        ),
        (
            lambda: lf.softmin(dim=2).forward((), torch.zeros(2, 4)),
            "softmin: expected x to have an axis dim=2, got shape (2, 4)",
        ),
        (
            lambda: lf.prelu(3).init(lf.Key(0), torch.zeros(2, 4)),
            "prelu(3): expected x of shape (batch, 3, ...), got (2, 4)",
        ),
        (
            lambda: lf.prelu(3).forward(layers.prelu.Params(torch.ones(3)), torch.zeros(3)),
            "prelu(3): expected x of shape (batch, 3, ...), got (3,)",
        ),
        (
            lambda: lf.prelu().forward(layers.prelu.Params(torch.ones(1)), torch.zeros(3).double()),
            "prelu: expected x of dtype torch.float32, got torch.float64",
        ),
        (
            lambda: lf.prelu().forward((), torch.zeros(3)),
            "prelu: expected params prelu.Params, got ()",
        ),
        (
            lambda: lf.prelu().backward((), torch.zeros(3), torch.zeros(3)),
            "prelu: expected params prelu.Params, got ()",
        ),
        (
            lambda: lf.prelu().init(lf.Key(0), torch.zeros(3).int()),
            "prelu: expected x of a floating dtype, got torch.int32; convert it first, say by"
            " x.float()",
        ),
        (
            lambda: lf.rrelu().init(lf.Key(0), torch.zeros(3).int()),
            "rrelu: expected x of a floating dtype, got torch.int32; convert it first, say by"
            " x.float()",
        ),
        *(
            (call, "rrelu: expected params rrelu.Params, got ()")
            for call in (
                lambda: lf.rrelu().forward((), torch.zeros(3)),
                lambda: lf.rrelu().predict((), torch.zeros(3)),
                lambda: lf.rrelu().backward((), torch.zeros(3), torch.zeros(3)),
                lambda: lf.rrelu().advance((), torch.zeros(3)),
            )
        ),
    ],
)
def test_wrong_inputs(call, message):
    with pytest.raises(lf.LayerError) as caught:
        call()
    assert str(caught.value) == message


@pytest.mark.parametrize("name", sorted({*smooth_names, *piecewise_names, *rectifier_names}))
def test_wrong_types_and_shapes(name):
    layer = getattr(lf, name)(*((0.5, 7.0) if name == "threshold" else ()))
    x = torch.zeros(2, 4)
    params = layer.init(lf.Key(0), x)
    integers = f"{name}: expected x of a floating dtype, got torch.int64; convert it first, say by"
    with pytest.raises(lf.LayerError) as caught:
        layer.forward(params, x.long())
    assert str(caught.value) == f"{integers} x.float()"
    with pytest.raises(lf.LayerError, match=f"^{name}: expected params "):
        layer.forward((x,), x)
    y, cache = layer.forward(params, x)
    shape = tuple(y.shape)
    with pytest.raises(lf.LayerError) as caught:
        layer.backward(params, cache, torch.zeros(3))
    assert str(caught.value) == f"{name}: expected g of shape {shape}, got (3,)"
    with pytest.raises(lf.LayerError) as caught:
        layer.backward(params, (), y)
    assert str(caught.value) == f"{name}: expected the cache of its own forward, got ()"


def test_random_slopes_differ_by_key():
    x = -torch.ones(50)
    first, second = (lf.rrelu().init(key, x).key.bits for key in keys.Key(0).split())
    assert first != second
