"""Backward passes with a wrong value: a term, a factor, an axis, a transposition."""

import numpy as np
import torch

from helpers.functions.pair import Pair, function, rms_norm, table

PAIRS: list[Pair] = []
pair = table(PAIRS)
TERM = "dx is wrong.* a term is missing or wrong"


@pair("Dao-AILab/quack#53", "dresidual is wrong.* a term is missing or wrong", "3 8", "3 8")
def residual_added_before_the_derivative_of_the_norm(fixed):
    def forward(ctx, x, residual):
        h = x + residual
        r = (h.square().mean(-1, keepdim=True) + 1e-6).rsqrt()
        ctx.save_for_backward(h, r)
        return h * r, h

    def backward(ctx, dy, dh):
        h, r = ctx.saved_tensors
        g = dy if fixed else dy + dh
        dx = r * (g - h * r.square() * (g * h).mean(-1, keepdim=True))
        dx = dx + dh if fixed else dx
        return dx, dx

    return function(forward, backward)


@pair("BobMcDear/attorch#17", TERM, "5 5")
def correction_of_a_row_broadcast_along_columns(fixed):
    def backward(ctx, g):
        x, r = ctx.saved_tensors
        dot = (g * x).mean(-1, keepdim=fixed)
        return r * (g - x * dot * r.square())

    return function(rms_norm, backward)


@pair("state-spaces/mamba#547", "by line .* gradient of h, is not", "3 8", "8")
def mean_over_the_row_in_place_of_the_group(fixed):
    def forward(ctx, x, w):
        h = x.unflatten(-1, (2, -1))
        r = (h.square().mean(-1, keepdim=True) + 1e-6).rsqrt()
        ctx.save_for_backward(h, w, r)
        return (h * r).flatten(-2) * w

    def backward(ctx, g):
        h, w, r = ctx.saved_tensors
        dh = (g * w).unflatten(-1, (2, -1))
        dot = (dh * h).mean(-1 if fixed else (-2, -1), keepdim=True)
        dx = r * (dh - h * r.square() * dot)
        return dx.flatten(-2), (g * (h * r).flatten(-2)).sum(0)

    return function(forward, backward)


@pair("chainer/chainer#4190", TERM, "4 3")
def eps_in_the_derivative_of_the_norm(fixed):
    def forward(ctx, x):
        norm = x.norm(dim=-1, keepdim=True)
        ctx.save_for_backward(x, norm)
        return x / (norm + 0.1)

    def backward(ctx, g):
        x, norm = ctx.saved_tensors
        dnorm = (g * x).sum(-1, keepdim=True) / (norm + 0.1).square()
        return g / (norm + 0.1) - dnorm * x / (norm if fixed else norm + 0.1)

    return function(forward, backward)


@pair("explosion/thinc#578", TERM, "4 3")
def a_term_of_the_numerator_missing(fixed):
    def forward(x):
        return x * np.tanh(np.log1p(np.exp(x))), x

    def backward(x, g):
        e = np.exp(x)
        omega = 4 * (x + 1) + 4 * e**2 + e * (4 * x + 6)
        omega = omega + e**3 if fixed else omega
        return (g * e * omega / (2 * e + e**2 + 2) ** 2,)

    return forward, backward


TARGET = torch.tensor([0, 2, 1, 2])


@pair(
    "linkedin/Liger-Kernel#1298", "dw is wrong.* a term is missing or wrong", "4 5", "3 5", TARGET
)
def one_g_for_all_rows(fixed):
    def forward(ctx, x, w, target):
        logits = x @ w.mT
        error = logits.softmax(-1)
        error[range(len(x)), target] -= 1
        ctx.save_for_backward(x, w, error, error.mT @ x)
        return logits.logsumexp(-1) - logits[range(len(x)), target]

    def backward(ctx, g):
        x, w, error, dw = ctx.saved_tensors
        error = error * g[:, None]
        return error @ w, error.mT @ x if fixed else dw * g[0], None

    return function(forward, backward)


@pair("SeanNaren/warp-ctc#69", "dx forgets g", "4 3", "4 3")
def g_forgotten(fixed):
    def forward(ctx, x, target):
        ctx.save_for_backward(x - target)
        return (x - target).square().sum() / 2

    def backward(ctx, g):
        (error,) = ctx.saved_tensors
        error = error * g if fixed else error
        return error, -error

    return function(forward, backward)


@pair("HawkAaron/warp-transducer#23", "dx is g x, not its gradient", "4 3 4")
def g_of_the_examples_along_the_last_axis(fixed):
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.square().sum((1, 2)) / 2

    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return x * (g[:, None, None] if fixed else g)

    return function(forward, backward)


@pair("pytorch/ao#4139", "dw is transposed", "5 4", "4 4")
def weight_gradient_transposed(fixed):
    def forward(ctx, x, w):
        ctx.save_for_backward(x, w)
        return x @ w.mT

    def backward(ctx, g):
        x, w = ctx.saved_tensors
        return g @ w, g.mT @ x if fixed else x.mT @ g

    return function(forward, backward)


