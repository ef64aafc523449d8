"""Shapes beyond the table: formulas written out, what is shared, layouts and error messages."""

import itertools
import math

import pytest
import torch
from helpers.cases import shape
from helpers.cases.case import normal
from helpers.compare import same_bits, same_number
from helpers.refusals import refused
from torch.nn import functional as F

import lincoln_fn as lf
from lincoln_fn.layers import pad, upsample


def run(layer, x, g=None):
    y, cache = layer.forward((), x)
    g = normal(*y.shape, seed=1).to(x.dtype) if g is None else g
    return y, layer.backward((), cache, g)[0], g


@pytest.mark.parametrize("layer", [lf.flatten(), lf.unflatten(2, (2, 3)), lf.reshape(2, -1)])
def test_joined_and_split_axes_share_their_elements(layer):
    x = normal(2, 4, 6)
    y, dx, g = run(layer, x)
    assert y.data_ptr() == x.data_ptr()
    assert dx.data_ptr() == g.data_ptr()
    assert same_bits((y.flatten(), dx), (x.flatten(), g.reshape(x.shape)))


def test_permute_takes_each_axis_back():
    x = normal(2, 3, 4, 5)
    for dims in itertools.permutations(range(4)):
        y, dx, g = run(lf.permute(*dims), x)
        for i in itertools.product((0, 1), (0, 2), (1, 3), (2, 4)):
            assert y[tuple(i[dim] for dim in dims)] == x[i]
            assert dx[i] == g[tuple(i[dim] for dim in dims)]


def test_pixel_shuffle_is_the_formula_written_out():
    r, x = 2, normal(8, 3, 4)
    y, dx, g = run(lf.pixel_shuffle(r), x)
    back, dback, gback = run(lf.pixel_unshuffle(r), g)
    for c, i, j, h, w in itertools.product(range(2), range(r), range(r), range(3), range(4)):
        few, many = (c, r * h + i, r * w + j), (c * r * r + i * r + j, h, w)
        assert (y[few], dx[many]) == (x[many], g[few])
        assert (back[many], dback[few]) == (g[few], gback[many])


def keys_kernel(t, a=-0.75):
    t = abs(t)
    if t <= 1:
        return (a + 2) * t**3 - (a + 3) * t**2 + 1
    return a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a if t < 2 else 0.0


def weights(size, n, mode, align_corners=False, ratio=None):
    """Write out the matrix A of one axis."""
    matrix = torch.zeros(n, size, dtype=torch.float64)
    ratio = size / n if ratio is None else ratio
    for o in range(n):
        place = (o + 0.5) * ratio - 0.5
        if align_corners:
            place = o * (size - 1) / (n - 1)
        if mode == "nearest":
            terms = {math.floor(o * ratio): 1.0}
        elif mode == "nearest-exact":
            terms = {math.floor((o + 0.5) * ratio): 1.0}
        elif mode == "bicubic":
            low = math.floor(place)
            terms = {i: keys_kernel(place - i) for i in range(low - 1, low + 3)}
        else:
            place = max(place, 0.0)
            low = math.floor(place)
            terms = {low: 1 - (place - low), low + 1: place - low}
        for i, weight in terms.items():
            matrix[o, min(max(i, 0), size - 1)] += weight
    return matrix


@pytest.mark.parametrize(("mode", "sizes"), [
    ("nearest", (7,)), ("nearest", (7, 3)), ("nearest", (7, 3, 8)), ("nearest-exact", (7,)),
    ("nearest-exact", (7, 3)), ("nearest-exact", (7, 3, 8)), ("linear", (7,)), ("bilinear", (7, 3)),
    ("trilinear", (7, 3, 8)), ("bicubic", (7, 3)),
])  # fmt: skip
def test_upsample_is_the_matrix_written_out(mode, sizes):
    x = normal(2, 3, *(4, 5, 3)[: len(sizes)]).double()
    for align_corners in (False,) if mode.startswith("nearest") else (False, True):
        y, dx, g = run(lf.upsample(sizes, mode=mode, align_corners=align_corners), x)
        expected_y, expected_dx = x, g
        for axis, n in enumerate(sizes, 2):
            a = weights(x.shape[axis], n, mode, align_corners)
            expected_y = (expected_y.movedim(axis, -1) @ a.mT).movedim(-1, axis)
            expected_dx = (expected_dx.movedim(axis, -1) @ a).movedim(-1, axis)
        assert same_number((y, dx), (expected_y, expected_dx))


