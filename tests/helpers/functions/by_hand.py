"""Functions as libraries of kernels write them, in plain torch and right.

Further ones are the fifty bugs after their repair.
"""

from typing import Any

import torch

from helpers.functions.pair import function, leaf

# Name, Function, inputs.
ROWS: list[tuple[str, Any, tuple[Any, ...]]] = []


def entered(*inputs):
    def enter(make):
        ROWS.append((make.__name__, function(*make()), inputs))
        return make

    return enter


X, Y, W, B = leaf(4, 6), leaf(4, 6, seed=1), leaf(6, seed=2), leaf(6, seed=3)


def _normed(x):
    r = (x.square().mean(-1, keepdim=True) + 1e-6).rsqrt()
    return x * r, r


def _norm_grad(h, r, g):
    return r * (g - h * (g * h).mean(-1, keepdim=True))


@entered(X, W, 1.0)
def rms_norm_with_offset():
    def forward(ctx, x, w, offset):
        ctx.offset = offset
        ctx.save_for_backward(x, w)
        return _normed(x)[0] * (w + offset)

    def backward(ctx, g):
        x, w = ctx.saved_tensors
        h, r = _normed(x)
        return _norm_grad(h, r, g * (w + ctx.offset)), (g * h).sum(0), None

    return forward, backward


@entered(X, Y)
def geglu():
    def gate(a):
        t = (0.7978845608028654 * (a + 0.044715 * a**3)).tanh()
        slope = 0.7978845608028654 * (1 + 3 * 0.044715 * a**2) * (1 - t**2)
        return a * (1 + t) / 2, (1 + t) / 2 + a * slope / 2

    def forward(ctx, a, b):
        ctx.save_for_backward(a, b)
        return gate(a)[0] * b

    def backward(ctx, g):
        a, b = ctx.saved_tensors
        y, slope = gate(a)
        return g * b * slope, g * y

    return forward, backward


@entered(X, torch.tensor([0, -100, 5, 3]))
def cross_entropy_with_ignored_rows():
    def forward(ctx, x, target):
        kept = (target >= 0).to(x.dtype)
        ctx.save_for_backward(x, target, kept)
        own = x.gather(1, target.clamp(min=0)[:, None])[:, 0]
        return ((x.logsumexp(-1) - own) * kept).sum() / kept.sum()

    def backward(ctx, g):
        x, target, kept = ctx.saved_tensors
        hot = torch.nn.functional.one_hot(target.clamp(min=0), x.shape[-1])
        return g * (x.softmax(-1) - hot) * (kept / kept.sum())[:, None], None

    return forward, backward


@entered(X, Y)
def jensen_shannon():
    def forward(ctx, x, y):
        ctx.save_for_backward(x, y)
        p, q = x.softmax(-1), y.softmax(-1)
        m = ((p + q) / 2).log()
        return (p * (p.log() - m) + q * (q.log() - m)).sum(-1) / 2

    def backward(ctx, g):
        p, q = (t.softmax(-1) for t in ctx.saved_tensors)
        m = ((p + q) / 2).log()
        slopes = ((p.log() - m) / 2, (q.log() - m) / 2)
        return tuple(
            g[:, None] * t * (s - (t * s).sum(-1, keepdim=True))
            for t, s in zip((p, q), slopes, strict=True)
        )

    return forward, backward


@entered(X, leaf(), W, B)
def dynamic_tanh():
    def forward(ctx, x, alpha, w, b):
        ctx.save_for_backward(x, alpha, w)
        return (alpha * x).tanh() * w + b

    def backward(ctx, g):
        x, alpha, w = ctx.saved_tensors
        t = (alpha * x).tanh()
        d = g * w * (1 - t.square())
        return d * alpha, (d * x).sum(), (g * t).sum(0), g.sum(0)

    return forward, backward


@entered(X, leaf(5, 6, seed=1).detach(), leaf(2, 6, seed=2), leaf(5, 2, seed=3), 0.5)
def low_rank_linear():
    def forward(ctx, x, w, a, b, scale):
        ctx.scale = scale
        ctx.save_for_backward(x, w, a, b)
        return x @ w.mT + scale * (x @ a.mT) @ b.mT

    def backward(ctx, g):
        x, w, a, b = ctx.saved_tensors
        d = ctx.scale * g
        return g @ w + d @ b @ a, None, (d @ b).mT @ x, d.mT @ (x @ a.mT), None

    return forward, backward


@entered(leaf(2, 4, 3), W[:4].detach().requires_grad_(), B[:4].detach().requires_grad_())
def group_norm_of_two():
    def forward(ctx, x, w, b):
        ctx.save_for_backward(x, w)
        parts = x.reshape(len(x), 2, -1)
        h, _ = _normed(parts - parts.mean(-1, keepdim=True))
        return h.reshape(x.shape) * w[:, None] + b[:, None]

    def backward(ctx, g):
        x, w = ctx.saved_tensors
        parts = x.reshape(len(x), 2, -1)
        h, r = _normed(parts - parts.mean(-1, keepdim=True))
        d = _norm_grad(h, r, (g * w[:, None]).reshape(parts.shape))
        dx = (d - d.mean(-1, keepdim=True)).reshape(x.shape)
        return dx, (g * h.reshape(x.shape)).sum((0, 2)), g.sum((0, 2))

    return forward, backward


@entered(X, 3)
def maximum_of_the_largest():
    def forward(ctx, x, k):
        values, index = x.topk(k, -1)
        ctx.mark_non_differentiable(index)
        ctx.save_for_backward(index)
        ctx.columns = x.shape[-1]
        return values, index

    def backward(ctx, g, _):
        (index,) = ctx.saved_tensors
        return g.new_zeros(len(g), ctx.columns).scatter(-1, index, g), None

    return forward, backward
