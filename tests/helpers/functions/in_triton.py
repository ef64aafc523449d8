"""Kernels in Triton: wrong as public ones were, and repaired.

Import it, and run them, where `TRITON_INTERPRET=1` is set.
"""

import torch
import torch.nn.functional as F
import triton
import triton.language as tl

from helpers.functions.pair import Pair, function, table


@triton.jit
def _silu_mul(a, b, y, n, size: tl.constexpr):
    i = tl.program_id(0) * size + tl.arange(0, size)
    x = tl.load(a + i, mask=i < n).to(tl.float32)
    z = tl.load(b + i, mask=i < n).to(tl.float32)
    tl.store(y + i, x * tl.sigmoid(x) * z, mask=i < n)


@triton.jit
def _silu_mul_backward(a, b, g, da, db, n, size: tl.constexpr):
    i = tl.program_id(0) * size + tl.arange(0, size)
    x = tl.load(a + i, mask=i < n).to(tl.float32)
    z = tl.load(b + i, mask=i < n).to(tl.float32)
    dy = tl.load(g + i, mask=i < n).to(tl.float32)
    s = tl.sigmoid(x)
    tl.store(da + i, dy * z * s * (1 + x * (1 - s)), mask=i < n)
    tl.store(db + i, dy * x * s, mask=i < n)


@triton.jit
def _weight_sums(x, g, sums, rows, columns, programs, height: tl.constexpr, width: tl.constexpr):
    c = tl.arange(0, width)
    total = tl.zeros((width,), tl.float32)
    begin = tl.program_id(0) * height
    if begin < rows:
        for start in range(begin, rows, programs * height):
            r = start + tl.arange(0, height)
            i, mask = r[:, None] * columns + c, (r < rows)[:, None] & (c < columns)
            own = tl.load(x + i, mask=mask, other=0.0).to(tl.float32)
            total += tl.sum(own * tl.load(g + i, mask=mask, other=0.0).to(tl.float32), axis=0)
        tl.store(sums + tl.program_id(0) * columns + c, total, mask=c < columns)


@triton.jit
def _softmax_backward(y, g, dx, rows, columns, end, height: tl.constexpr, width: tl.constexpr):
    r = tl.program_id(0) * height + tl.arange(0, height)
    dot = tl.zeros((height,), tl.float32)
    for start in range(0, end, width):
        c = start + tl.arange(0, width)
        i, mask = r[:, None] * columns + c, (r < rows)[:, None] & (c < columns)
        p = tl.load(y + i, mask=mask, other=0.0).to(tl.float32)
        dot += tl.sum(p * tl.load(g + i, mask=mask, other=0.0).to(tl.float32), axis=1)
    for start in range(0, columns, width):
        c = start + tl.arange(0, width)
        i, mask = r[:, None] * columns + c, (r < rows)[:, None] & (c < columns)
        p = tl.load(y + i, mask=mask, other=0.0).to(tl.float32)
        d = tl.load(g + i, mask=mask, other=0.0).to(tl.float32)
        tl.store(dx + i, p * (d - dot[:, None]), mask=mask)


PAIRS: list[Pair] = []
pair = table(PAIRS)


def _no_float64(*tensors):
    if any(t.dtype is torch.float64 for t in tensors):
        raise TypeError("a kernel of float32 and bfloat16")


@pair("pytorch/pytorch#194719", "where g is", "4 6", "4 6", reference=lambda a, b: F.silu(a) * b)
def strides_of_g_not_asked(fixed):
    def launch(kernel, *tensors):
        n = tensors[0].numel()
        kernel[(triton.cdiv(n, 1024),)](*tensors, n, size=1024)

    def forward(ctx, a, b):
        _no_float64(a, b)
        a, b = a.contiguous(), b.contiguous()
        ctx.save_for_backward(a, b)
        y = torch.empty_like(a)
        if y.numel():
            launch(_silu_mul, a, b, y)
        return y

    def backward(ctx, g):
        a, b = ctx.saved_tensors
        da, db = torch.empty_like(a), torch.empty_like(b)
        if g.numel():
            launch(_silu_mul_backward, a, b, g.contiguous() if fixed else g, da, db)
        return da, db

    return function(forward, backward)


@pair("flagos-ai/FlagGems#1082", "new memory|another run", "3 4", "4", reference=lambda x, w: x * w)
def sums_of_programs_without_rows(fixed):
    def forward(ctx, x, w):
        _no_float64(x, w)
        ctx.save_for_backward(x, w)
        return x * w

    def backward(ctx, g):
        x, w = ctx.saved_tensors
        x, g = x.contiguous(), g.contiguous()
        sums = (torch.zeros if fixed else torch.empty)(4, *w.shape, dtype=torch.float32)
        width = triton.next_power_of_2(max(len(w), 1))
        if x.numel():
            _weight_sums[(4,)](x, g, sums, *x.shape, 4, height=16, width=width)
        return g * w, (sums.sum(0) if x.numel() else torch.zeros_like(w)).to(w.dtype)

    return function(forward, backward)


@pair("flagos-ai/FlagGems#59", "where axes? .*size 16|where the axes of size 16", "3 16",
    reference=lambda x: x.softmax(-1))  # fmt: skip
def columns_behind_the_last_whole_block(fixed):
    def forward(ctx, x):
        _no_float64(x)
        y = x.softmax(-1)
        ctx.save_for_backward(y)
        return y

    def backward(ctx, g):
        y, g = ctx.saved_tensors[0].contiguous(), g.contiguous()
        dx, (rows, columns) = torch.empty_like(y), y.shape
        end = columns if fixed else columns // 16 * 16
        if y.numel():
            grid = (triton.cdiv(rows, 16),)
            _softmax_backward[grid](y, g, dx, rows, columns, end, height=16, width=16)
        return dx

    return function(forward, backward)