@pytest.mark.parametrize("mode", upsample.MODES)
def test_upsample_is_torchs_at_every_size(mode):
    n = {"linear": 1, "bilinear": 2, "bicubic": 2, "trilinear": 3}.get(mode, 1)
    corners = (None,) if mode.startswith("nearest") else (False, True)
    # For 82, float32 and float64 round some places to other sides of a whole number; where torch
    # rounds those of nearest-exact depends on the processor.
    wanted = [{"size": size} for size in (*range(1, 25), *[82] * (mode != "nearest-exact"))]
    wanted += [{"scale_factor": f} for f in (1.0, 1.1, 1.3, 1.7, 2.0, 2.3, 2.5, 3.0)]
    for size, options, align in itertools.product(range(1, 9), wanted, corners):
        options = {key: (value, *[2] * (n - 1)) for key, value in options.items()}
        for dtype in (torch.float32, torch.float64):
            x = normal(1, 2, size, *[3] * (n - 1)).to(dtype)
            expected = F.interpolate(x, mode=mode, align_corners=align, **options)
            y, _ = upsample.forward((), x, mode=mode, align_corners=bool(align), **options)
            assert same_number(y, expected, length=0 if mode.startswith("nearest") else 256)


def test_upsample_by_a_factor_reads_x_at_that_factor():
    # 4 elements by 2.3 make 9, and 1 / 2.3 is another ratio than 4 / 9.
    x = normal(1, 1, 4).double()
    y, dx, g = run(lf.upsample(scale_factor=2.3, mode="linear"), x)
    a = weights(4, 9, "linear", ratio=1 / 2.3)
    assert same_number((y, dx), (x @ a.mT, g @ a))


def source(j, n, mode):
    """Tell which of n elements is copied to place j, which counts from the first of them."""
    if mode == "constant":
        return j if 0 <= j < n else None
    if mode == "reflect":
        return 2 * (n - 1) - j if j >= n else abs(j)
    return min(max(j, 0), n - 1) if mode == "replicate" else j % n


@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate", "circular"])
@pytest.mark.parametrize("padding", [(2, 1), (2, 1, 0, 3), (2, 1, 0, 3, 1, 2)])
def test_padding_is_the_formula_written_out(mode, padding):
    pairs = list(zip(padding[::2], padding[1::2], strict=True))[::-1]
    x = normal(*(4, 5, 6)[-len(pairs) :])
    y, cache = pad.forward((), x[None], padding=padding, mode=mode, value=7.0)
    g = normal(*y.shape, seed=1)
    expected_dx = torch.zeros_like(x)
    for place in itertools.product(*map(range, y.shape[1:])):
        at = [
            source(j - before, n, mode)
            for j, (before, _), n in zip(place, pairs, x.shape, strict=True)
        ]
        if None in at:
            assert y[0][place] == 7.0
        else:
            assert y[0][place] == x[tuple(at)]
            expected_dx[tuple(at)] += g[0][place]
    assert same_number(pad.backward((), cache, g)[0][0], expected_dx)


@pytest.mark.parametrize("case", shape.CASES, ids=str)
def test_bfloat16_is_near_float64(case):
    x = case.x.bfloat16()
    y, dx, g = run(case.layer, x)
    expected_y, expected_dx, _ = run(case.layer, x.double(), g.double())
    assert y.dtype == dx.dtype == torch.bfloat16
    assert same_number(y, expected_y, dtype=torch.bfloat16)
    assert same_number(dx, expected_dx, dtype=torch.bfloat16)


@pytest.mark.parametrize("case", shape.CASES, ids=str)
def test_caches_hold_no_elements(case):
    _, cache = case.layer.forward((), case.x)
    assert {t.untyped_storage().nbytes() for t in lf.tree.leaves(cache)} == {4}


@pytest.mark.parametrize("layer", [
    lf.flatten(), lf.reshape(60), lf.permute(0, 2, 1, 3), lf.upsample(7), lf.zero_pad2d(1),
], ids=str)  # fmt: skip
def test_an_empty_batch_stays_empty(layer):
    y, dx, _ = run(layer, torch.zeros(0, 3, 4, 5))
    assert y.shape[0] == 0
    assert dx.shape == (0, 3, 4, 5)


PLANE = torch.zeros(2, 3, 4, 5)

