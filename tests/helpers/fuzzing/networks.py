"""Random networks: chains of layers and combinators, each of which accepts what the last one gives.

A layer is tried on real numbers before it is taken, so no rule says here what fits what.
"""

import math

import torch

import lincoln_fn as lf
from helpers.fuzzing import idioms, layers
from helpers.fuzzing.draws import chance, divisor, options, size
from lincoln_fn import keys

LARGEST = 4000  # numbers in an activation
DTYPES = (torch.float64, torch.float64, torch.bfloat16, torch.float16)


def applied(layer, x):
    """Give a layer's y; an error if it is none that the next layer could take."""
    y, _ = layer.forward(layer.init(lf.Key(0), x), x)
    if not isinstance(y, torch.Tensor) or y.ndim not in layers.ANY or len(y) != len(first(x)):
        raise ValueError("no such activation goes on")
    if not 0 < y.numel() <= LARGEST or not y.isfinite().all():
        raise ValueError("too large")
    return y


def first(x):
    return x[0] if isinstance(x, tuple) else x


def grown(rng, x, count, depth):
    """Draw layers one after the other; give them and the last one's y."""
    chain = []
    for _ in range(count):
        layer, x = one(rng, x, depth)
        chain.append(layer)
    return chain, x


def one(rng, x, depth):
    """Draw a layer or a combinator that takes x; give it and its y."""
    families = [
        *layers.FAMILIES,
        *(((4, COMBINED), (4, TUPLED), (3, idioms.IDIOMS)) if depth else ()),
    ]
    while True:
        (rows,) = rng.choices([rows for _, rows in families], [weight for weight, _ in families])
        fitting = [draw for axes, draw in rows.values() if x.ndim in axes]
        if not fitting:
            continue
        draw = rng.choice(fitting)
        try:
            layer = (
                draw(rng, x, depth)
                if any(rows is made for made in MADE_OF_LAYERS)
                else draw(rng, tuple(x.shape))
            )
            return layer, applied(layer, x)
        except (lf.LayerError, ValueError, IndexError):
            continue


def chain(rng, x, depth, most=2):
    """Draw a short chain as one layer; give it and its y."""
    drawn, y = grown(rng, x, rng.randint(1, most), depth - 1)
    return (drawn[0] if len(drawn) == 1 else lf.serial(*drawn)), y


def reshaping(x, y):
    """Make a layer from x's shape to y's, but for the batch."""
    if x.shape[:-1] == y.shape[:-1]:
        return lf.dense(y.shape[-1])
    numbers = math.prod(y.shape[1:])
    if numbers > 300:
        raise ValueError("too large")
    return lf.serial(lf.flatten(), lf.dense(numbers), lf.reshape(*y.shape[1:]))


def alike(rng, x, depth):
    """Draw a chain that gives x's shape again."""
    drawn, y = chain(rng, x, depth)
    return drawn if y.shape == x.shape else lf.serial(drawn, reshaping(y, x))


def fork(*parts):
    """Give each part the same input, and their outputs as a tuple."""
    return lf.branch(*parts, merge=lf.identity())


def merge(rng, ndim):
    makers = (lf.add, lf.multiply, lf.subtract, lf.maximum)
    joined = rng.choice((lf.concatenate, lf.stack))(rng.randrange(1, ndim))
    return rng.choice((rng.choice(makers)(), joined))


def residual(rng, x, depth):
    drawn, y = chain(rng, x, depth)
    if y.shape == x.shape and chance(rng, 0.7):
        return lf.residual(drawn)
    return lf.residual(drawn, reshaping(x, y))


def branch(rng, x, depth):
    parts, ys = zip(*(chain(rng, x, depth) for _ in range(rng.choice((1, 2, 2, 3)))), strict=True)
    parts = [
        part if y.shape == ys[0].shape else lf.serial(part, reshaping(y, ys[0]))
        for part, y in zip(parts, ys, strict=True)
    ]
    return lf.branch(*parts, merge=merge(rng, ys[0].ndim))


def around(name):
    """Give a row of a combinator around one chain."""
    return layers.ANY, lambda r, x, depth: getattr(lf, name)(chain(r, x, depth)[0])


def ode(rng, x, depth):
    method, adjoint = rng.choice(("euler", "midpoint")), rng.choice(("discrete", "continuous"))
    return lf.ode(alike(rng, x, depth), (0.0, 0.5), method=method, steps=2, adjoint=adjoint)


def reversible(rng, x, depth):
    first, second = x.chunk(2, -1)
    blocks = [
        (alike(rng, second, depth), alike(rng, first, depth)) for _ in range(rng.choice((1, 2)))
    ]
    return lf.reversible(*blocks)


def scan(rng, x, depth):
    cell = rng.choice((lf.rnn_cell, lf.gru_cell, lf.lstm_cell))
    return lf.scan(cell(size(rng)), reverse=chance(rng, 0.3))


