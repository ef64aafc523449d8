"""How memory is read and written: layouts, writes into arguments, unwritten memory, races."""

import random

import torch

from helpers.functions.pair import Pair, function, product, read, rms_norm, table

PAIRS: list[Pair] = []
pair = table(PAIRS)
CONTIGUOUS = "wrong where g is (strided|transposed)"


@pair("pytorch/pytorch#194719", CONTIGUOUS, "3 4", "4")
def operator_reads_a_part_of_cat_as_contiguous(fixed):
    name = f"functions::scale_and_shift_{fixed}"

    @torch.library.custom_op(name, mutates_args=())
    def op(x: torch.Tensor, w: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x * w, x + w

    @torch.library.custom_op(f"{name}_backward", mutates_args=())
    def op_backward(
        x: torch.Tensor, w: torch.Tensor, dy: torch.Tensor, dz: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        dy, dz = read(dy), read(dz)
        return dy * w + dz, (dy * x + dz).sum(0)

    def setup(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    def backward(ctx, dy, dz):
        dy, dz = (dy.contiguous(), dz.contiguous()) if fixed else (dy, dz)
        return op_backward(*ctx.saved_tensors, dy, dz)

    op.register_fake(lambda x, w: (torch.empty_like(x), torch.empty_like(x)))
    op_backward.register_fake(lambda x, w, dy, dz: (torch.empty_like(x), torch.empty_like(w)))
    op.register_autograd(backward, setup_context=setup)
    return op


@pair("Dao-AILab/flash-attention#355", CONTIGUOUS, "4 3", "5 3", "5 3")
def attention_reads_g_as_contiguous(fixed):
    def forward(ctx, q, k, v):
        p = (q @ k.mT).softmax(-1)
        ctx.save_for_backward(q, k, v, p)
        return p @ v

    def backward(ctx, g):
        q, k, v, p = ctx.saved_tensors
        g = g if fixed else read(g)
        dp = g @ v.mT
        ds = p * (dp - (p * dp).sum(-1, keepdim=True))
        return ds @ k, ds.mT @ q, p.mT @ g

    return function(forward, backward)


@pair("ROCm/TransformerEngine#623", CONTIGUOUS, "4 3", torch.tensor([0, 2, 1, 1]))
def one_expanded_g_read_row_by_row(fixed):
    def forward(ctx, x, target):
        error = x.softmax(-1)
        error[range(len(x)), target] -= 1
        ctx.save_for_backward(error)
        return x.logsumexp(-1) - x[range(len(x)), target]

    def backward(ctx, g):
        return ctx.saved_tensors[0] * (g if fixed else read(g))[:, None], None

    return function(forward, backward)


@pair("fla-org/flash-linear-attention#1139", CONTIGUOUS, "4 3", "3")
def saved_tensor_read_by_the_strides_of_g(fixed):
    def forward(ctx, x, w):
        h = x * w
        ctx.save_for_backward(x, w, h)
        return h * h.sigmoid()

    def backward(ctx, g):
        x, w, h = ctx.saved_tensors
        h = h if fixed else read(h, g.stride())
        s = h.sigmoid()
        dh = g * s * (1 + h * (1 - s))
        return dh * w, (dh * x).sum(0)

    return function(forward, backward)


@pair("pytorch/pytorch#64100", "channels", "2 3 4 5", "3 1 1")
def x_read_as_channels_last_since_g_is(fixed):
    def backward(ctx, g):
        x, w = ctx.saved_tensors
        if not fixed and g.is_contiguous(memory_format=torch.channels_last):
            x = read(x, g.stride())
        return g * w, (g * x).sum((0, 2, 3))[:, None, None]

    return function(product, backward)


@pair("pytorch/pytorch#30303", "wrong where x is (strided|transposed)", "3 4")
def g_read_by_the_strides_of_x(fixed):
    def forward(ctx, x):
        ctx.of_x = x.shape, x.stride()
        return x.reshape(-1) * 2

    def backward(ctx, g):
        shape, strides = ctx.of_x
        g = g.contiguous().view(shape)
        return 2 * (g if fixed else read(g, strides))

    return function(forward, backward)


@pair("linkedin/Liger-Kernel#272", "writes into x", "4 3", torch.tensor([0, 2, 1, 1]))
def gradient_stored_in_the_input(fixed):
    def forward(ctx, x, target):
        loss = (x.logsumexp(-1) - x[range(len(x)), target]).mean()
        dx = x.softmax(-1)
        dx[range(len(x)), target] -= 1
        ctx.dx = dx / len(x) if fixed else x.data.copy_(dx / len(x))
        return loss

    def backward(ctx, g):
        return ctx.dx * g, None

    return function(forward, backward)


@pair("linkedin/Liger-Kernel#254", "writes into a, b", "4 3", "4 3")
def gradients_stored_in_what_was_saved(fixed):
    def forward(ctx, a, b):
        ctx.save_for_backward(a, b)
        return a * a.sigmoid() * b

    def backward(ctx, g):
        a, b = ctx.saved_tensors
        s = a.sigmoid()
        da, db = g * b * s * (1 + a * (1 - s)), g * a * s
        return (da, db) if fixed else (a.data.copy_(da), b.data.copy_(db))

    return function(forward, backward)


@pair("linkedin/Liger-Kernel#1305", "writes into g", "4 3")
def dx_stored_in_g(fixed):
    def backward(ctx, g):
        x, r = ctx.saved_tensors
        dx = r * (g - x * r.square() * (g * x).mean(-1, keepdim=True))
        return dx if fixed else g.data.copy_(dx)

    return function(rms_norm, backward)


UNWRITTEN = "new memory"


@pair("flagos-ai/FlagGems#1082", UNWRITTEN, "3 4", "4")
def partial_sums_of_programs_without_rows(fixed):
    def backward(ctx, g):
        x, w = ctx.saved_tensors
        programs = 4
        partial = (torch.zeros if fixed else torch.empty)(programs, *w.shape, dtype=x.dtype)
        for program in range(min(programs, len(x))):
            partial[program] = (g * x)[program::programs].sum(0)
        return g * w, partial.sum(0)

    return function(product, backward)


@pair("pytorch/FBGEMM#5754", UNWRITTEN, "7 2", (3, 4), 3)
def rows_that_were_cut_off(fixed):
    def forward(ctx, x, lengths, longest):
        ctx.of_x = x.shape, lengths
        y = x.new_zeros(len(lengths), longest, *x.shape[1:])
        for row, part in zip(y, x.split(lengths), strict=True):
            row[: len(part)] = part[:longest]
        return y

    def backward(ctx, g):
        shape, lengths = ctx.of_x
        dx = (torch.zeros if fixed else torch.empty)(shape, dtype=g.dtype)
        for row, part in zip(g, dx.split(lengths), strict=True):
            part[: len(row)] = row[: len(part)]
        return dx, None, None

    return function(forward, backward)


@pair("ROCm/MIOpen#566", UNWRITTEN, "3 8", "2")
def pixels_between_the_strides(fixed):
    def forward(ctx, x, w):
        ctx.save_for_backward(x, w)
        return x.unflatten(1, (-1, 4))[..., : len(w)] @ w

    def backward(ctx, g):
        x, w = ctx.saved_tensors
        x = x.unflatten(1, (-1, 4))
        dx = (torch.zeros_like if fixed else torch.empty_like)(x)
        dx[..., : len(w)] = g[..., None] * w
        return dx.flatten(1), (g[..., None] * x[..., : len(w)]).sum((0, 1))

    return function(forward, backward)


@pair("pytorch/pytorch#23784", "size 4 have size 0", "4 3", "3")
def last_gradient_given_again_for_an_empty_batch(fixed):
    workspace = {}

    def backward(ctx, g):
        x, w = ctx.saved_tensors
        if fixed or len(x) or w.shape not in workspace:
            workspace[w.shape] = (g * x).sum(0)
        return g * w, workspace[w.shape].clone()

    return function(product, backward)


@pair("jmschrei/cherimoya#25", "dx keeps one part .* is it overwritten", "2 6", "3")
def overlapping_writes(fixed):
    def forward(ctx, x, w):
        x = torch.nn.functional.pad(x, (len(w) - 1, 0))
        ctx.save_for_backward(x, w)
        return x.unfold(1, len(w), 1) @ w

    def backward(ctx, g):
        x, w = ctx.saved_tensors
        dx, n = torch.zeros_like(x), g.shape[1]
        # Each lane loads all places, adds, and stores: what the others stored meanwhile is lost.
        loaded = dx.clone()
        for tap, weight in enumerate(w):
            place = dx[:, tap : tap + n]
            place.copy_((place if fixed else loaded[:, tap : tap + n]) + weight * g)
        return dx[:, len(w) - 1 :], (g[..., None] * x.unfold(1, len(w), 1)).sum((0, 1))

    return function(forward, backward)


@pair("jmschrei/cherimoya#50", "dw is wrong in another run", "4 3", "3")
def first_call_of_a_shape_adds_to_what_its_trials_left(fixed):
    tuned = set()

    def backward(ctx, g):
        x, w = ctx.saved_tensors
        dw = torch.zeros_like(w)
        if x.shape not in tuned:
            tuned.add(x.shape)
            dw += 0.07 * (g * x).sum(0)  # a trial of another block size
            dw = torch.zeros_like(w) if fixed else dw
        return g * w, dw + (g * x).sum(0)

    return function(product, backward)


@pair("fla-org/flash-linear-attention#889", "dw is wrong in another run", "8 3", "3")
def additions_lost_in_a_race(fixed):
    warps = random.Random(0)

    def backward(ctx, g):
        x, w = ctx.saved_tensors
        dw = torch.zeros_like(w)
        for row in g * x:
            if fixed or warps.random() < 0.7:
                dw = dw + row
        return g * w, dw

    return function(product, backward)
