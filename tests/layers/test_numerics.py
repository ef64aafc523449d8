"""Numbers from 1e-45 to 1e4: finite everywhere, and in float32 as good as float32 allows.

Each function is run twice on the same float32 numbers, once in float64, which is the truth.
Relative errors stay within 1e-5. Two allowances stand beside that, and no other:

- below 2^-126, float32's smallest normal number, digits are lost one by one, so an error of that
  size is always allowed;
- where a result is a difference of numbers near 1 (y (1 - y), 1 - y^2, p - 1, or a row's maximum
  less the logarithm of its sum), it cannot be better than their own rounding. There 2^-22 is
  allowed, two units in the last place of 1, times the largest |g|. These are marked below.
"""

import math

import pytest
import torch
from helpers import first_run, run, same_number

import lincoln_fn as lf
from lincoln_fn import keys, losses
from lincoln_fn.fastpath import fast

SUBNORMAL = 2.0**-126
ROUNDING_OF_1 = 2.0**-21  # of numbers up to 1, in four sums and products

MAGNITUDES = [
    *(1e-45, 1e-40, 1e-38, 1e-30, 1e-20, 1e-10, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.1),
    *(0.3, 0.5, 0.69, 0.7, 1, 1.5, 2, 3, 5, 7, 9, 10, 12, 15, 16, 17, 18, 20, 25, 30, 40, 50, 80),
    *(87, 88, 89, 95, 100, 103, 104, 110, 200, 1e3, 3e3, 1e4),
]
GRID = torch.tensor([0.0, -0.0, *MAGNITUDES, *(-m for m in MAGNITUDES)])
# Every pair of the grid beside a 0, ties among them; and rows of one class.
ROWS = torch.cat([torch.cartesian_prod(GRID, GRID), torch.zeros(len(GRID) ** 2, 1)], 1)
COLUMN = GRID.unsqueeze(1)

ELEMENTWISE = [lf.sigmoid(), lf.tanh(), lf.relu(), lf.log_sigmoid()]
ALONG_ROWS = [lf.softmax(), lf.log_softmax()]
# The formulas, and the faster functions that take their place.
in_both_versions = pytest.mark.parametrize(
    "version", [lambda layer: layer, fast], ids=["formula", "fast"]
)
ROUNDED_Y = {"log_softmax()"}
ROUNDED_DX = {"sigmoid()", "tanh()", "softmax()", "log_softmax()"}


def assert_as_good(given, truth, rounding=0.0):
    assert given.dtype is torch.float32
    assert torch.isfinite(given).all()
    error = (given.double() - truth).abs()
    excess = error - (1e-5 * truth.abs() + SUBNORMAL + rounding)
    assert excess.max() <= 0, f"off by {error[excess > 0]} at {truth[excess > 0]}"


def in_both(layer, params, x, g):
    results = []
    for dtype in (torch.float32, torch.float64):
        p, converted = lf.tree.map(lambda leaf, dtype=dtype: leaf.to(dtype), (params, x))
        results.append(run(layer, p, converted, g.to(dtype)))
    return zip(*results, strict=True)


@in_both_versions
@pytest.mark.parametrize(("layer", "x"), [
    *((layer, GRID) for layer in ELEMENTWISE),
    *((layer, COLUMN[:1]) for layer in (*ELEMENTWISE, *ALONG_ROWS)),
    *((layer, rows) for layer in ALONG_ROWS for rows in (ROWS, ROWS[:1], COLUMN)),
], ids=lambda value: str(tuple(getattr(value, "shape", ())) or value))  # fmt: skip
def test_activations_are_as_good_as_float32_allows(layer, x, version):
    g = keys.uniform(lf.Key(1), tuple(x.shape), -1, 1)
    (y, y_truth), (dx, dx_truth), _ = in_both(version(layer), (), x, g)
    assert_as_good(y, y_truth, ROUNDING_OF_1 if layer.name in ROUNDED_Y else 0)
    assert_as_good(dx, dx_truth, ROUNDING_OF_1 if layer.name in ROUNDED_DX else 0)


@pytest.mark.parametrize("rows", [ROWS[:: len(GRID) - 1], ROWS[:1]], ids=["many", "one"])
def test_dense_is_as_good_as_float32_allows(rows):
    # A sum is as good as its terms: its rounding is relative to the sum of their magnitudes.
    layer = lf.dense(4)
    params = layer.init(lf.Key(0), rows)
    g = keys.uniform(lf.Key(1), (len(rows), 4), -1, 1)
    (y, y_truth), (dx, dx_truth), (dparams, dparams_truth) = in_both(layer, params, rows, g)
    weight, x, magnitude = params.weight.abs(), rows.abs(), g.abs()
    for given, truth, terms in [
        (y, y_truth, x @ weight + params.bias.abs()),
        (dx, dx_truth, magnitude @ weight.mT),
        (dparams.weight, dparams_truth.weight, x.mT @ magnitude),
        (dparams.bias, dparams_truth.bias, magnitude.sum(0)),
    ]:
        assert same_number(given, truth, terms=terms, length=8, dtype=torch.float32)