def expressed(rng, x, depth):
    """Use a layer and x within an expression."""
    used = alike(rng, x, depth)
    return lf.graph(lambda v: v.apply(used) * v.sigmoid() - v.mean(1, keepdim=True))


COMBINED = {
    "serial": (layers.ANY, lambda r, x, depth: lf.serial(*grown(r, x, r.choice((0, 2, 3)), 0)[0])),
    "residual": (layers.ANY, residual),
    "branch": (layers.ANY, branch),
    **{name: around(name) for name in ("checkpointed", "frozen", "inference")},
    "in_dtype": (layers.ANY,
        lambda r, x, depth: lf.in_dtype(chain(r, x, depth)[0], r.choice(DTYPES))),
    "repeat": (layers.ANY, lambda r, x, depth: lf.repeat(r.choice((1, 2, 3)), alike(r, x, depth))),
    "graph": (layers.ANY, expressed),
    "ode": (layers.ANY, ode),
    "reversible": (layers.ANY, reversible),
    "scan": ((3,), scan),
}  # fmt: skip


def bilinear(rng, x, depth):
    more = options(rng, bias=(False,))
    return lf.serial(fork(lf.identity(), lf.dense(size(rng))), lf.bilinear(size(rng), **more))


def flowing(rng, x, depth):
    swap, n = rng.choice((False, True)), x.shape[-1]
    changed = (n + 1) // 2 if swap else n // 2
    bound = options(rng, max_log_scale=(None, 0.5))
    return lf.serial(lf.coupling(lf.dense(2 * changed), swap=swap, **bound), lf.select(0))


def comparing(rng, x, depth):
    n = size(rng)
    return lf.serial(fork(lf.dense(n), lf.dense(n)), lf.cosine_similarities())


def repeating(rng, x, depth):
    """Merge x with what has lost an axis of it, which is repeated."""
    lost = lf.mean(rng.randrange(1, x.ndim), keepdim=True)
    if chance(rng, 0.5):
        lost, merged = lf.serial(lost, lf.sigmoid(), lf.shift(0.5)), lf.divide()
    else:
        merged = lf.subtract()
    return lf.serial(fork(lf.identity(), lost), lf.broadcast_tensors(), merged)


def multiplying(rng, x, depth):
    return lf.serial(fork(lf.tanh(), lf.permute(0, 2, 1)), lf.matmul())


def parallel(rng, x, depth):
    sides = lf.parallel(alike(rng, x, depth), alike(rng, x, depth))
    return lf.serial(fork(lf.identity(), lf.tanh()), sides, merge(rng, x.ndim))


def shared(rng, x, depth):
    used, y = chain(rng, x, depth)
    return lf.serial(fork(lf.identity(), alike(rng, x, depth)), lf.shared(used), merge(rng, y.ndim))


def attending(rng, x, depth):
    width = size(rng)
    parts = lf.dense(width), lf.dense(width), lf.dense(size(rng))
    more = options(rng, is_causal=(True,), scale=(0.3,))
    return lf.serial(fork(*parts), lf.scaled_dot_product_attention(**more))


def grouping(rng, x, depth):
    shared, heads, n = rng.choice((1, 2)), rng.choice((1, 2, 3)), rng.choice((1, 2, 5))
    count = heads * shared
    parts = lf.dense(count * n), lf.dense(heads * n), lf.dense(heads * rng.choice((1, 4)))
    masks = rng.choice(((), (lf.alibi(count),), (lf.relative_position_bias(count, 4, 8),)))
    more = options(
        rng, is_causal=(True,), sliding_window=(2,), softcap=(1.5,), scale=(0.3,), dropout=(0.2,)
    )
    return lf.serial(fork(*parts, *masks), lf.attention_heads(count, heads, **more))


def crossing(rng, x, depth):
    _, memory = chain(rng, x, depth)
    layer = lf.multi_head_attention(divisor(rng, x.shape[-1]), **options(rng, bias=(False,)))
    keys_of = lf.dense(size(rng)) if memory.ndim == 3 else lf.tanh()
    return lf.serial(fork(lf.identity(), keys_of, lf.dense(size(rng))), layer)


def decoder(rng, x):
    more = options(rng, norm_first=(True,), is_causal=(False,), activation=("gelu",))
    heads, dropout = divisor(rng, x.shape[-1]), rng.choice((0.0, 0.0, 0.2))
    return lf.transformer_decoder_block(heads, size(rng), dropout, **more)


def decoding(rng, x, depth):
    memory, _ = chain(rng, x, depth)
    return lf.serial(fork(lf.identity(), memory), decoder(rng, x))


def with_context(rng, x, depth):
    parts = [lf.multiply(), lf.add(), lf.serial(lf.select(0), alike(rng, x, depth))]
    if x.ndim == 3:
        parts.append(decoder(rng, x))
    chosen = rng.choices(parts, k=rng.choice((1, 2, 3)))
    return lf.serial(fork(lf.identity(), lf.sigmoid()), lf.with_context(*chosen))


