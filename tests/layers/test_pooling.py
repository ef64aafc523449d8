"""Pooling beyond the table: the formulas written out, ties, layouts, dtypes and error messages."""

import math

import pytest
import torch
from helpers.cases import pooling
from helpers.cases.case import normal
from helpers.compare import same_bits, same_number
from helpers.refusals import refused

import lincoln_fn as lf
from lincoln_fn.fastpath import fast
from lincoln_fn.layers import adaptive_max_pool, avg_pool, fractional_max_pool, lp_pool, max_pool

FORMS = pytest.mark.parametrize("of", [lambda layer: layer, fast], ids=["formula", "fast"])


def run(layer, x, g=None):
    """Give y without its indices, dx and dL/dy."""
    params = layer.init(lf.Key(11), x)
    y, cache = layer.forward(params, x)
    has_indices = isinstance(y, tuple)
    y = y[0] if has_indices else y
    g = normal(*y.shape, seed=1).to(x.dtype) if g is None else g
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


@FORMS
def test_padding_of_max_pool_is_never_chosen(of):
    layer = of(lf.max_pool1d(3, stride=3, padding=1))
    x = torch.tensor([[-5.0, -2.0, -3.0, -9.0], [-math.inf] * 4])
    y, dx, _ = run(layer, x, torch.tensor([[1.0, 10.0], [100.0, 1000.0]]))
    assert same_number(y, torch.tensor([[-2.0, -3.0], [-math.inf, -math.inf]]))
    assert same_number(dx, torch.tensor([[0.0, 1.0, 10.0, 0.0], [100.0, 0.0, 1000.0, 0.0]]))


def test_an_element_largest_in_several_windows_gets_the_sum():
    _, dx, _ = run(
        lf.max_pool1d(3, stride=1), torch.tensor([[0.0, 1.0, 9.0, 2.0, 3.0]]),
        torch.tensor([[1.0, 10.0, 100.0]]),
    )  # fmt: skip
    assert same_number(dx, torch.tensor([[0.0, 0.0, 111.0, 0.0, 0.0]]))


def test_ceil_mode_leaves_out_a_window_that_starts_behind_x():
    # Rounding up alone would give a third window, at 4, with nothing but padding in it.
    x = normal(1, 1, 3)
    assert lf.max_pool1d(2, padding=1, ceil_mode=True).forward((), x)[0].shape == (1, 1, 2)
    assert run(lf.avg_pool1d(2, padding=1, ceil_mode=True), x)[1].shape == x.shape


def test_lp_pool_gives_zero_where_its_derivative_does_not_exist():
    x = torch.tensor([[0.0, 0.0, 3.0, 4.0]])
    _, dx, _ = run(lf.lp_pool1d(2, 2), x, torch.tensor([[7.0, 10.0]]))
    assert same_number(dx, torch.tensor([[0.0, 0.0, 6.0, 8.0]]))


def test_lp_pool_of_power_one_is_the_sum_even_at_zero():
    x = torch.tensor([[2.0, -2.0, 0.0, 0.0]])
    y, dx, _ = run(lf.lp_pool1d(1, 2), x, torch.tensor([[7.0, 10.0]]))
    assert same_number((y, dx), (torch.zeros(1, 2), torch.tensor([[7.0, 7.0, 10.0, 10.0]])))


@pytest.mark.parametrize("layer", [lf.max_pool2d(2), lf.avg_pool2d(2)], ids=str)
def test_channels_last_stays_channels_last(layer):
    x = normal(2, 5, 6, 8).to(memory_format=torch.channels_last)
    y, dx, _ = run(fast(layer), x)
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert dx.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@FORMS
@pytest.mark.parametrize("case", pooling.CASES, ids=str)
def test_16_bits_are_near_float64(case, of, dtype):
    x = case.x.to(dtype)
    y, dx, g = run(of(case.layer), x)
    expected_y, expected_dx, _ = run(case.layer, x.double(), g.double())
    assert y.dtype == dx.dtype == dtype
    assert same_number(y, expected_y, dtype=dtype)
    assert same_number(dx, expected_dx, dtype=dtype)


@FORMS
@pytest.mark.parametrize("case", pooling.CASES, ids=str)
def test_an_empty_batch_stays_empty(case, of):
    if "without batch" not in case.note:
        y, dx, _ = run(of(case.layer), case.x[:0])
        whole, *_ = run(case.layer, case.x)
        assert (y.shape, dx.shape) == (whole[:0].shape, case.x[:0].shape)


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