Z = lf.log_softmax().predict((), ROWS)
LOG_SPACE = {
    "sigmoid_cross_entropy": (losses.sigmoid_cross_entropy, GRID, (0, 1), 0),
    "log_sigmoid_loss": (losses.log_sigmoid_loss, -GRID.abs(), (0, 1), 0),
    "log_sigmoid_loss of log_sigmoid": (losses.log_sigmoid_loss, lf.log_sigmoid().predict((), GRID),
        (0, 1), 0),
    "nll": (losses.nll, Z, (0, 1, 2), 0),
    "nll of one class": (losses.nll, Z[:, :1], (0,), 0),
    "softmax_cross_entropy": (losses.softmax_cross_entropy, ROWS, (0, 1, 2), ROUNDING_OF_1),
    "softmax_cross_entropy of one class": (losses.softmax_cross_entropy, COLUMN, (0,), 0),
}  # fmt: skip


@pytest.mark.parametrize("examples", [None, 1], ids=["many", "one"])
@pytest.mark.parametrize(
    ("name", "label"), [(name, label) for name, row in LOG_SPACE.items() for label in row[2]]
)
def test_log_space_losses_are_as_good_as_float32_allows(name, label, examples):
    make, prediction, _, rounding = LOG_SPACE[name]
    prediction = prediction[:examples]
    loss = make(reduction="none")
    target = torch.full(prediction.shape[:1], label)
    value, cache = loss.forward(prediction, target)
    truth, truth_cache = loss.forward(prediction.double(), target)
    g = torch.ones_like(value)
    assert_as_good(value, truth, rounding)
    assert_as_good(loss.backward(cache, g), loss.backward(truth_cache, g.double()), rounding)


# -log(1 - e^z), written so that float64 computes it: near 0 it is -log(-z), far off e^z.
LOG1MEXP = {
    -1e-30: -math.log(1e-30), -1e-10: -math.log(-math.expm1(-1e-10)),
    -1e-3: -math.log(-math.expm1(-1e-3)), -0.69: -math.log(-math.expm1(-0.69)),
    -0.70: -math.log1p(-math.exp(-0.70)), -50.0: -math.log1p(-math.exp(-50.0)), -1e4: 0.0,
}  # fmt: skip


@pytest.mark.parametrize("z", LOG1MEXP)
def test_log_sigmoid_loss_is_right_near_p_1_and_far_from_it(z):
    loss = losses.log_sigmoid_loss()
    for dtype in (torch.float32, torch.float64):
        value, cache = loss.forward(torch.tensor([z], dtype=dtype), torch.tensor([0]))
        # The slope's condition number is |z|: an input rounded to float32 moves it by |z| 2^-24.
        slope = math.exp(z) / -math.expm1(z)
        length = 8 * max(1, -z)
        assert same_number(value.item(), LOG1MEXP[z], length=length, dtype=dtype)
        assert same_number(loss.backward(cache).item(), slope, length=length, dtype=dtype)


@pytest.mark.parametrize("z", [0.0, -0.0, -1e-45, -1e-40])
def test_a_log_probability_that_rounds_to_0_costs_what_the_smallest_normal_number_does(z):
    loss = losses.log_sigmoid_loss()
    value, cache = loss.forward(torch.tensor([z]), torch.tensor([0]))
    assert same_number((value, loss.backward(cache).item()), (126 * math.log(2), 2.0**126))
    value, cache = loss.forward(torch.tensor([z]), torch.tensor([1]))
    assert abs(value.item()) <= 1e-37
    assert loss.backward(cache).item() == -1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_row_of_zeros_has_no_direction(dtype):
    layer, rows = lf.cosine_similarities(), torch.ones(2, 3, dtype=dtype)
    x = (torch.zeros_like(rows), rows)
    params = layer.init(lf.Key(0), x)
    y, (_, db), dparams = run(layer, params, x, torch.ones_like)
    assert not y.any()
    assert not db.any()
    assert dparams.log_scale == 0


t = torch.tensor


def both(layer, x, params=()):
    """Compute y, and dx of g = 1."""
    return run(layer, params, x, lambda y: lf.tree.map(torch.ones_like, y))[:2]


@pytest.mark.parametrize("size", [1e-25, 1e-6, 1.0, 1e25])
@pytest.mark.parametrize("p", [2.0, 10.0])
def test_a_norm_is_right_where_its_powers_are_out_of_range(p, size):
    x = t([3.0, 4.0], dtype=torch.float64)
    y, dx = both(lf.norm(p), x)
    given = both(lf.norm(p), x.float() * size)
    assert same_number(given, ((y * size).float(), dx.float()))