def from_a_state(rng, x, depth):
    """Make a recurrent layer whose first state another layer computes from the sequence."""
    name, hidden = rng.choice(("rnn", "gru", "lstm")), min(size(rng), 33)
    state = lf.serial(
        lf.masked_mean(), lf.dense(hidden), lf.reshape(1, hidden), lf.permute(1, 0, 2)
    )
    given = fork(state, state) if name == "lstm" else state
    return lf.serial(fork(lf.identity(), given), getattr(lf, name)(hidden), lf.select(0))


def cell_from_a_state(rng, x, depth):
    name, hidden = rng.choice(("rnn_cell", "gru_cell", "lstm_cell")), size(rng)
    if name == "lstm_cell":
        both = fork(lf.dense(hidden), lf.dense(hidden))
        return lf.serial(fork(lf.identity(), both), lf.lstm_cell(hidden), lf.select(0))
    return lf.serial(fork(lf.identity(), lf.dense(hidden)), getattr(lf, name)(hidden))


def remembering(rng, x, depth):
    """Make linear attention of a sequence."""
    same = [lf.identity()] * 3
    return lf.serial(fork(*same), lf.linear_attention(divisor(rng, x.shape[-1])))


def scanning(rng, x, depth):
    """Make a selective scan whose inputs dense layers make of the sequence."""
    delta, state = lf.serial(lf.dense(x.shape[-1]), lf.softplus()), size(rng)
    parts = lf.identity(), delta, lf.dense(state), lf.dense(state)
    return lf.serial(fork(*parts), lf.selective_scan(state))


def gating(rng, x, depth):
    """Make a gated recurrence whose gates dense layers make of the sequence."""
    gates = lf.dense(x.shape[-1]), lf.dense(x.shape[-1])
    return lf.serial(fork(lf.identity(), *gates), lf.gated_linear_recurrence())


def looking_back(rng, x, depth):
    return lf.causal_conv1d(size(rng), rng.choice((1, 2, 3)), **options(rng, bias=(False,)))


def of_mamba(rng, x, depth):
    more = options(rng, bias=(True,), conv_bias=(False,))
    return lf.mamba(x.shape[-1], 3, expand=1, conv_kernel=2, **more)


TUPLED = {
    "causal_conv1d": ((3,), looking_back),
    "mamba": ((3,), of_mamba),
    "linear_attention": ((3,), remembering),
    "selective_scan": ((3,), scanning),
    "gated_linear_recurrence": ((3,), gating),
    "bilinear": ((2, 3), bilinear),
    "cosine_similarities": ((3,), comparing),
    "coupling": ((2,), flowing),
    "matmul": ((3,), multiplying),
    "parallel": (layers.ANY, parallel),
    "repeating": (layers.ANY, repeating),
    "shared": (layers.ANY, shared),
    "scaled_dot_product_attention": ((3, 4), attending),
    "attention_heads": ((3, 4), grouping),
    "multi_head_attention": ((3,), crossing),
    "transformer_decoder_block": ((3,), decoding),
    "with_context": (layers.ANY, with_context),
    "state": ((3,), from_a_state),
    "state of a cell": ((2,), cell_from_a_state),
}


MADE_OF_LAYERS = (COMBINED, TUPLED, idioms.IDIOMS)


def reading(rng, x, codes):
    """Draw what reads a sequence with a mask, of features or of codes."""
    sequence, _ = x
    parts = []
    if not sequence.is_floating_point():
        parts.append(lf.embedding(codes, size(rng)))
        sequence = applied(parts[0], sequence)
    names = ("rnn", "gru", "lstm", "multi_head_attention", "transformer_encoder_block")
    rows = {**layers.RECURRENT, **layers.ATTENTION, **layers.DENSE, **layers.NORMS}
    for _ in range(rng.randint(1, 3)):
        name = rng.choice((*names, "dense", "layer_norm", "relu"))
        shape = sequence.shape[:: 2 if name == "layer_norm" else 1]  # not over the positions
        layer = lf.relu() if name == "relu" else rows[name][1](rng, tuple(shape))
        parts.append(layer)
        sequence = applied(lf.serial(lf.masked(*parts), lf.select(0)), x)
    return lf.serial(lf.masked(*parts), rng.choice((lf.masked_mean, lf.last_state))())


def begun(rng, x, codes):
    """Draw the layers that make an activation of the input; give them and it."""
    while True:
        try:
            if isinstance(x, tuple):
                layer = reading(rng, x, codes)
            else:
                width = size(rng)
                layer = lf.embedding(codes, width, rng.choice((None, None, 0, codes - 1)))
                if chance(rng, 0.2):
                    h = keys.normal(lf.Key(0), (*x.shape, width))
                    layer = lf.tied(layer, alike(rng, h, 2))
            return [layer], applied(layer, x)
        except (lf.LayerError, ValueError):
            continue
