"""Normalisations: over the batch, over rows, over groups and places, and over near channels.

A fresh weight is all ones and a fresh bias all zeros, which would hide a factor left out, so the
layers of this table start from other numbers.
"""

from functools import partial

import torch
from torch import nn
from torch.nn import functional as F

import lincoln_fn as lf
from helpers.cases.case import Case, by_module, normal


def varied(layer):
    """The same layer, with random numbers added to its initial parameters."""
    return layer.replace(init=partial(varied_init, layer))


def varied_init(layer, key, x):
    count = iter(range(9))
    return lf.tree.map(
        lambda leaf: leaf + lf.keys.normal(key.fold_in(next(count)), tuple(leaf.shape)),
        layer.init(key, x),
    )


def case(layer, x, module, note=""):
    names = {name: lambda p, name=name: getattr(p, name) for name, _ in module.named_parameters()}
    return Case(varied(layer), x, by_module(module, names), note=note)


def without_bias(module):
    """The same module without its bias; torch's constructors take bias=False only of late."""
    module.register_parameter("bias", None)
    return module


def spread(*shape):
    """Values whose groups differ in mean and in variance."""
    x = normal(*shape)
    return x * (1 + normal(*shape[:2], *(1,) * (len(shape) - 2), seed=1).abs()) + 3


BATCH = [
    case(lf.batch_norm(), spread(5, 3), nn.BatchNorm1d(3)),
    # But for eps two values become -1 and 1, and dx is 0: with a small eps it drowns in rounding.
    case(lf.batch_norm(eps=0.1), spread(2, 3), nn.BatchNorm1d(3, eps=0.1), "a batch of two"),
    case(lf.batch_norm(), spread(4, 3, 5), nn.BatchNorm1d(3)),
    case(lf.batch_norm(), spread(1, 3, 5, 2), nn.BatchNorm2d(3), "a batch of one"),
    case(lf.batch_norm(momentum=None), spread(5, 3), nn.BatchNorm1d(3)),
    case(lf.batch_norm(affine=False), spread(4, 3, 5), nn.BatchNorm1d(3, affine=False)),
    case(lf.batch_norm(track_running_stats=False), spread(5, 3), nn.BatchNorm1d(3)),
    case(lf.batch_norm(bias=False), spread(4, 3, 5), without_bias(nn.BatchNorm1d(3))),
    case(lf.batch_norm(spatial_axes=1), spread(5, 3), nn.BatchNorm1d(3)),
    case(lf.batch_norm(spatial_axes=2), spread(4, 3, 5, 2), nn.BatchNorm2d(3)),
]  # fmt: skip

LAYER = [
    case(lf.layer_norm(), spread(5, 3), nn.LayerNorm(3)),
    case(lf.layer_norm(), spread(7), nn.LayerNorm(7), "a single row"),
    case(lf.layer_norm((-1, 3)), spread(2, 4, 5, 3), nn.LayerNorm((5, 3))),
    case(lf.layer_norm(3, eps=0.1), spread(5, 3), nn.LayerNorm(3, eps=0.1)),
    case(lf.layer_norm(bias=False), spread(5, 3), nn.LayerNorm(3, bias=False)),
    case(lf.layer_norm((-1, -1), elementwise_affine=False), spread(2, 5, 3),
        nn.LayerNorm((5, 3), elementwise_affine=False)),
]  # fmt: skip


def with_offset(params, x):
    return torch.nn.functional.rms_norm(x, (3,), 1.0 + params.weight)


RMS = [
    case(lf.rms_norm(), spread(5, 3), nn.RMSNorm(3)),
    case(lf.rms_norm((-1, -1)), spread(2, 4, 5, 3), nn.RMSNorm((5, 3))),
    case(lf.rms_norm(eps=0.1), spread(5, 3), nn.RMSNorm(3, eps=0.1)),
    Case(varied(lf.rms_norm(offset=1.0)), spread(5, 3), with_offset),
    case(lf.rms_norm((5, 3), elementwise_affine=False), spread(2, 5, 3),
        nn.RMSNorm((5, 3), elementwise_affine=False)),
]  # fmt: skip

