"""Shapes beyond the table: formulas written out, what is shared, layouts and error messages."""

import itertools
from typing import get_args

import pytest
import torch
from helpers import normal, run, same_bits, same_number
from helpers.cases import shape
from helpers.refusals import refusals

import lincoln_fn as lf
from lincoln_fn.layers import upsample


@pytest.mark.parametrize("layer", [lf.flatten(), lf.unflatten(2, (2, 3)), lf.reshape(2, -1)])
def test_joined_and_split_axes_share_their_elements(layer):
    x = normal(2, 4, 6)
    g = normal(*layer.predict((), x).shape, seed=1)
    y, dx, _ = run(layer, (), x, g)
    assert (y.data_ptr(), dx.data_ptr()) == (x.data_ptr(), g.data_ptr())
    assert same_bits((y.flatten(), dx), (x.flatten(), g.reshape(x.shape)))


@pytest.mark.full(but=("nearest-exact",))
@pytest.mark.parametrize("mode", get_args(upsample.Mode))
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
            expected = torch.nn.functional.interpolate(x, mode=mode, align_corners=align, **options)
            y, _ = upsample.forward((), x, mode=mode, align_corners=bool(align), **options)
            assert same_number(y, expected, length=0 if mode.startswith("nearest") else 256)


@pytest.mark.parametrize("case", shape.CASES, ids=str)
def test_caches_hold_no_elements(case):
    _, cache = case.layer.forward((), case.x)
    assert {t.untyped_storage().nbytes() for t in lf.tree.leaves(cache)} == {4}


PLANE = torch.zeros(2, 3, 4, 5)


test_errors_name_what_was_expected_and_given = refusals("""
flatten(4).forward((), PLANE) -> ^flatten: expected x to have an axis dim=4, got shape (2, 3, 4, 5)$
flatten(3, -2).forward((), PLANE) -> ^flatten: expected start_dim=3 at or before end_dim=-2, got
    shape (2, 3, 4, 5)$
unflatten(2, (3, -1)).forward((), PLANE) -> ^unflatten: expected x with an axis dim=2 to split into
    (3, -1), got shape (2, 3, 4, 5)$
unflatten(4, (3, -1)).forward((), PLANE) -> ^unflatten: expected x to have an axis dim=4, got shape
    (2, 3, 4, 5)$
unflatten(2, (-1, -1)) -> ^unflatten: expected unflattened_size with at most one -1, got (-1, -1)$
reshape(7, -1).forward((), PLANE) -> ^reshape: expected x with a batch axis and examples to reshape
    to (7, -1), got (2, 3, 4, 5)$
permute(0, 2, 1).forward((), PLANE) -> ^permute: expected x whose axes are (0, 2, 1), each once, got
    shape (2, 3, 4, 5)$
permute(0, 2, 2, -1).forward((), PLANE) -> ^permute: expected dims of 4 axes, each once, got (0, 2,
    2, -1)$
pixel_shuffle(3).forward((), torch.zeros(2, 6, 4, 5)) -> ^pixel_shuffle: expected x of shape (...,
    channels, height, width), the channels a multiple of 9, got (2, 6, 4, 5)$
pixel_unshuffle(2).forward((), PLANE) -> ^pixel_unshuffle: expected x of shape (..., channels,
    height, width), both sizes multiples of 2, got (2, 3, 4, 5)$
lf.upsample(2).forward((), PLANE[0, 0]) -> ^upsample: expected x of shape (batch, channels,
    *spatial) with 1 or 2 or 3 spatial axes for mode='nearest', got (4, 5)$
lf.upsample(2, mode='linear').forward((), PLANE) -> ^upsample: expected x of shape (batch, channels,
    *spatial) with 1 spatial axes for mode='linear', got (2, 3, 4, 5)$
lf.upsample((2,)).forward((), PLANE) -> ^upsample: expected x with spatial axes to upsample to
    size=(2,), got (2, 3, 4, 5)$
lf.upsample(scale_factor=(2, 2, 2)).forward((), PLANE) -> ^upsample: expected x with spatial axes to
    upsample to scale_factor=(2, 2, 2), got (2, 3, 4, 5)$
upsample.forward((), PLANE) -> ^upsample: expected x with spatial axes to upsample to size=None, got
    (2, 3, 4, 5)$
lf.upsample(2, 2) -> ^upsample: expected either size or scale_factor, got (2, 2)$
lf.upsample(2, mode='nearest-exact', align_corners=True) -> ^upsample: expected no align_corners
    with mode='nearest-exact', got True$
zero_pad2d(1).forward((), PLANE[0, 0]) -> ^zero_pad2d: expected x of shape (channels, h, w) or
    (batch, channels, h, w), got (4, 5)$
""")
