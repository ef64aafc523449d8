"""Convolutions and transposed convolutions: each number of axes in each way of walking over x."""

import warnings

from torch import nn

import lincoln_fn as lf
from helpers.cases.case import Case, by_module, normal
from lincoln_fn.initializers import constant
from lincoln_fn.initializers import normal as normal_init

WEIGHT = {"weight": lambda p: p.weight}
BOTH = {**WEIGHT, "bias": lambda p: p.bias}


def case(layer, x, module, note=""):
    run = by_module(module, WEIGHT if module.bias is None else BOTH)

    def reference(params, x):
        with warnings.catch_warnings():
            # torch warns that an even kernel with padding="same" makes it copy its input.
            warnings.filterwarnings("ignore", "Using padding='same'", UserWarning)
            return run(params, x)

    return Case(layer, x, reference, note=note)


CONV = [
    # One axis.
    case(lf.conv1d(4, 3), normal(2, 5, 7), nn.Conv1d(5, 4, 3)),
    case(lf.conv1d(4, 3), normal(5, 7), nn.Conv1d(5, 4, 3)),
    case(lf.conv1d(4, 3, 2, 1), normal(2, 5, 8), nn.Conv1d(5, 4, 3, 2, 1)),
    case(lf.conv1d(4, 2, padding="same", dilation=3), normal(2, 5, 7),
        nn.Conv1d(5, 4, 2, padding="same", dilation=3)),
    case(lf.conv1d(4, 3, padding=(2,), padding_mode="reflect"), normal(2, 5, 7),
        nn.Conv1d(5, 4, 3, padding=2, padding_mode="reflect")),
    case(lf.conv1d(4, 3, padding=2, padding_mode="replicate"), normal(2, 5, 7),
        nn.Conv1d(5, 4, 3, padding=2, padding_mode="replicate")),
    case(lf.conv1d(4, 3, padding=2, padding_mode="circular"), normal(2, 5, 7),
        nn.Conv1d(5, 4, 3, padding=2, padding_mode="circular")),
    # Two axes.
    case(lf.conv2d(4, 3), normal(2, 3, 5, 6), nn.Conv2d(3, 4, 3)),
    case(lf.conv2d(4, 3), normal(3, 5, 6), nn.Conv2d(3, 4, 3)),
    case(lf.conv2d(4, 3), normal(1, 3, 5, 6), nn.Conv2d(3, 4, 3)),
    case(lf.conv2d(4, 3, bias=False), normal(2, 3, 5, 6), nn.Conv2d(3, 4, 3, bias=False)),
    case(lf.conv2d(4, (5, 6)), normal(2, 3, 5, 6), nn.Conv2d(3, 4, (5, 6)), "as large as x"),
    case(lf.conv2d(4, 1), normal(2, 3, 5, 6), nn.Conv2d(3, 4, 1)),
    case(lf.conv2d(4, (2, 3), 2), normal(2, 3, 6, 7), nn.Conv2d(3, 4, (2, 3), 2)),
    case(lf.conv2d(4, (2, 3), (2, 3), (1, 2)), normal(2, 3, 6, 7),
        nn.Conv2d(3, 4, (2, 3), (2, 3), (1, 2))),
    case(lf.conv2d(4, 3, padding=1), normal(2, 5, 6, 7), nn.Conv2d(5, 4, 3, padding=1)),
    case(lf.conv2d(4, 3, dilation=(2, 1)), normal(2, 3, 6, 7), nn.Conv2d(3, 4, 3, dilation=(2, 1))),
    case(lf.conv2d(6, 3, groups=2), normal(2, 4, 5, 7), nn.Conv2d(4, 6, 3, groups=2)),
    case(lf.conv2d(4, 3, groups=4), normal(2, 4, 5, 7), nn.Conv2d(4, 4, 3, groups=4)),
    case(lf.conv2d(8, 3, groups=4), normal(2, 4, 5, 7), nn.Conv2d(4, 8, 3, groups=4)),
    case(lf.conv2d(8, (5, 6), groups=4), normal(2, 4, 5, 6), nn.Conv2d(4, 8, (5, 6), groups=4)),
    case(lf.conv2d(4, 3, padding="valid"), normal(2, 3, 5, 6), nn.Conv2d(3, 4, 3, padding="valid")),
    case(lf.conv2d(4, (3, 5), padding="same"), normal(2, 3, 6, 7),
        nn.Conv2d(3, 4, (3, 5), padding="same")),
    case(lf.conv2d(4, (2, 3), padding="same"), normal(2, 3, 5, 6),
        nn.Conv2d(3, 4, (2, 3), padding="same")),
    case(lf.conv2d(4, (4, 2), padding="same", dilation=(1, 3)), normal(3, 5, 6),
        nn.Conv2d(3, 4, (4, 2), padding="same", dilation=(1, 3))),
    *(case(lf.conv2d(6, 3, 2, (1, 3), groups=2, padding_mode=mode), normal(2, 4, 5, 7),
        nn.Conv2d(4, 6, 3, 2, (1, 3), groups=2, padding_mode=mode))
        for mode in ("reflect", "replicate", "circular")),
    *(case(lf.conv2d(4, (2, 4), padding="same", padding_mode=mode), normal(3, 5, 6),
        nn.Conv2d(3, 4, (2, 4), padding="same", padding_mode=mode))
        for mode in ("reflect", "replicate", "circular")),
    case(lf.conv2d(4, 3, weight_init=normal_init(0.1), bias_init=constant(0.5)), normal(2, 3, 5, 6),
        nn.Conv2d(3, 4, 3)),
    # Three axes.
    case(lf.conv3d(4, (1, 2, 3)), normal(2, 3, 5, 6, 7), nn.Conv3d(3, 4, (1, 2, 3))),
    case(lf.conv3d(4, 3, (1, 2, 1), (0, 1, 2), dilation=(1, 1, 2)), normal(3, 4, 5, 6),
        nn.Conv3d(3, 4, 3, (1, 2, 1), (0, 1, 2), dilation=(1, 1, 2))),
    case(lf.conv3d(4, (2, 3, 1), groups=2, padding="same"), normal(1, 6, 3, 4, 5),
        nn.Conv3d(6, 4, (2, 3, 1), groups=2, padding="same")),
    *(case(lf.conv3d(4, 2, padding=(1, 0, 2), padding_mode=mode), normal(2, 3, 4, 5, 6),
        nn.Conv3d(3, 4, 2, padding=(1, 0, 2), padding_mode=mode))
        for mode in ("reflect", "replicate", "circular")),
]  # fmt: skip

