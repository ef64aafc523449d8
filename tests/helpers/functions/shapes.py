"""Gradients of another shape, dtype or number, and gradients that are None."""

import numpy as np
import torch

from helpers.functions.pair import Pair, function, table

PAIRS: list[Pair] = []
pair = table(PAIRS)


@pair("mlpack/mlpack#3679", "db is not summed over axis 0", "4 3", "3")
def bias_gradient_not_summed_over_the_batch(fixed):
    def forward(x, b):
        return x + b, None

    def backward(_, g):
        return g, g.sum(0) if fixed else g

    return forward, backward


@pair("deeplearning4j/deeplearning4j#8280", r"db is sum\(g, 0, 2, 3\)", "2 4 3 4", "4")
def bias_gradient_summed_over_the_axes_of_another_layout(fixed):
    def forward(ctx, x, b):
        return x + b

    def backward(ctx, g):
        return g, g.sum((0, 1, 2) if fixed else (0, 2, 3))

    return function(forward, backward)


@pair(
    "HomericIntelligence/Odyssey#2080", r"dw has shape \(2, 1\), expected \(1, 3\)", "4 2 3", "1 3"
)
def axes_counted_before_the_first_ones_were_summed(fixed):
    def forward(x, w):
        return x * w, (x, w)

    def backward(saved, g):
        x, w = saved
        more = x.ndim - w.ndim
        dw = (g * x).sum(tuple(range(more)))
        for axis, size in enumerate(w.shape):
            if size == 1:
                dw = dw.sum(axis if fixed else axis + more, keepdims=True)
        return g * w, dw

    return forward, backward


def _rms_norm(keep):
    """RMSNorm whose weight gradient is given if keep(needs_input_grad), else None."""

    def forward(ctx, x, w):
        r = (x.square().mean(-1, keepdim=True) + 1e-6).rsqrt()
        ctx.save_for_backward(x, w, r)
        return x * r * w

    def backward(ctx, g):
        x, w, r = ctx.saved_tensors
        dh = g * w
        dx = r * (dh - x * r.square() * (dh * x).mean(-1, keepdim=True))
        return dx, (g * x * r).sum(0) if keep(ctx.needs_input_grad) else None

    return function(forward, backward)


@pair("unslothai/unsloth#4533", "dw is None", "4 6", "6")
def no_weight_gradient(fixed):
    return _rms_norm(lambda needs: fixed)


@pair("PaddlePaddle/Paddle#77274", "dw is (None|wrong) where w alone requires grad", "4 6", "6")
def weight_gradient_only_if_x_has_one(fixed):
    return _rms_norm(lambda needs: needs[1 if fixed else 0])


@pair("apache/mxnet#15464", "db is wrong where b alone requires grad", "4 3", "2 3", "2")
def bias_gradient_wrong_unless_the_weight_has_one(fixed):
    def forward(ctx, x, w, b):
        ctx.save_for_backward(x, w)
        return x @ w.mT + b

    def backward(ctx, g):
        x, w = ctx.saved_tensors
        dw, db = None, torch.zeros_like(w[:, 0])
        if ctx.needs_input_grad[1]:
            dw = g.mT @ x
        if ctx.needs_input_grad[2 if fixed else 1]:
            db = g.sum(0)
        return g @ w, dw, db

    return function(forward, backward)


@pair("tinygrad/tinygrad#3613", "dx has dtype float64", "4 3")
def gradient_in_the_default_dtype(fixed):
    def forward(x):
        return x[:2] * 2, x

    def backward(x, g):
        dx = np.zeros(x.shape, dtype=x.dtype if fixed else np.float64)
        dx[:2] = g * 2
        return (dx,)

    return forward, backward


@pair(
    "feifeibear/long-context-attention#156", "incorrect number of gradients", "4 3", "3", 0.5, True
)
def a_gradient_too_few(fixed):
    def forward(ctx, x, w, scale, flag):
        ctx.save_for_backward(x, w)
        ctx.scale = scale
        return x * w * scale

    def backward(ctx, g):
        x, w = ctx.saved_tensors
        dx, dw = g * w * ctx.scale, (g * x).sum(0) * ctx.scale
        return (dx, dw, None, None) if fixed else (dx, dw, None)

    return function(forward, backward)


def rope(x, sign=1.0):
    a, b = x.chunk(2, -1)
    angle = torch.arange(len(x), dtype=x.dtype)[:, None]
    cos, sin = angle.cos(), angle.sin() * sign
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


@pair("baidu-baige/LoongForge#106", "no backward that autograd sees", "4 6", reference=rope)
def kernel_without_a_backward(fixed):
    def forward(ctx, x):
        return rope(x)

    def backward(ctx, g):
        return rope(g, -1.0)

    return function(forward, backward) if fixed else torch.no_grad()(rope)
