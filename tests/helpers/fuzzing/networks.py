"""Random networks: chains of layers and combinators, each of which accepts what the last one gives.

A layer is tried on real numbers before it is taken, so no rule says here what fits what.
"""

import math

import torch

import lincoln_fn as lf
from helpers.fuzzing import idioms
from helpers.fuzzing.draws import chance, divisor, options, size
from helpers.fuzzing.layers import fork, named, single

LARGEST = 4000  # numbers in an activation
ANY = (2, 3, 4, 5)
DTYPES = (torch.float64, torch.float64, torch.bfloat16, torch.float16)


def applied(layer, x):
    """Give a layer's y; an error if it is none that the next layer could take."""
    params = layer.init(lf.Key(0), x)
    y, _ = layer.forward(params, x)
    if not isinstance(y, torch.Tensor) or y.ndim not in ANY or len(y) != len(first(x)):
        raise ValueError("no such activation goes on")
    if not 0 < y.numel() <= LARGEST or not y.isfinite().all():
        raise ValueError("too large")
    more = lf.tree.map(lambda leaf: torch.cat([leaf, leaf[:1]]), x)
    if len(layer.predict(params, more)) != len(y) + 1:
        raise ValueError("the first axis is not the batch's")
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
    while True:
        try:
            layer = composed(rng, x, depth) if depth and chance(rng, 0.25) else single(rng, x)
        except (lf.LayerError, ValueError, IndexError):
            continue
        for around in AROUND:
            try:
                return around(layer), applied(around(layer), x)
            except (lf.LayerError, ValueError, IndexError):
                continue


# As it is, with the first of several outputs, or above 0.
AROUND = (
    lambda layer: layer,
    lambda layer: lf.serial(layer, lf.select(0)),
    lambda layer: lf.serial(lf.softplus(), lf.shift(0.5), layer),
)


def composed(rng, x, depth):
    """Draw a combinator of layers."""
    rows = rng.choice((COMBINED, TUPLED, idioms.IDIOMS))
    return rng.choice([draw for axes, draw in rows.values() if x.ndim in axes])(rng, x, depth)


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
    return ANY, lambda r, x, depth: getattr(lf, name)(chain(r, x, depth)[0])


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
    "serial": (ANY, lambda r, x, depth: lf.serial(*grown(r, x, r.choice((0, 2, 3)), 0)[0])),
    "residual": (ANY, residual),
    "branch": (ANY, branch),
    **{name: around(name) for name in ("checkpointed", "frozen", "inference")},
    "in_dtype": (ANY, lambda r, x, depth: lf.in_dtype(chain(r, x, depth)[0], r.choice(DTYPES))),
    "repeat": (ANY, lambda r, x, depth: lf.repeat(r.choice((1, 2, 3)), alike(r, x, depth))),
    "graph": (ANY, expressed),
    "ode": (ANY, ode),
    "reversible": (ANY, reversible),
    "scan": ((3,), scan),
}  # fmt: skip


def flowing(rng, x, depth):
    swap, n = rng.choice((False, True)), x.shape[-1]
    changed = (n + 1) // 2 if swap else n // 2
    bound = options(rng, max_log_scale=(None, 0.5))
    return lf.serial(lf.coupling(lf.dense(2 * changed), swap=swap, **bound), lf.select(0))


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


def decoder(rng, x):
    more = options(rng, norm_first=(True,), is_causal=(False,), activation=("gelu",))
    heads, dropout = divisor(rng, x.shape[-1]), rng.choice((0.0, 0.0, 0.2))
    return lf.transformer_decoder_block(heads, size(rng), dropout, **more)


def with_context(rng, x, depth):
    parts = [lf.multiply(), lf.add(), lf.serial(lf.select(0), alike(rng, x, depth))]
    if x.ndim == 3:
        parts.append(decoder(rng, x))
    chosen = rng.choices(parts, k=rng.choice((1, 2, 3)))
    return lf.serial(fork(lf.identity(), lf.sigmoid()), lf.with_context(*chosen))


def looking_back(rng, x, depth):
    return lf.causal_conv1d(size(rng), rng.choice((1, 2, 3)), **options(rng, bias=(False,)))


def of_mamba(rng, x, depth):
    more = options(rng, bias=(True,), conv_bias=(False,))
    return lf.mamba(x.shape[-1], 3, expand=1, conv_kernel=2, **more)


TUPLED = {
    "causal_conv1d": ((3,), looking_back), "mamba": ((3,), of_mamba), "coupling": ((2,), flowing),
    "matmul": ((3,), multiplying), "parallel": (ANY, parallel), "repeating": (ANY, repeating),
    "shared": (ANY, shared), "with_context": (ANY, with_context),
}  # fmt: skip


def reading(rng, x, codes):
    """Draw what reads a sequence with a mask, of features or of codes."""
    sequence, _ = x
    parts = []
    if not sequence.is_floating_point():
        parts.append(lf.embedding(codes, size(rng)))
        sequence = applied(parts[0], sequence)
    names = ("rnn", "gru", "lstm", "multi_head_attention", "transformer_encoder_block")
    for _ in range(rng.randint(1, 3)):
        name = rng.choice((*names, "dense", "layer_norm", "relu"))
        # The norm is not over the positions.
        parts.append(lf.layer_norm() if name == "layer_norm" else named(rng, name, sequence))
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
                    h = lf.keys.normal(lf.Key(0), (*x.shape, width))
                    layer = lf.tied(layer, alike(rng, h, 2))
            return [layer], applied(layer, x)
        except (lf.LayerError, ValueError):
            continue
