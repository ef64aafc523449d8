"""Pooling beyond the table, shapes in 16 bits: ties, layouts, where torch goes wrong, errors."""

import math

import pytest
import torch
from helpers import assert_says, first_run, normal, same_bits, same_number
from helpers.cases import pooling
from helpers.refusals import refusals

import lincoln_fn as lf
from lincoln_fn.fastpath import fast
from lincoln_fn.layers import adaptive_max_pool, avg_pool, fractional_max_pool, lp_pool, max_pool

FORMS = pytest.mark.parametrize("of", [lambda layer: layer, fast], ids=["formula", "fast"])


def run(layer, x, g=None):
    """Give y without its indices, dx and dL/dy, which may be a function of y."""
    params, y, cache = first_run(layer, x, 11)
    has_indices = isinstance(y, tuple)
    y = y[0] if has_indices else y
    g = normal(*y.shape, seed=1).to(x.dtype) if g is None else g(y) if callable(g) else g
    return y, layer.backward(params, cache, (g, None) if has_indices else g)[0], g


@FORMS
@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("name", ["max_pool", "adaptive_max_pool"])
def test_of_equal_elements_the_first_gets_the_gradient(name, n, of):
    layer = of(getattr(lf, f"{name}{n}d")(2))
    _, dx, _ = run(layer, torch.ones(1, 1, *(4,) * n), torch.ones(1, 1, *(2,) * n))
    first = torch.tensor([1.0, 0.0, 1.0, 0.0])
    expected = first
    for _ in range(n - 1):
        expected = expected[..., None] * first
    assert same_number(dx[0, 0], expected)


def test_ceil_mode_leaves_out_a_window_that_starts_behind_x():
    # Rounding up alone would give a third window, at 4, with nothing but padding in it.
    x = normal(1, 1, 3)
    assert lf.max_pool1d(2, padding=1, ceil_mode=True).forward((), x)[0].shape == (1, 1, 2)
    assert run(lf.avg_pool1d(2, padding=1, ceil_mode=True), x)[1].shape == x.shape


INF = math.inf
# What a layer gives for a line, and for a g: y and dx.
BY_HAND = {
    "padding is never chosen": (lf.max_pool1d(3, stride=3, padding=1),
        [[-5.0, -2.0, -3.0, -9.0], [-INF] * 4], [[1.0, 10.0], [100.0, 1000.0]],
        [[-2.0, -3.0], [-INF, -INF]], [[0.0, 1.0, 10.0, 0.0], [100.0, 0.0, 1000.0, 0.0]]),
    "an element largest in several windows gets the sum": (lf.max_pool1d(3, stride=1),
        [[0.0, 1.0, 9.0, 2.0, 3.0]], [[1.0, 10.0, 100.0]], [[9.0] * 3],
        [[0.0, 0.0, 111.0, 0.0, 0.0]]),
    "windows, at -2 and 1, at -1 and 2, at 0 and 3, beside one of padding alone":
        (lf.max_pool1d(2, 1, 2, 3), [[5.0, 7.0]], [[1.0, 10.0, 100.0]], [[7.0, -INF, 5.0]],
        [[100.0, 1.0]]),
    "zero where a power has no derivative": (lf.lp_pool1d(2, 2), [[0.0, 0.0, 3.0, 4.0]],
        [[7.0, 10.0]], [[0.0, 5.0]], [[0.0, 0.0, 6.0, 8.0]]),
    "power one is the sum even at zero": (lf.lp_pool1d(1, 2), [[2.0, -2.0, 0.0, 0.0]],
        [[7.0, 10.0]], [[0.0, 0.0]], [[7.0, 7.0, 10.0, 10.0]]),
    "zero where powers cancel": (lf.lp_pool1d(3, 2), [[2.0, -2.0]], [[1.0]], [[0.0]], [[0.0, 0.0]]),
}  # fmt: skip


@FORMS
@pytest.mark.parametrize("name", BY_HAND)
def test_by_hand(name, of):
    layer, *numbers = BY_HAND[name]
    x, g, y, dx = map(torch.tensor, numbers)
    assert same_number(run(of(layer), x, g)[:2], (y, dx))


