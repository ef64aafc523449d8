"""How the arguments of each single layer's constructor are drawn.

A row is by name (numbers of axes of x, draw), with draw(rng, shape of x) -> layer. What it draws
may not fit the shape: then the layer refuses it, and another is drawn.
"""

import math

import torch

import lincoln_fn as lf
from helpers.cases import CASES
from helpers.fuzzing import spatial
from helpers.fuzzing.draws import axis, chance, divisor, options, size
from helpers.names import names_of

ANY, SPATIAL = (2, 3, 4, 5), spatial.SPATIAL
P = (0.0, 0.1, 0.5, 0.9)


def plain(*names):
    """Give rows of layers that are drawn without arguments."""
    return {name: (ANY, lambda r, s, name=name: getattr(lf, name)()) for name in names}


ACTIVATIONS = {
    **plain("sigmoid", "tanh", "relu", "log_sigmoid", "relu6", "selu", "silu", "mish", "softsign",
        "tanhshrink", "hardswish", "hardsigmoid", "identity"),
    "leaky_relu": (ANY, lambda r, s: lf.leaky_relu(r.choice((0.01, 0.3, -0.5)))),
    "prelu": (ANY, lambda r, s: lf.prelu(r.choice((1, s[1])), r.choice((0.25, -0.5)))),
    "elu": (ANY, lambda r, s: lf.elu(r.choice((1.0, 0.3)))),
    "celu": (ANY, lambda r, s: lf.celu(r.choice((1.0, 0.3)))),
    "gelu": (ANY, lambda r, s: lf.gelu(r.choice(("none", "tanh")))),
    "softplus": (ANY, lambda r, s: lf.softplus(**options(r, beta=(0.5, 2.0), threshold=(1.0,)))),
    "hardtanh": (ANY, lambda r, s: lf.hardtanh(*r.choice(((-1.0, 1.0), (-0.5, 0.3))))),
    "hardshrink": (ANY, lambda r, s: lf.hardshrink(r.choice((0.5, 0.1)))),
    "softshrink": (ANY, lambda r, s: lf.softshrink(r.choice((0.5, 0.1)))),
    "threshold": (ANY, lambda r, s: lf.threshold(r.choice((0.1, -0.5)), r.choice((0.1, -1.0)))),
    "rrelu": (ANY, lambda r, s: lf.rrelu(*r.choice(((1 / 8, 1 / 3), (0.5, 0.5))))),
    "glu": (ANY, lambda r, s: lf.glu(r.choice([i for i in range(1, len(s)) if s[i] % 2 == 0]))),
}  # fmt: skip
ABOVE_0 = lf.softplus(), lf.shift(0.5)
FORMULAS = {
    **plain("sin", "cos", "absolute"),
    "exp": (ANY, lambda r, s: lf.serial(lf.tanh(), lf.exp())),
    "power": (ANY, lambda r, s: lf.serial(lf.tanh(), lf.power(r.choice((2, 3))))),
    **{name: (ANY, lambda r, s, name=name: lf.serial(*ABOVE_0, getattr(lf, name)()))
        for name in ("log", "sqrt", "reciprocal")},
    "clamp": (ANY, lambda r, s: lf.clamp(r.choice((None, -0.5)), 0.3)),
    "shift": (ANY, lambda r, s: lf.shift(r.choice((0.5, -0.3)))),
}  # fmt: skip
REDUCTIONS = {
    name: (
        SPATIAL,
        lambda r, s, name=name: getattr(lf, name)(
            dim=r.randrange(1, len(s)), **options(r, keepdim=(True,))
        ),
    )
    for name in ("sum", "mean", "amax", "norm", "logsumexp", "variance")
}
SOFTMAXES = {
    name: (ANY, lambda r, s, name=name: getattr(lf, name)(axis(r, len(s))))
    for name in ("softmax", "log_softmax", "softmin")
}
DROPOUTS = {
    name: (axes, lambda r, s, name=name: getattr(lf, name)(r.choice(P)))
    for name, axes in (
        ("dropout", ANY), ("dropout1d", (3,)), ("dropout2d", (4,)), ("dropout3d", (5,)),
        ("alpha_dropout", ANY), ("feature_alpha_dropout", ANY),
    )
}  # fmt: skip

