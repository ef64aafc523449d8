"""Convolutions over one to three axes."""

import torch

import lincoln_fn as lf
from helpers.cases.case import normal

MAKERS = [
    lf.conv1d, lf.conv2d, lf.conv3d, lf.conv_transpose1d, lf.conv_transpose2d, lf.conv_transpose3d
]  # fmt: skip


def axes_of(maker):
    return int(maker.__name__[-2])


def input_for(maker, batch=2, channels=4, dtype=torch.float32):
    return normal(batch, channels, *(5, 6, 7)[: axes_of(maker)]).to(dtype)


def run(layer, params, x):
    y, cache = layer.forward(params, x)
    g = lf.keys.normal(lf.Key(3), tuple(y.shape)).to(y.dtype)
    dx, dparams = layer.backward(params, cache, g)
    return y, dx, dparams.weight, dparams.bias, g