@pytest.mark.parametrize("layer", [lf.max_pool2d(2), lf.avg_pool2d(2)], ids=str)
def test_channels_last_stays_channels_last(layer):
    x = normal(2, 5, 6, 8).to(memory_format=torch.channels_last)
    y, dx, _ = run(fast(layer), x)
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert dx.is_contiguous(memory_format=torch.channels_last)


# torch's own, of a kernel that it has no batching rule for.
@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")
@pytest.mark.parametrize("case", pooling.CASES, ids=str)
def test_vmap_of_the_fast_form_is_the_batch(case):
    layer = fast(case.layer)
    y, dx, g = run(layer, case.x)
    both = torch.func.vmap(lambda x, g: run(layer, x, g)[:2])
    mapped_y, mapped_dx = both(torch.stack([case.x, case.x]), torch.stack([g, 2 * g]))
    assert same_number((mapped_y[1], mapped_dx[1]), (y, 2 * dx))


def test_global_avg_pool_keeps_one_number_for_x_and_y():
    _, cache = lf.global_avg_pool().forward((), normal(2, 3, 7, 9))
    assert {t.untyped_storage().nbytes() for t in lf.tree.leaves(cache)} == {4}


PLANE = torch.zeros(2, 3, 4, 5)
KEY = fractional_max_pool.Params(lf.Key(0))
WITH_INDICES = max_pool.forward((), PLANE, kernel_size=(2, 2), return_indices=True)[1]

test_errors_name_what_was_expected_and_given = refusals("""
max_pool2d(2).forward((), torch.zeros(2, 3)) -> ^max_pool2d: expected x of shape (channels, h, w) or
    (batch, channels, h, w), got (2, 3)$
avg_pool2d((2, 6)).forward((), PLANE) -> ^avg_pool2d: expected x with room for a window of (2, 6),
    got (2, 3, 4, 5)$
adaptive_avg_pool1d(2).forward((), torch.zeros(2, 3, 0)) -> ^adaptive_avg_pool1d: expected x with no
    empty axis, got (2, 3, 0)$
global_avg_pool().forward((), torch.zeros(2, 3)) -> ^global_avg_pool: expected x of shape (batch,
    channels, *spatial), got (2, 3)$
max_pool1d(3, padding=2) -> ^max_pool1d: expected padding of at most 1 for kernel_size=3 and
    dilation=1, got 2$
fractional_max_pool2d(2) -> ^fractional_max_pool2d: expected one of output_size and output_ratio,
    got (None, None)$
fractional_max_pool2d(2, output_ratio=(0.5,)) -> ^fractional_max_pool2d: expected output_ratio as a
    number or a tuple of 2, got (0.5,)$
fractional_max_pool2d(2, (4, 2)).forward(KEY, PLANE) -> ^fractional_max_pool2d: expected x with room
    for (4, 2) windows of (2, 2), got (2, 3, 4, 5)$
max_pool.backward((), WITH_INDICES, PLANE[..., :2, :2]) -> ^max_pool2d: expected g as (dy, None),
    got float32[2, 3, 2, 2]$
""")


def test_module_functions_take_numbers_for_all_axes_or_one_for_each():
    x = normal(2, 3, 7, 9)
    for module, options in ((max_pool, {"dilation": 1}), (avg_pool, {})):
        y, _ = module.forward((), x, kernel_size=(3, 3), stride=2, padding=1, **options)
        call_repr, _ = module.forward((), x, kernel_size=(3, 3), stride=(2, 2), padding=(1, 1))
        assert same_bits(y, call_repr)
    assert lp_pool.forward((), x, norm_type=2, kernel_size=(2, 2))[0].shape == (2, 3, 3, 4)
    assert adaptive_max_pool.forward((), x, output_size=(None, 2))[0].shape == (2, 3, 7, 2)


# Windows


@FORMS
def test_a_window_that_sees_only_padding_is_minus_infinity_and_gives_its_gradient_to_nobody(of):
    layer = of(lf.max_pool2d(2, padding=1, dilation=3, return_indices=True))
    x = normal(5, 4, 2, 2)
    (y, indices), cache = layer.forward((), x)
    assert same_number((y, indices), (torch.full((5, 4, 1, 1), -INF), torch.full((5, 4, 1, 1), 4)))
    assert same_number(
        layer.backward((), cache, (torch.ones_like(y), None))[0], torch.zeros_like(x)
    )