UNIT = [
    Case(lf.normalize(), spread(5, 3), lambda params, x: F.normalize(x, dim=-1)),
    Case(lf.normalize(1, eps=3.0), normal(2, 3, 4), lambda params, x: F.normalize(x, eps=3.0)),
]

GROUP = [
    case(lf.group_norm(3), spread(5, 9), nn.GroupNorm(3, 9)),
    case(lf.group_norm(3, eps=0.1), spread(5, 6), nn.GroupNorm(3, 6, eps=0.1), "groups of two"),
    case(lf.group_norm(1), spread(4, 6, 5, 2), nn.GroupNorm(1, 6)),
    case(lf.group_norm(6), spread(4, 6, 5, 2), nn.GroupNorm(6, 6)),
    case(lf.group_norm(2, affine=False), spread(4, 6, 5), nn.GroupNorm(2, 6, affine=False)),
    case(lf.group_norm(2, bias=False), spread(4, 6, 5), without_bias(nn.GroupNorm(2, 6))),
]

INSTANCE = [
    case(lf.instance_norm(), spread(4, 3, 5), nn.InstanceNorm1d(3)),
    case(lf.instance_norm(), spread(4, 3, 5, 2), nn.InstanceNorm2d(3)),
    case(lf.instance_norm(eps=0.1), spread(1, 3, 5), nn.InstanceNorm1d(3, eps=0.1)),
    case(lf.instance_norm(affine=True, track_running_stats=True), spread(4, 3, 5, 2),
        nn.InstanceNorm2d(3, affine=True, track_running_stats=True)),
    case(lf.instance_norm(affine=True, bias=False), spread(4, 3, 5),
        without_bias(nn.InstanceNorm1d(3, affine=True))),
    case(lf.instance_norm(affine=True, track_running_stats=True, spatial_axes=2), spread(3, 5, 4),
        nn.InstanceNorm2d(3, affine=True, track_running_stats=True), "an example alone"),
]  # fmt: skip

LOCAL = [
    case(
        lf.local_response_norm(size, alpha=0.7, beta=0.6, k=1.5),
        spread(2, 5, *places),
        nn.LocalResponseNorm(size, alpha=0.7, beta=0.6, k=1.5),
    )
    for size, places in ((1, (4,)), (2, (4,)), (3, (4,)), (4, (3, 4)), (5, (3, 4, 6)), (7, (4,)))
]
LOCAL += [case(lf.local_response_norm(3), spread(2, 5, 4), nn.LocalResponseNorm(3))]

# By our field, the function of torch that makes the layer of its weight.
CALLS = {
    "dense": lambda x, w, b: nn.functional.linear(x, w.mT, b),
    "conv2d": nn.functional.conv2d,
    "conv_transpose2d": nn.functional.conv_transpose2d,
}


def of_weight(name, dim):
    """Run a layer with the weight that torch makes of lengths and directions."""

    def run(params, x):
        v, m = params.direction, params.magnitude
        return CALLS[name](x, torch._weight_norm(v.weight, m, dim), v.bias)

    return run


def of_largest(name, dim):
    """Run a layer with its weight divided by u^T W v."""

    def run(params, x):
        of, (u, v) = params.layer, (params.vectors.u, params.vectors.v)
        sigma = u @ of.weight.transpose(0, dim).flatten(1) @ v
        return CALLS[name](x, of.weight / sigma, of.bias)

    return run


MADE = [
    Case(lf.weight_norm(lf.dense(4)), normal(5, 3), of_weight("dense", 1)),
    Case(lf.weight_norm(lf.conv2d(4, 2)), normal(2, 3, 4, 3), of_weight("conv2d", 0)),
    Case(lf.spectral_norm(lf.dense(4)), normal(5, 3), of_largest("dense", 1)),
    Case(lf.spectral_norm(lf.conv_transpose2d(4, 2)), normal(2, 3, 3, 2),
        of_largest("conv_transpose2d", 1)),
]  # fmt: skip
CASES = [*BATCH, *LAYER, *RMS, *UNIT, *GROUP, *INSTANCE, *LOCAL, *MADE]