ERRORS = {
    "max_pool2d: expected x of shape (channels, h, w) or (batch, channels, h, w), got (2, 3)":
        lambda: lf.max_pool2d(2).forward((), torch.zeros(2, 3)),
    "avg_pool2d: expected x with room for a window of (2, 6), got (2, 3, 4, 5)":
        lambda: lf.avg_pool2d((2, 6)).forward((), PLANE),
    "max_pool2d: expected x with room for a window of (2, 2), got (2, 3, 4, 5)":
        lambda: lf.max_pool2d(2, dilation=5).forward((), PLANE),
    "lp_pool2d: expected x with room for a window of (5, 2), got (2, 3, 4, 5)":
        lambda: lf.lp_pool2d(2, (5, 2)).forward((), PLANE),
    "adaptive_avg_pool1d: expected x with no empty axis, got (2, 3, 0)":
        lambda: lf.adaptive_avg_pool1d(2).forward((), torch.zeros(2, 3, 0)),
    "adaptive_max_pool3d: expected x of shape (channels, d, h, w) or (batch, channels, d, h, w), "
    "got (3, 4, 5)": lambda: lf.adaptive_max_pool3d(2).forward((), PLANE[0]),
    "global_avg_pool: expected x of shape (batch, channels, *spatial), got (2, 3)":
        lambda: lf.global_avg_pool().forward((), torch.zeros(2, 3)),
    "global_avg_pool: expected x of shape (batch, channels, *spatial), got (2, 3, 0)":
        lambda: lf.global_avg_pool().forward((), torch.zeros(2, 3, 0)),
    "max_pool2d: expected params (), got (1,)": lambda: lf.max_pool2d(2).forward((1,), PLANE),
    "max_pool1d: expected padding of at most 1 for kernel_size=3 and dilation=1, got 2":
        lambda: lf.max_pool1d(3, padding=2),
    "avg_pool2d: expected padding of at most 1 for kernel_size=2 and dilation=1, got 2":
        lambda: lf.avg_pool2d((4, 2), padding=2),
    "max_pool2d: expected stride of at least 1 or None, got 0": lambda: lf.max_pool2d(2, 0),
    "max_pool2d: expected dilation of at least 1, got 0": lambda: lf.max_pool2d(2, dilation=0),
    "max_pool2d: expected padding of at least 0, got -1": lambda: lf.max_pool2d(2, padding=-1),
    "avg_pool3d: expected kernel_size as an int or a tuple of 3, got (2, 2)": lambda: lf.avg_pool3d(
        (2, 2)),
    "avg_pool2d: expected kernel_size of at least 1, got 0": lambda: lf.avg_pool2d(0),
    "avg_pool2d: expected divisor_override other than 0 or None, got 0": lambda: lf.avg_pool2d(2,
        divisor_override=0),
    "fractional_max_pool2d: expected one of output_size and output_ratio, got " "(None, None)":
        lambda: lf.fractional_max_pool2d(2),
    "fractional_max_pool3d: expected one of output_size and output_ratio, got (3, 0.5)":
        lambda: (lf.fractional_max_pool3d(2, 3, 0.5)),
    "fractional_max_pool2d: expected output_ratio between 0 and 1 or None, got 1.0":
        lambda: lf.fractional_max_pool2d(2, output_ratio=1.0),
    "fractional_max_pool2d: expected output_ratio as a number or a tuple of 2, got (0.5,)":
        lambda: lf.fractional_max_pool2d(2, output_ratio=(0.5,)),
    "fractional_max_pool2d: expected output_size[0] of at least 1, got 0":
        lambda: lf.fractional_max_pool2d(2, (0, 2)),
    "fractional_max_pool3d: expected kernel_size as an int or a tuple of 3, got (2, 2)":
        lambda: lf.fractional_max_pool3d((2, 2), 3),
    "fractional_max_pool2d: expected x with room for (4, 2) windows of (2, 2), got (2, 3, 4, 5)":
        lambda: lf.fractional_max_pool2d(2, (4, 2)).forward(KEY, PLANE),
    "fractional_max_pool2d: expected x with room for (0, 4) windows of (1, 1), got (2, 3, 4, 5)":
        lambda: lf.fractional_max_pool2d(1, output_ratio=(0.2, 0.9)).forward(KEY, PLANE),
    "fractional_max_pool2d: expected params fractional_max_pool.Params, got ()":
        lambda: lf.fractional_max_pool2d(2, 2).forward((), PLANE),
    "max_pool2d: expected g as (dy, None), got float32[2, 3, 2, 2]": lambda: max_pool.backward((),
        WITH_INDICES, PLANE[..., :2, :2]),
    "lp_pool1d: expected norm_type of at least 1, got 0.5": lambda: lf.lp_pool1d(0.5, 2),
    "lp_pool1d: expected norm_type to be a finite number of at least 1, got inf":
        lambda: lf.lp_pool1d(math.inf, 2),
    "adaptive_avg_pool2d: expected output_size of at least 1 or None, got 0":
        lambda: lf.adaptive_avg_pool2d(0),
    "adaptive_max_pool2d: expected output_size as an int or a tuple of 2, got (1, 2, 3)":
        lambda: lf.adaptive_max_pool2d((1, 2, 3)),
}  # fmt: skip


test_errors_name_what_was_expected_and_given = refused(
    [(call, message) for message, call in ERRORS.items()]
)


def test_module_functions_take_numbers_for_all_axes_or_one_for_each():
    x = normal(2, 3, 7, 9)
    for module, options in ((max_pool, {"dilation": 1}), (avg_pool, {})):
        y, _ = module.forward((), x, kernel_size=(3, 3), stride=2, padding=1, **options)
        call_repr, _ = module.forward((), x, kernel_size=(3, 3), stride=(2, 2), padding=(1, 1))
        assert same_bits(y, call_repr)
    assert lp_pool.forward((), x, norm_type=2, kernel_size=(2, 2))[0].shape == (2, 3, 3, 4)
    assert adaptive_max_pool.forward((), x, output_size=(None, 2))[0].shape == (2, 3, 7, 2)