def test_no_relu_moves_behind_a_window_that_sees_only_padding():
    net = lf.serial(lf.relu(), lf.max_pool2d(2, padding=1, dilation=3))
    assert repr(fast(net)) == repr(net)
    y = fast(net).predict(((), ()), normal(5, 4, 2, 2))
    assert same_number(y, torch.full_like(y, -INF))
    moved = lf.serial(lf.max_pool2d(2, padding=1), lf.relu())
    assert repr(fast(lf.serial(*reversed(moved.parts)))) == repr(moved)


@FORMS
@pytest.mark.parametrize("n", [1, 2, 3])
def test_padding_may_be_half_of_what_a_window_covers(n, of):
    # torch allows half of kernel_size, which is 1 here.
    layer = of(getattr(lf, f"max_pool{n}d")(3, 2, 2, 2))
    x = normal(2, 5, *(6,) * n)
    y, of_x, g = run(layer, x)
    padded = torch.nn.functional.pad(x, (2, 2) * n, value=-INF).requires_grad_()
    expected = getattr(torch.nn.functional, f"max_pool{n}d")(padded, 3, 2, 0, 2)
    (dx,) = torch.autograd.grad(expected, padded, g)
    assert same_number(y, expected.detach())
    inside = (..., *(slice(2, -2) for _ in range(n)))
    assert same_number(of_x, dx[inside])


@FORMS
def test_a_window_may_be_larger_than_a_volume_before_it_is_padded(of):
    layer = of(lf.avg_pool3d(3, 1, 1, count_include_pad=False))
    x = normal(2, 3, 1, 2, 4)
    y, dx, _ = run(layer, x, torch.ones_like)
    assert same_number(y[:, :, 0, 0, 0], x[..., :2].mean((2, 3, 4)))
    assert same_number(dx.sum(), torch.tensor(float(y.numel())))


# Numbers


@FORMS
@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("name", ["max_pool", "adaptive_max_pool"])
def test_a_nan_is_larger_than_every_number(name, n, of):
    layer = of(getattr(lf, f"{name}{n}d")(2))
    x = torch.full((1, 5, *(4,) * n), INF)
    x[(0, slice(None), *(1,) * n)] = math.nan
    y, cache = layer.forward((), x)
    where = torch.zeros_like(y, dtype=torch.bool)
    where[(0, slice(None), *(0,) * n)] = True
    assert same_bits(y.isnan(), where)
    dx, _ = layer.backward((), cache, torch.where(where, 7.0, 0.0))
    assert same_bits(dx != 0, x.isnan())


@FORMS
def test_means_of_float16_do_not_overflow(of):
    x = torch.full((1, 5, 4, 4), 6e4, dtype=torch.float16)
    for layer in (lf.avg_pool2d(2), lf.adaptive_avg_pool2d(1), lf.global_avg_pool()):
        assert same_bits(of(layer).predict((), x).unique(), x.unique())


def test_powers_of_float16_do_not_overflow():
    layer = lf.lp_pool1d(3, 2)
    x = torch.tensor([[3e3, 4e3, 1e-3, 0.0]], dtype=torch.float16)
    y, dx, _ = run(layer, x, torch.ones_like)
    expected = torch.tensor([[91e9 ** (1 / 3), 1e-3]], dtype=torch.float16)
    assert same_number(y, expected, terms=expected)
    slope = torch.tensor([[9e6, 16e6]], dtype=torch.float64) / 91e9 ** (2 / 3)
    assert same_number(dx[:, :2], slope, dtype=torch.float16)


@pytest.mark.parametrize("p", [9, 20, 100])
def test_large_powers_stay_within_the_range_of_float32(p):
    layer = lf.lp_pool2d(p, 2)
    x = torch.tensor([[[1e4, 3e3], [2e3, 9.9e3]], [[1e-9, 2e-9], [0.0, 1e-9]]])
    (y, dx, _), (exact, expected, _) = (run(layer, t, torch.ones_like) for t in (x, x.double()))
    assert same_number(y, exact, terms=exact, length=4 * p, dtype=torch.float32)
    assert same_number(dx, expected, dtype=torch.float32)