ERRORS = {
    "flatten: expected x to have an axis dim=4, got shape (2, 3, 4, 5)": (
        lambda: lf.flatten(4).forward((), PLANE)
    ),
    "flatten: expected x to have an axis dim=-5, got shape (2, 3, 4, 5)": (
        lambda: lf.flatten(0, -5).forward((), PLANE)
    ),
    "flatten: expected start_dim=3 at or before end_dim=-2, got shape (2, 3, 4, 5)": (
        lambda: lf.flatten(3, -2).forward((), PLANE)
    ),
    "unflatten: expected x with an axis dim=2 to split into (3, -1), got shape (2, 3, 4, 5)": (
        lambda: lf.unflatten(2, (3, -1)).forward((), PLANE)
    ),
    "unflatten: expected x to have an axis dim=4, got shape (2, 3, 4, 5)": (
        lambda: lf.unflatten(4, (3, -1)).forward((), PLANE)
    ),
    "unflatten: expected unflattened_size with at most one -1, got (-1, -1)": (
        lambda: lf.unflatten(2, (-1, -1))
    ),
    "reshape: expected x with a batch axis and examples to reshape to (7, -1), got (2, 3, 4, 5)": (
        lambda: lf.reshape(7, -1).forward((), PLANE)
    ),
    "reshape: expected x with a batch axis and examples to reshape to (3, 5), got (2, 3, 4, 5)": (
        lambda: lf.reshape(3, 5).forward((), PLANE)
    ),
    "reshape: expected x with a batch axis and examples to reshape to (1,), got ()": (
        lambda: lf.reshape(1).forward((), torch.tensor(1.0))
    ),
    "reshape: expected shape[0] positive or -1, got 0": (lambda: lf.reshape(0, 3)),
    "permute: expected x whose axes are (0, 2, 1), each once, got shape (2, 3, 4, 5)": (
        lambda: lf.permute(0, 2, 1).forward((), PLANE)
    ),
    "permute: expected dims of 4 axes, each once, got (0, 2, 2, -1)": (
        lambda: lf.permute(0, 2, 2, -1).forward((), PLANE)
    ),
    "pixel_shuffle: expected x of shape (..., channels, height, width), the channels a multiple "
    "of 9, got (2, 6, 4, 5)": lambda: lf.pixel_shuffle(3).forward((), torch.zeros(2, 6, 4, 5)),
    "pixel_unshuffle: expected x of shape (..., channels, height, width), both sizes multiples "
    "of 2, got (2, 3, 4, 5)": lambda: lf.pixel_unshuffle(2).forward((), PLANE),
    "pixel_unshuffle: expected x of shape (..., channels, height, width), both sizes multiples "
    "of 5, got (2, 3, 4, 5)": lambda: lf.pixel_unshuffle(5).forward((), PLANE),
    "pixel_unshuffle: expected x of shape (..., channels, height, width), both sizes multiples "
    "of 1, got (4, 5)": lambda: lf.pixel_unshuffle(1).forward((), PLANE[0, 0]),
    "pixel_shuffle: expected upscale_factor of at least 1, got 0": lambda: lf.pixel_shuffle(0),
    "pixel_unshuffle: expected downscale_factor of at least 1, got 0": (
        lambda: lf.pixel_unshuffle(0)
    ),
    "upsample: expected x of shape (batch, channels, *spatial) with 1 or 2 or 3 spatial axes for "
    "mode='nearest', got (4, 5)": lambda: lf.upsample(2).forward((), PLANE[0, 0]),
    "upsample: expected x of shape (batch, channels, *spatial) with 1 spatial axes for "
    "mode='linear', got (2, 3, 4, 5)": lambda: lf.upsample(2, mode="linear").forward((), PLANE),
    "upsample: expected x of shape (batch, channels, *spatial) with 1 spatial axes for "
    "mode='linear', got (2, 0, 4)": (
        lambda: lf.upsample(2, mode="linear").forward((), torch.zeros(2, 0, 4))
    ),
    "upsample: expected x with spatial axes to upsample to size=(2,), got (2, 3, 4, 5)": (
        lambda: lf.upsample((2,)).forward((), PLANE)
    ),
    "upsample: expected x with spatial axes to upsample to scale_factor=(2, 2, 2), "
    "got (2, 3, 4, 5)": lambda: lf.upsample(scale_factor=(2, 2, 2)).forward((), PLANE),
    "upsample: expected x with spatial axes to upsample to scale_factor=0.2, got (2, 3, 4, 5)": (
        lambda: lf.upsample(scale_factor=0.2).forward((), PLANE)
    ),
    "upsample: expected x with spatial axes to upsample to size=None, got (2, 3, 4, 5)": (
        lambda: upsample.forward((), PLANE)
    ),
    "upsample: expected either size or scale_factor, got (2, 2)": (lambda: lf.upsample(2, 2)),
    "upsample: expected either size or scale_factor, got (None, None)": (lambda: lf.upsample()),
    "upsample: expected size[1] of at least 1, got 0": lambda: lf.upsample((2, 0)),
    "upsample: expected scale_factor above 0 or None, got -1.5": lambda: lf.upsample(
        scale_factor=-1.5
    ),
    "upsample: expected mode to be 'nearest', 'nearest-exact', 'linear', 'bilinear', 'trilinear' "
    "or 'bicubic', got 'cubic'": lambda: lf.upsample(2, mode="cubic"),
    "upsample: expected no align_corners with mode='nearest-exact', got True": (
        lambda: lf.upsample(2, mode="nearest-exact", align_corners=True)
    ),
    "pad: expected x of shape (channels, h, w) or (batch, channels, h, w), got (4, 5)": (
        lambda: lf.zero_pad2d(1).forward((), PLANE[0, 0])
    ),
    "pad: expected padding from 0 to 3 for reflect on an axis of 4, got (4, 4)": (
        lambda: lf.reflection_pad2d(4).forward((), PLANE)
    ),
    "zero_pad2d: expected padding as an int or a tuple of 4, got (1, 2)": (
        lambda: lf.zero_pad2d((1, 2))
    ),
    "circular_pad1d: expected padding[1] of at least 0, got -2": (
        lambda: lf.circular_pad1d((1, -2))
    ),
}


test_errors_name_what_was_expected_and_given = refused(
    [(call, message) for message, call in ERRORS.items()]
)
