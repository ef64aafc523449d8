"""Convolutions and transposed convolutions: each number of axes in each way of walking over x."""

import warnings

from torch import nn

import lincoln_fn as lf
from helpers.cases.case import Case, by_module, normal

WEIGHT = {"weight": lambda p: p.weight}
BOTH = {**WEIGHT, "bias": lambda p: p.bias}
MODES = ("reflect", "replicate", "circular")
INITS = {"weight_init": lf.initializers.normal(0.1), "bias_init": lf.initializers.constant(0.5)}


def both(name, x, *arguments, note="", inits=None, **options):
    """Pair our constructor with torch's class of the same hyperparameters."""
    theirs = getattr(nn, name.title().replace("_", "").replace("D", "d"))
    module = theirs(x.shape[-1 - int(name[-2])], *arguments, **options)
    run = by_module(module, WEIGHT if module.bias is None else BOTH)

    def reference(params, x):
        with warnings.catch_warnings():
            # torch warns that an even kernel with padding="same" makes it copy its input.
            warnings.filterwarnings("ignore", "Using padding='same'", UserWarning)
            return run(params, x)

    reference.module = module
    layer = getattr(lf, name)(*arguments, **options, **(inits or {}))
    return Case(layer, x, reference, note=note)


CONV = [
    # One axis.
    both("conv1d", normal(2, 5, 7), 4, 3),
    both("conv1d", normal(5, 7), 4, 3),
    both("conv1d", normal(2, 5, 8), 4, 3, 2, 1),
    both("conv1d", normal(2, 5, 7), 4, 2, padding="same", dilation=3),
    *(both("conv1d", normal(2, 5, 7), 4, 3, padding=(2,), padding_mode=mode) for mode in MODES),
    # Two axes.
    both("conv2d", normal(2, 3, 5, 6), 4, 3),
    both("conv2d", normal(2, 3, 5, 6), 4, 3, bias=False),
    both("conv2d", normal(2, 3, 5, 6), 4, (5, 6), note="as large as x"),
    both("conv2d", normal(2, 3, 6, 7), 4, (2, 3), (2, 3), (1, 2)),
    both("conv2d", normal(2, 3, 6, 7), 4, 3, dilation=(2, 1)),
    both("conv2d", normal(2, 4, 5, 7), 6, 3, groups=2),
    both("conv2d", normal(2, 4, 5, 7), 8, 3, groups=4),
    both("conv2d", normal(2, 3, 5, 6), 4, 3, padding="valid"),
    both("conv2d", normal(2, 3, 6, 7), 4, (3, 5), padding="same"),
    both("conv2d", normal(2, 3, 5, 6), 4, (2, 3), padding="same"),
    both("conv2d", normal(3, 5, 6), 4, (4, 2), padding="same", dilation=(1, 3)),
    *(both("conv2d", normal(2, 4, 5, 7), 6, 3, 2, (1, 3), groups=2, padding_mode=mode)
        for mode in MODES),
    both("conv2d", normal(2, 3, 5, 6), 4, 3, inits=INITS),
    # Three axes.
    both("conv3d", normal(2, 3, 5, 6, 7), 4, (1, 2, 3)),
    both("conv3d", normal(3, 4, 5, 6), 4, 3, (1, 2, 1), (0, 1, 2), dilation=(1, 1, 2)),
    both("conv3d", normal(1, 6, 3, 4, 5), 4, (2, 3, 1), groups=2, padding="same"),
    *(both("conv3d", normal(2, 3, 4, 5, 6), 4, 2, padding=(1, 0, 2), padding_mode=mode)
        for mode in MODES),
]  # fmt: skip

CONV_TRANSPOSE = [
    both("conv_transpose1d", normal(2, 5, 7), 4, 3),
    both("conv_transpose1d", normal(5, 7), 4, 3, 2, 1, 1),
    both("conv_transpose1d", normal(2, 5, 7), 4, 3, dilation=3, output_padding=2),
    both("conv_transpose2d", normal(2, 3, 5, 6), 4, (2, 3)),
    both("conv_transpose2d", normal(3, 5, 6), 4, 3),
    both("conv_transpose2d", normal(1, 3, 5, 6), 4, 3, bias=False),
    both("conv_transpose2d", normal(2, 4, 5, 7), 6, (2, 3), (3, 2), (1, 2), (2, 1), groups=2),
    both("conv_transpose2d", normal(2, 4, 5, 7), 4, 3, groups=4, dilation=(1, 2)),
    both("conv_transpose3d", normal(2, 3, 4, 5, 6), 4, (1, 2, 3), (1, 2, 2), (0, 1, 0)),
    both("conv_transpose3d", normal(6, 3, 4, 5), 4, 2, 2, 0, (0, 1, 1), groups=2),
]  # fmt: skip

CASES = [*CONV, *CONV_TRANSPOSE]