def test_elements_outside_of_x_leave_the_second_derivative_of_lp_pool_finite():
    layer = lf.lp_pool1d(1.5, 3, 2, ceil_mode=True)

    def energy(x):
        return run(layer, x, torch.clone)[1].square().sum()

    assert torch.func.grad(energy)(torch.tensor([[1.0, 2.0, 3.0, 4.0]])).isfinite().all()


def test_a_window_of_zeros_leaves_the_derivative_of_the_gradient_of_lp_pool_finite():
    layer, x = lf.lp_pool1d(2, 2), torch.tensor([[0.0, 0.0, 3.0, 4.0]])
    y, cache = layer.forward((), x)

    def total(x):
        return layer.backward((), lf.evolve(cache, x=x), torch.ones_like(y))[0].sum()

    assert torch.func.grad(total)(x).isfinite().all()


def test_many_small_gradients_add_up_in_bfloat16():
    x = torch.zeros(1, 601, dtype=torch.bfloat16)
    x[0, 300] = 1
    for layer, expected in ((lf.max_pool1d(301, 1), 301), (lf.avg_pool1d(301, 1), 1)):
        assert same_number(run(layer, x, torch.ones_like)[1][0, 300], expected)


# Indices


@FORMS
@pytest.mark.parametrize("layer", [
    lf.max_pool2d(2, return_indices=True),
    lf.adaptive_max_pool2d(3, return_indices=True),
], ids=str)  # fmt: skip
def test_indices_say_where_the_largest_elements_are(layer, of):
    x = normal(2, 3, 6, 7)
    y, indices = of(layer).predict((), x)
    assert indices.dtype is torch.int64
    assert same_bits(x.flatten(2).gather(2, indices.flatten(2)).view(y.shape), y)


@FORMS
@pytest.mark.parametrize("layer", [
    lf.max_pool1d(2, return_indices=True),
    lf.max_pool2d(2, return_indices=True),
    lf.adaptive_max_pool3d(2, return_indices=True),
    lf.fractional_max_pool2d(2, 3, return_indices=True),
], ids=str)  # fmt: skip
def test_indices_have_no_gradient_and_what_is_given_for_them_is_not_used(layer, of):
    x = normal(2, 3, *(4, 5, 6)[: int(layer.name.partition("d(")[0][-1])])
    layer, params = of(layer), layer.init(lf.Key(0), x)
    (y, indices), cache = layer.forward(params, x)
    dy = normal(*y.shape, seed=1)
    dx, _ = layer.backward(params, cache, (dy, None))
    assert same_bits(layer.backward(params, cache, (dy, torch.ones_like(indices)))[0], dx)
    for g in (dy, (dy,), None, [dy, None]):
        assert_says("expected g as (dy, None), got", layer.backward, params, cache, g)


# Fractional pooling


@FORMS
def test_fractional_pooling_draws_for_each_example(of):
    layer, x = of(lf.fractional_max_pool2d(2, output_ratio=0.7)), normal(2, 3, 20, 20)
    params = layer.init(lf.Key(0), x)
    y = layer.predict(params, x)
    assert not same_bits(y[0], layer.predict(params, x[:1].expand_as(x))[1])


def test_starts_of_fractional_windows_rise_by_floor_or_ceil_of_alpha():
    x = torch.arange(25.0).expand(50, 25, 25)  # each element is its column
    layer = lf.fractional_max_pool2d(1, (25, 10))
    starts = layer.predict(layer.init(lf.Key(0), x), x)[:, 0]
    assert same_bits(starts[:, [0, -1]], torch.tensor([0.0, 24.0]).expand(50, 2))
    assert set(starts.diff()[:, :-1].unique().tolist()) == {2.0, 3.0}
    assert len(starts.unique(dim=0)) > 1


def test_fractional_pooling_fills_a_volume_that_torch_refuses():
    layer = lf.fractional_max_pool3d(2, (4, 2, 3))
    x = normal(2, 3, 5, 6, 7)
    params = layer.init(lf.Key(0), x)
    y = layer.predict(params, x)
    assert same_number(fast(layer).predict(params, x), y)
    assert y.shape == (2, 3, 4, 2, 3)