CONV_TRANSPOSE = [
    case(lf.conv_transpose1d(4, 3), normal(2, 5, 7), nn.ConvTranspose1d(5, 4, 3)),
    case(lf.conv_transpose1d(4, 3, 2, 1, 1), normal(5, 7), nn.ConvTranspose1d(5, 4, 3, 2, 1, 1)),
    case(lf.conv_transpose1d(4, 3, dilation=3, output_padding=2), normal(2, 5, 7),
        nn.ConvTranspose1d(5, 4, 3, dilation=3, output_padding=2)),
    case(lf.conv_transpose2d(4, (2, 3)), normal(2, 3, 5, 6), nn.ConvTranspose2d(3, 4, (2, 3))),
    case(lf.conv_transpose2d(4, 3), normal(3, 5, 6), nn.ConvTranspose2d(3, 4, 3)),
    case(lf.conv_transpose2d(4, 3, bias=False), normal(1, 3, 5, 6),
        nn.ConvTranspose2d(3, 4, 3, bias=False)),
    case(lf.conv_transpose2d(6, (2, 3), (3, 2), (1, 2), (2, 1), groups=2), normal(2, 4, 5, 7),
        nn.ConvTranspose2d(4, 6, (2, 3), (3, 2), (1, 2), (2, 1), groups=2)),
    case(lf.conv_transpose2d(4, 3, groups=4, dilation=(1, 2)), normal(2, 4, 5, 7),
        nn.ConvTranspose2d(4, 4, 3, groups=4, dilation=(1, 2))),
    case(lf.conv_transpose2d(4, 3, weight_init=normal_init(0.1), bias_init=constant(0.5)),
        normal(2, 3, 5, 6), nn.ConvTranspose2d(3, 4, 3)),
    case(lf.conv_transpose3d(4, (1, 2, 3), (1, 2, 2), (0, 1, 0)), normal(2, 3, 4, 5, 6),
        nn.ConvTranspose3d(3, 4, (1, 2, 3), (1, 2, 2), (0, 1, 0))),
    case(lf.conv_transpose3d(4, 2, 2, 0, (0, 1, 1), groups=2), normal(6, 3, 4, 5),
        nn.ConvTranspose3d(6, 4, 2, 2, 0, (0, 1, 1), groups=2)),
]  # fmt: skip

CASES = [*CONV, *CONV_TRANSPOSE]
