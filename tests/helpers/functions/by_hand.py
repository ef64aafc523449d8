"""Functions as libraries of kernels write them, in plain torch and right."""

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
LABELS = torch.tensor([0, 3, 5, 3])


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


@entered(X, W, B)
def layer_norm():
    def forward(ctx, x, w, b):
        ctx.save_for_backward(x, w)
        return _normed(x - x.mean(-1, keepdim=True))[0] * w + b

    def backward(ctx, g):
        x, w = ctx.saved_tensors
        h, r = _normed(x - x.mean(-1, keepdim=True))
        d = _norm_grad(h, r, g * w)
        dx = d - d.mean(-1, keepdim=True)
        return dx, (g * h).sum(0), g.sum(0) if ctx.needs_input_grad[2] else None

    return forward, backward


@entered(X, Y)
def swiglu():
    def forward(ctx, a, b):
        ctx.save_for_backward(a, b)
        return a * a.sigmoid() * b

    def backward(ctx, g):
        a, b = ctx.saved_tensors
        s = a.sigmoid()
        return g * b * s * (1 + a * (1 - s)), g * a * s

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


@entered(leaf(5, 6), leaf(5, 4, seed=1))
def rope():
    def turn(x, sign):
        a, b = x.chunk(2, -1)
        angle = torch.arange(len(x), dtype=x.dtype)[:, None]
        cos, sin = angle.cos(), sign * angle.sin()
        return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)

    def forward(ctx, q, k):
        return turn(q, 1), turn(k, 1)

    def backward(ctx, dq, dk):
        return turn(dq, -1), turn(dk, -1)

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


@entered(X, leaf(5, 6, seed=4), LABELS.clamp(max=4))
def fused_linear_cross_entropy():
    def forward(ctx, x, w, target):
        ctx.save_for_backward(x, w, target)
        logits = x @ w.mT
        return (logits.logsumexp(-1) - logits.gather(1, target[:, None])[:, 0]).mean()

    def backward(ctx, g):
        x, w, target = ctx.saved_tensors
        d = (x @ w.mT).softmax(-1) - torch.nn.functional.one_hot(target, len(w))
        d = g * d / max(len(x), 1)
        return d @ w, d.mT @ x, None

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


@entered(torch.tensor([[0, 2], [2, 4]]), leaf(5, 3))
def embedding():
    def forward(ctx, index, w):
        ctx.rows = len(w)
        ctx.save_for_backward(index)
        return w[index]

    def backward(ctx, g):
        (index,) = ctx.saved_tensors
        dw = g.new_zeros(ctx.rows, g.shape[-1])
        return None, dw.index_add(0, index.flatten(), g.reshape(-1, g.shape[-1]))

    return forward, backward


@entered(leaf(2, 5, 3), leaf(2, 5, 3, seed=1), leaf(2, 5, 3, seed=2))
def causal_attention():
    def weights(q, k):
        scores = (q @ k.mT) / q.shape[-1] ** 0.5
        later = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
        return scores.masked_fill(later, -torch.inf).softmax(-1)

    def forward(ctx, q, k, v):
        y = weights(q, k) @ v
        ctx.save_for_backward(q, k, v, y)
        return y

    def backward(ctx, g):
        q, k, v, y = ctx.saved_tensors
        p = weights(q, k)
        ds = p * (g @ v.mT - (g * y).sum(-1, keepdim=True)) / q.shape[-1] ** 0.5
        return ds @ k, ds.mT @ q, p.mT @ g

    return forward, backward


@entered(leaf(2, 6, 3), leaf(3, 4, seed=1))
def causal_convolution():
    def forward(ctx, x, w):
        ctx.save_for_backward(x, w)
        seen = torch.nn.functional.pad(x, (0, 0, w.shape[1] - 1, 0))
        return sum(w[:, tap] * seen[:, tap : tap + x.shape[1]] for tap in range(w.shape[1]))

    def backward(ctx, g):
        x, w = ctx.saved_tensors
        n, before = x.shape[1], w.shape[1] - 1
        seen = torch.nn.functional.pad(x, (0, 0, before, 0))
        ahead = torch.nn.functional.pad(g, (0, 0, 0, before))
        dx = sum(w[:, tap] * ahead[:, before - tap : before - tap + n] for tap in range(before + 1))
        dw = [(g * seen[:, tap : tap + n]).sum((0, 1)) for tap in range(before + 1)]
        return dx, torch.stack(dw, 1)

    return forward, backward


@entered(leaf(5, 3), leaf(5, 3, seed=1))
def gated_recurrence():
    def states(x, f):
        h = [torch.zeros_like(x[0])] if len(x) else []
        for row, gate in zip(x, f, strict=True):
            h.append(gate * h[-1] + row)
        return torch.stack(h) if h else x

    def forward(ctx, x, f):
        ctx.save_for_backward(x, f)
        return states(x, f)[1:]

    def backward(ctx, g):
        x, f = ctx.saved_tensors
        h = states(x, f)
        back = torch.cat([torch.zeros_like(f[:1]), f.flip(0)[:-1]])
        dx = states(g.flip(0), back)[1:].flip(0)
        return dx, dx * h[:-1]

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