@pair("apache/mxnet#4057", r"own, the gradient of `f\[t\] \* cells\[-1\]`, misses the path", "4 3",
    "4 3", "4 3")  # fmt: skip
def state_gradient_assigned_in_place_of_added(fixed):
    def forward(ctx, i, f, o):
        cells = [torch.zeros_like(i[0])]
        for t in range(len(i)):
            cells.append(f[t] * cells[-1] + i[t])
        ctx.save_for_backward(f, o, torch.stack(cells))
        return o * torch.stack(cells[1:]).tanh()

    def backward(ctx, g):
        f, o, c = ctx.saved_tensors
        dc, di, df = torch.zeros_like(g[0]), torch.empty_like(f), torch.empty_like(f)
        for t in reversed(range(len(g))):
            own = g[t] * o[t] * (1 - c[t + 1].tanh().square())
            dc = dc + own if fixed else own
            di[t], df[t] = dc, dc * c[t]
            dc = dc * f[t]
        return di, df, g * c[1:].tanh()

    return function(forward, backward)


# The thread tells which gradients are wrong, and not why: ours loads v by columns.
@pair("NX-AI/mlstm_kernels#16", "dq is wrong by .*loaded, forward's v, is another value", "4 3",
    "4 3", "4 3", "4")  # fmt: skip
def all_but_one_gradient_wrong_while_forward_is_right(fixed):
    def forward(ctx, q, k, v, f):
        ctx.save_for_backward(q, k, v, f)
        state = torch.zeros_like(k[0, :, None] * v[0])
        outputs = []
        for t in range(len(q)):
            state = f[t] * state + k[t, :, None] * v[t]
            outputs.append(q[t] @ state)
        return torch.stack(outputs)

    def backward(ctx, g):
        q, k, v, f = ctx.saved_tensors
        loaded = v if fixed else v.mT.reshape(v.shape)
        states = [torch.zeros_like(k[0, :, None] * v[0])]
        for t in range(len(q)):
            states.append(f[t] * states[-1] + k[t, :, None] * loaded[t])
        d, dq, dk, dv, df = torch.zeros_like(states[0]), *map(torch.empty_like, (q, k, v, f))
        for t in reversed(range(len(q))):
            d = d + q[t, :, None] * g[t]
            dq[t], dk[t], dv[t] = states[t + 1] @ g[t], d @ loaded[t], k[t] @ d
            df[t] = (d * states[t]).sum()
            d = d * f[t]
        return dq, dk, dv, df

    return function(forward, backward)


@pair("ROCm/MIOpen#112", r"dx is g p - p sum\(g p, 1\)", "4 3")
def softmax_derivative_for_log_softmax(fixed):
    def forward(ctx, x):
        y = x.log_softmax(-1)
        ctx.save_for_backward(y)
        return y

    def backward(ctx, g):
        p = ctx.saved_tensors[0].exp()
        return g - p * g.sum(-1, keepdim=True) if fixed else p * (g - (g * p).sum(-1, keepdim=True))

    return function(forward, backward)


@pair("hao-ai-lab/FastVideo#925", "dk is wrong by .* p, forward's .*exp.*, is another value", "3 2",
    "6 2", "6 2")  # fmt: skip
def padding_masked_in_forward_alone(fixed):
    def forward(ctx, q, k, v):
        scores = q @ k.mT
        scores[:, -2:] = -torch.inf
        lse = scores.logsumexp(-1, keepdim=True)
        y = (scores - lse).exp() @ v
        ctx.save_for_backward(q, k, v, lse, y)
        return y

    def backward(ctx, g):
        q, k, v, lse, y = ctx.saved_tensors
        scores = q @ k.mT
        if fixed:
            scores[:, -2:] = -torch.inf
        p = (scores - lse).exp()
        ds = p * (g @ v.mT - (g * y).sum(-1, keepdim=True))
        return ds @ k, ds.mT @ q, p.mT @ g

    return function(forward, backward)


@pair("pytorch/pytorch#1631", "is it overwritten", "4 3", torch.tensor([0, 2, 2, 1, 2]))
def gradients_of_a_repeated_index_overwritten(fixed):
    def forward(ctx, x, index):
        ctx.save_for_backward(index)
        ctx.rows = len(x)
        return x[index]

    def backward(ctx, g):
        (index,) = ctx.saved_tensors
        dx = g.new_zeros(ctx.rows, *g.shape[1:])
        return dx.index_add(0, index, g) if fixed else dx.index_copy(0, index, g), None

    return function(forward, backward)


@pair("apache/mxnet#18203", "dright is wrong", "4 3", "3 3", "3 3")
def dx_written_over_the_g_of_the_other_direction(fixed):
    def forward(ctx, x, left, right):
        ctx.save_for_backward(x, left, right)
        return torch.cat([x @ left, x.flip(0) @ right], -1)

    def backward(ctx, g):
        x, left, right = ctx.saved_tensors
        g_left, g_right = g.clone().chunk(2, -1)
        dx = g_left @ left.mT
        if not fixed:
            g_right.copy_(dx)
        return dx + (g_right @ right.mT).flip(0), x.mT @ g_left, x.flip(0).mT @ g_right

    return function(forward, backward)
