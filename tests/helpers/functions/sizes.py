"""Wrong for some sizes, dtypes, derivatives or transforms alone."""

import torch

from helpers.functions.pair import Pair, function, product, table

PAIRS: list[Pair] = []
pair = table(PAIRS)


@pair("flagos-ai/FlagGems#59", "by line .* gradient of x, is not right", "4 6")
def sums_over_the_rows_of_a_block(fixed):
    def forward(ctx, x):
        h = x - x.mean(-1, keepdim=True)
        r = (h.square().mean(-1, keepdim=True) + 1e-6).rsqrt()
        ctx.save_for_backward(h * r, r)
        return h * r

    def backward(ctx, g):
        dx = torch.empty_like(g)
        h, r = ctx.saved_tensors
        for start in range(0, len(g), 4):
            block = slice(start, start + 4)
            sums = {"dim": -1, "keepdim": True} if fixed else {}
            mean, dot = g[block].sum(**sums), (g * h)[block].sum(**sums)
            dx[block] = r[block] * (g[block] - (mean + h[block] * dot) / g.shape[-1])
        return dx

    return function(forward, backward)


@pair("fla-org/flash-linear-attention#1249", "dx .* size 8 have size 1031", "8 3", "2 3")
def rows_of_the_next_program_stored(fixed):
    def parts(x, w):
        ends = [len(x) * n // len(w) for n in range(len(w) + 1)]
        return [*zip(ends[:-1], ends[1:], w, strict=True)]

    def forward(ctx, x, w):
        ctx.save_for_backward(x, w)
        return torch.cat([x[a:b] * row for a, b, row in parts(x, w)])

    def backward(ctx, g):
        x, w = ctx.saved_tensors
        dx = torch.empty_like(x)
        for a, b, row in reversed(parts(x, w)):
            for start in range(a, b, 4):
                rows = slice(start, min(start + 4, b if fixed else len(x)))
                dx[rows] = g[rows] * row
        return dx, torch.stack([(g[a:b] * x[a:b]).sum(0) for a, b, _ in parts(x, w)])

    return function(forward, backward)


@pair("fla-org/flash-linear-attention#1141", "dstate is wrong .*axes of size 5 have size 1", "5 2",
    "3 2", "4")  # fmt: skip
def last_state_of_a_chunk_shorter_than_the_window(fixed):
    def forward(ctx, x, state, w):
        seen = torch.cat([state, x])
        ctx.save_for_backward(seen, w)
        ctx.before = len(state)
        return seen.unfold(0, len(w), 1) @ w, seen[len(seen) - len(w) + 1 :]

    def backward(ctx, g, g_last):
        seen, w = ctx.saved_tensors
        d, n = torch.zeros_like(seen), len(g)
        for tap, weight in enumerate(w):
            d[tap : tap + n] += weight * g
        kept = 0 if fixed else max(0, ctx.before - n)
        d[n + kept :] += g_last[kept:]
        dw = (g[..., None] * seen.unfold(0, len(w), 1)).sum((0, 1))
        return d[ctx.before :], d[: ctx.before], dw

    return function(forward, backward)


@pair("deeplearning4j/deeplearning4j#1452", "dx is 3 times too small.*axes of size 4 have size 1",
    "4 3")  # fmt: skip
def divided_by_the_columns_of_a_batch_of_one(fixed):
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.square().sum() / len(x)

    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 2 * g * x / len(x if fixed else x.squeeze(0))

    return function(forward, backward)


@pair("databricks/megablocks#47", r"dx .* size 8 have size \d{4}", "2 8", "8")
def columns_behind_the_largest_block(fixed):
    def backward(ctx, g):
        x, w = ctx.saved_tensors
        dx, end = torch.zeros_like(x), len(w) if fixed else 4096
        dx[:, :end] = (g * w)[:, :end]
        return dx, (g * x).sum(0)

    return function(product, backward)


@pair("karpathy/llm.c#476", r"d[wb] is wrong in bfloat16 .*sum over \d+ rows", "8 3", "3", "3",
    dtype=torch.bfloat16)  # fmt: skip
def sums_over_rows_in_bfloat16(fixed):
    def forward(ctx, x, w, b):
        ctx.save_for_backward(x, w)
        return x * w + b

    def backward(ctx, g):
        x, w = ctx.saved_tensors
        dw = db = torch.zeros_like(w, dtype=torch.float32 if fixed else w.dtype)
        for x_row, g_row in zip(x, g, strict=True):
            dw, db = dw + g_row * x_row, db + g_row
        return g * w, dw.to(w.dtype), db.to(w.dtype)

    return function(forward, backward)


@pair("pytorch/pytorch#58509", "second derivative is silently", "4 3", options={"twice": True})
def intermediate_kept_beside_the_graph(fixed):
    def forward(ctx, x):
        ctx.save_for_backward(x)
        ctx.double = x * 2
        return ctx.double.square()

    def backward(ctx, g):
        double = ctx.saved_tensors[0] * 2 if fixed else ctx.double
        return 4 * double * g

    return function(forward, backward)


@pair("pytorch/pytorch#106789", "second derivative is silently",
    torch.tensor([2.0, 3.0, 0.0, 0.0], requires_grad=True), options={"twice": True})  # fmt: skip
def derivative_of_two_zeros_is_a_constant(fixed):
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.prod()

    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        if not fixed and (x == 0).sum() > 1:
            return torch.zeros_like(x)
        return g * x.expand(len(x), -1).masked_fill(torch.eye(len(x)) > 0, 1.0).prod(-1)

    return function(forward, backward)


@pair("pytorch/pytorch#183604", "wrong under torch.compile", "4 3", "4 3",
    options={"is_compiled": True})  # fmt: skip
def one_of_two_gradients_when_compiled(fixed):
    def forward(ctx, a, b):
        ctx.save_for_backward(a, b)
        return a * b + a + b

    def backward(ctx, g):
        a, b = ctx.saved_tensors
        if torch.compiler.is_compiling() and not fixed:
            return g * (b + 1), torch.zeros_like(b)
        return g * (b + 1), g * (a + 1)

    return function(forward, backward)


@pair("pytorch/pytorch#90037", "y is wrong under vmap", "3 3", "3 3")
def axis_0_of_vmap_taken_for_none(fixed):
    def forward(a, b):
        return a * b

    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    def backward(ctx, g):
        a, b = ctx.saved_tensors
        return op.apply(g, b), op.apply(g, a)

    def last(x, axis):
        is_batched = axis is not None if fixed else axis
        return x.movedim(axis, -1) if is_batched else x.unsqueeze(-1)

    def vmap(info, in_dims, a, b):
        return op.apply(last(a, in_dims[0]), last(b, in_dims[1])).movedim(-1, 0), 0

    op = function(forward, backward, setup_context=setup_context, vmap=vmap)
    return op