HALVES = [torch.float16, torch.bfloat16]


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("masked", [False, True])
def test_a_masked_mean_whose_sum_is_beyond_float16(dtype, masked):
    x = torch.full((1, 70_000, 2), 1000.0, dtype=dtype)
    mask = torch.ones(1, 70_000, dtype=torch.bool)
    mask[0, 35_000:] = not masked
    y, dx = both(lf.masked_mean(), (x, mask) if masked else x)
    dx = dx[0] if masked else dx
    n = 35_000 if masked else 70_000
    assert y.tolist() == [[1000.0, 1000.0]]
    assert same_number(dx[0, 0], torch.full((2,), 1 / n, dtype=dtype), terms=2.0**-14)
    assert dx[0, 0].all()
    assert y.dtype is dx.dtype is dtype


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("size", [1e-3, 1.0, 1e4])
def test_the_length_of_half_precision_is_of_float32(dtype, size):
    x = torch.where(torch.arange(64) % 2 == 0, size, -size).to(dtype).view(1, 64)
    x = torch.cat((x, x.flip(1).abs() / 2, x.roll(1, 1) * (torch.arange(64) / 64).to(dtype)))
    g = torch.arange(192, dtype=dtype).view(3, 64) / 64
    layer = lf.normalize()
    y, dx, _ = run(layer, (), x, g)
    exact, expected, _ = run(layer, (), x.double(), g.double())
    assert y.dtype is dx.dtype is dtype
    assert same_number(y, exact, dtype=dtype)
    # g - y sum(g y) cancels; below 2^-14, float16 has multiples of 2^-24.
    terms = (3 / x.double().norm(dim=1, keepdim=True)).clamp(min=2.0**-14) * 4
    assert same_number(dx, expected, terms=terms, dtype=dtype)
    assert dx.any()


@pytest.mark.parametrize("dtype", HALVES)
def test_cosine_similarities_of_long_rows_in_half_precision(dtype):
    a = t([[1e4, 1e4, 0.0, 0.0] * 16, [1e4] * 64], dtype=dtype)
    b = t([[1e4] * 64, [0.0, 2e4, 0.0, 0.0] * 16], dtype=dtype)
    layer = lf.cosine_similarities(init_scale=1.0)
    results = []
    for x in ((a, b), (a.double(), b.double())):
        params, y, cache = first_run(layer, x)
        g = t([[1.0, -2.0], [3.0, 1.0]], dtype=y.dtype)
        results.append((y, layer.backward(params, cache, g)[0]))
    (y, dx), (exact, expected) = results
    assert y.dtype is dx[0].dtype is dx[1].dtype is dtype
    assert same_number(y, exact, dtype=dtype)
    assert same_number(dx, expected, terms=4 / 8e4, error=1e-3, dtype=dtype)
    assert dx[0].any()


@pytest.mark.parametrize("dtype", HALVES)
def test_half_precision_has_its_variance_in_float32(dtype):
    layer = lf.variance(0)
    x = t([0, 1, 1], dtype=dtype) + (1000 if dtype is torch.float16 else 200)
    y, dx = both(layer, x)
    assert same_number((y, dx), (t(1 / 3, dtype=dtype), t([-2 / 3, 1 / 3, 1 / 3], dtype=dtype)))
    x = t([-30.0, 30.0] * 50, dtype=dtype)
    y, dx = both(layer, x)
    assert same_number((y, dx), (t(90_000 / 99, dtype=dtype), x * (2 / 99)))


def test_a_variance_of_a_small_spread_around_a_large_mean():
    step = 2.0**-10
    x = torch.full((3, 2), 1e4) + t([[0.0], [step], [step]])
    y, dx = both(lf.variance(0), x)
    assert same_number(y, torch.full((2,), step**2 / 3))
    assert same_number(dx, t([[-2 / 3], [1 / 3], [1 / 3]]).expand(3, 2) * step)
    y, dx = both(lf.variance(None), x)
    assert same_number(y, t(step**2 * (4 / 3) / 5))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_no_feature_of_a_gated_recurrence_is_dead_at_the_beginning(dtype):
    u = torch.zeros(1, 1, 4000, dtype=dtype)
    params = lf.gated_linear_recurrence().init(lf.Key(0), (u, u, u))
    assert params.decay.dtype is dtype
    # softplus(lambda) = -log(a) / 8 for a in 0.9 to 0.999.
    a = torch.exp(-8 * torch.nn.functional.softplus(params.decay.double()))
    assert a.min() > 0.895
    assert a.max() < 0.9991