STATISTICS = {
    "eps": (0.1,), "momentum": (None, 0.5), "affine": (False, True), "bias": (False,),
    "track_running_stats": (False, True),
}  # fmt: skip


def last_axes(rng, shape):
    """Draw how many of the last axes are normalised together: as -1, or their sizes."""
    return -1 if chance(rng, 0.6) else shape[rng.randrange(1, len(shape)) :]


NORMS = {
    "batch_norm": (ANY, lambda r, s: lf.batch_norm(**options(r, **STATISTICS))),
    "instance_norm": (SPATIAL, lambda r, s: lf.instance_norm(**options(r, **STATISTICS))),
    "group_norm": (ANY, lambda r, s: lf.group_norm(divisor(r, s[1]),
            **options(r, eps=(0.1,), affine=(False,), bias=(False,)))),
    "layer_norm": (ANY, lambda r, s: lf.layer_norm(last_axes(r, s),
            **options(r, eps=(0.1,), elementwise_affine=(False,), bias=(False,)))),
    "rms_norm": (ANY, lambda r, s: lf.rms_norm(last_axes(r, s),
            **options(r, eps=(0.1,), elementwise_affine=(False,), offset=(1.0,)))),
    "local_response_norm": (SPATIAL,
        lambda r, s: lf.local_response_norm(r.choice((1, 2, 3, 5)), r.choice((1e-4, 0.7)))),
}  # fmt: skip
DENSE = {"dense": (ANY, lambda r, s: lf.dense(size(r), **options(r, bias=(False,))))}


def permuted(r, s):
    behind = list(range(1, len(s)))
    r.shuffle(behind)
    return lf.permute(0, *behind)


