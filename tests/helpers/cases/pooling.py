"""Pooling: each number of axes in each way of laying windows over x."""

from torch import nn

import lincoln_fn as lf
from helpers.cases.case import Case, both, by_module, normal, uniform
from lincoln_fn.layers.fractional_max_pool import draw_samples


def fractional(x, n, *arguments, note="", **options):
    """Pair our constructor with torch's class, which is given the samples that ours draws."""

    def theirs(params, x):
        samples = draw_samples(params.key, x, n).reshape(-1, x.shape[-n - 1], n)
        make = getattr(nn, f"FractionalMaxPool{n}d")
        return make(*arguments, **options, _random_samples=samples)(x)

    layer = getattr(lf, f"fractional_max_pool{n}d")(*arguments, **options)
    return Case(layer, x, theirs, predict_is_forward=True, note=note)


LINE, PLANE, SPACE = normal(2, 3, 11), normal(2, 3, 7, 9), normal(2, 3, 5, 6, 7)

MAX = [
    both("max_pool1d", LINE, 3),
    both("max_pool1d", LINE, 3, 2, padding=1, note="overlapping"),
    both("max_pool1d", normal(3, 11), 3, note="without batch"),
    both("max_pool2d", PLANE, 2),
    both("max_pool2d", PLANE, (3, 2), (1, 2), padding=(1, 0), dilation=(2, 3)),
    both("max_pool2d", PLANE, 3, (2, 5), ceil_mode=True),
    both("max_pool2d", PLANE, (7, 9), note="as large as x"),
    both("max_pool3d", SPACE, 2),
    both("max_pool3d", SPACE, (2, 3, 1), (1, 2, 3), padding=(1, 1, 0), ceil_mode=True),
    both("max_pool2d", PLANE, 3, (2, 5), ceil_mode=True, return_indices=True),
    both("max_pool2d", normal(3, 7, 9), 3, (1, 2), padding=1, dilation=(2, 1), return_indices=True,
        note="without batch"),
    both("max_pool3d", SPACE, (2, 3, 1), (1, 2, 3), padding=(1, 1, 0), return_indices=True),
]  # fmt: skip

AVG = [
    both("avg_pool1d", LINE, 3),
    both("avg_pool1d", LINE, 3, 2, padding=1, count_include_pad=False),
    both("avg_pool1d", normal(3, 11), 3, note="without batch"),
    both("avg_pool2d", PLANE, 2),
    both("avg_pool2d", PLANE, (3, 4), 2, padding=(1, 2), count_include_pad=False),
    both("avg_pool2d", PLANE, 4, 3, padding=1, ceil_mode=True, count_include_pad=False),
    both("avg_pool2d", PLANE, (2, 3), divisor_override=5),
    both("avg_pool2d", PLANE, (7, 9), note="as large as x"),
    both("avg_pool3d", SPACE, 2),
    both("avg_pool3d", SPACE, (2, 3, 4), (1, 2, 3), padding=(1, 1, 2), count_include_pad=False),
    both("avg_pool3d", SPACE, (2, 3, 1), ceil_mode=True, divisor_override=7),
]

LP = [
    both("lp_pool1d", uniform(2, 3, 11, low=0.1), 3, 4),
    both("lp_pool2d", uniform(2, 3, 7, 9, low=0.1), 1.5, (2, 3), stride=2),
    both("lp_pool2d", uniform(2, 3, 7, 9, low=0.1), 3, (2, 3), stride=(2, 5), ceil_mode=True),
    both("lp_pool3d", uniform(2, 3, 5, 6, 7, low=0.1), 2, (2, 3, 4)),
    both("lp_pool1d", normal(3, 11), 2, 3, note="without batch"),
    both("lp_pool2d", PLANE, 4, 3),
]

ADAPTIVE = [
    both("adaptive_avg_pool1d", LINE, 4),
    both("adaptive_avg_pool1d", normal(3, 11), 4, note="without batch"),
    both("adaptive_avg_pool2d", PLANE, (4, 2)),
    both("adaptive_avg_pool2d", PLANE, (None, 4)),
    both("adaptive_avg_pool2d", PLANE, (10, 5), note="more than x has"),
    both("adaptive_avg_pool3d", SPACE, (2, 4, 3)),
    both("adaptive_max_pool1d", LINE, 4),
    both("adaptive_max_pool1d", normal(3, 11), 4, note="without batch"),
    both("adaptive_max_pool2d", PLANE, (4, 2)),
    both("adaptive_max_pool3d", SPACE, (2, 4, 3)),
    both("adaptive_max_pool2d", PLANE, (4, 2), return_indices=True),
    both("adaptive_max_pool3d", normal(3, 5, 6, 7), 2, return_indices=True, note="without batch"),
]

FRACTIONAL = [
    fractional(PLANE, 2, 2, (4, 5)),
    fractional(PLANE, 2, (2, 3), output_ratio=0.6),
    fractional(PLANE, 2, (3, 1), output_ratio=(0.3, 0.8), return_indices=True),
    fractional(PLANE, 2, 2, (1, 8), note="one window, and as many as there is room for"),
    fractional(normal(3, 7, 9), 2, 2, 4, note="without batch"),
    fractional(SPACE, 3, 2, (3, 4, 2)),
    fractional(SPACE, 3, (1, 3, 2), output_ratio=(0.7, 0.5, 0.6), return_indices=True),
]

GLOBAL = [
    Case(lf.global_avg_pool(), LINE, lambda params, x: x.mean(2)),
    Case(lf.global_avg_pool(), PLANE,
        by_module(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()))),
    Case(lf.global_avg_pool(keepdim=True), SPACE, by_module(nn.AdaptiveAvgPool3d(1))),
]  # fmt: skip

CASES = [*MAX, *AVG, *LP, *ADAPTIVE, *FRACTIONAL, *GLOBAL]