def unflattened(r, s):
    i = r.randrange(1, len(s))
    d = divisor(r, s[i])
    return lf.unflatten(i - r.choice((0, len(s))), (d, r.choice((-1, s[i] // d))))


def reshaped(r, s):
    d = divisor(r, math.prod(s[1:]))
    return lf.reshape(d, -1) if chance(r, 0.7) else lf.reshape(-1)


SHAPES = {
    "flatten": (SPATIAL, lambda r, s: lf.flatten(r.randrange(1, len(s)), r.choice((-1, 2)))),
    "unflatten": ((2, 3, 4), unflattened),
    "reshape": (ANY, reshaped),
    "permute": (SPATIAL, permuted),
    "flip": (ANY, lambda r, s: lf.flip(r.randrange(1, len(s)))),
    "dilate": ((2, 3, 4), lambda r, s: lf.dilate(r.choice((1, 2, 3)), r.randrange(1, len(s)))),
    "split": (ANY,
        lambda r, s: lf.serial(lf.split(r.choice((1, 2)), r.randrange(1, len(s))), lf.select(0))),
    "broadcast_to": (ANY,
        lambda r, s: lf.serial(lf.mean(1, keepdim=True), lf.broadcast_to(*(-1, s[1], *s[2:])))),
    "pixel_shuffle": ((4,), lambda r, s: lf.pixel_shuffle(r.choice((1, 2, 2, 3)))),
    "pixel_unshuffle": ((4,), lambda r, s: lf.pixel_unshuffle(r.choice((1, 2, 2, 3)))),
    "upsample": (SPATIAL, spatial.upsampled),
}  # fmt: skip


def recurrent(name):
    def draw(r, s):
        more = {"nonlinearity": ("relu",)} if name == "rnn" else {}
        return getattr(lf, name)(
            min(size(r), 33),
            **options(
                r, num_layers=(2,), bias=(False,), bidirectional=(True,), batch_first=(False,),
                **more,
            ),
        )  # fmt: skip

    return (3,), draw


def cell(name):
    def draw(r, s):
        more = {"nonlinearity": ("relu",)} if name == "rnn_cell" else {}
        made = getattr(lf, name)(size(r), **options(r, bias=(False,), **more))
        return lf.serial(made, lf.select(0)) if name == "lstm_cell" else made

    return (2, 3), draw


RECURRENT = {
    **{name: recurrent(name) for name in ("rnn", "gru", "lstm")},
    **{name: cell(name) for name in ("rnn_cell", "gru_cell", "lstm_cell")},
    "last_state": ((3,), lambda r, s: lf.last_state()),
    "masked_mean": ((3,), lambda r, s: lf.masked_mean()),
}


def encoder(r, s):
    return lf.transformer_encoder_block(
        divisor(r, s[-1]),
        size(r),
        r.choice((0.0, 0.0, 0.2)),
        **options(
            r, activation=("gelu",), layer_norm_eps=(0.1,), norm_first=(True,), is_causal=(True,),
            bias=(False,), batch_first=(False,),
        ),
    )  # fmt: skip


def turning(r, s):
    if s[-1] == 1:
        return lf.sinusoidal_positions()
    dim = r.randrange(2, s[-1] + 1, 2)
    return lf.rotary_embedding(rotary_dim=dim, **options(r, theta=(50.0,), interleaved=(True,)))


ATTENTION = {
    "multi_head_attention": ((3,), lambda r, s: lf.multi_head_attention(divisor(r, s[-1]),
            **options(r, dropout=(0.3,), bias=(False,), is_causal=(True,), batch_first=(False,)))),
    "transformer_encoder_block": ((3,), encoder),
    "positional_embedding": ((3, 4),
        lambda r, s: lf.positional_embedding(s[-2] + r.choice((0, 0, 2)))),
    "sinusoidal_positions": ((3, 4), lambda r, s: lf.sinusoidal_positions()),
    "rotary_embedding": ((3, 4), turning),
}  # fmt: skip

# By family, so that the many activations are not most of what is drawn: (weight, rows).
WITH_ROWS = (
    (3, DENSE), (3, ACTIVATIONS), (1, FORMULAS), (1, REDUCTIONS), (1, SOFTMAXES), (1, DROPOUTS),
    (3, NORMS), (2, SHAPES), (3, RECURRENT), (3, ATTENTION),
    (4, spatial.CONVOLUTIONS), (4, spatial.POOLS), (2, spatial.PADS),
)  # fmt: skip


def as_in_cases(without):
    """Give rows of layers that have none above: each is made as in one of its cases."""
    rows = {}
    for case in CASES:
        name = case.layer.name.partition("(")[0]
        is_image = isinstance(case.x, torch.Tensor) and case.x.is_floating_point()
        if case.layer.composition is None and is_image and name in without:
            rows.setdefault(name, []).append(case)
    return {name: (sizes(cases), drawn_from(cases)) for name, cases in rows.items()}


def sizes(cases):
    return tuple({case.x.ndim for case in cases}.intersection(ANY))


def drawn_from(cases):
    return lambda r, s: r.choice([case.layer for case in cases if case.x.ndim == len(s)])


def returns(made):
    return getattr(made, "__annotations__", {}).get("return")


# Drawn in networks.py, where inputs and outputs are tuples or codes.
ELSEWHERE = {
    "add", "multiply", "concatenate", "bilinear", "cosine_similarities", "embedding",
    "scaled_dot_product_attention", "attention_heads", "alibi", "relative_position_bias", "select",
    "inference", "subtract", "divide", "maximum", "where", "matmul", "broadcast_tensors", "stack",
    "gather", "index_select", "scatter", "graph_conv", "graph_attention", "timestep_embedding",
    "vector_quantize", "linear_head", "linear_scan", "token_log_probs",
}  # fmt: skip
WITHOUT = (
    {name for name, made in names_of(lf).items() if returns(made) == "Layer"}
    - {name for _, rows in WITH_ROWS for name in rows}
    - ELSEWHERE
)
OTHERS = as_in_cases(WITHOUT)
FAMILIES = (*WITH_ROWS, *(((1, OTHERS),) if OTHERS else ()))
