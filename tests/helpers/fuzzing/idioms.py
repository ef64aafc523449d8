"""Layers that networks often have one behind the other."""

import lincoln_fn as lf
from helpers.fuzzing.draws import chance, size


def activation(rng):
    names = ("relu", "relu", "tanh", "sigmoid", "gelu", "silu", "leaky_relu")
    return getattr(lf, rng.choice(names))()


def convolved(rng, x, depth):
    """Draw a convolution, often normalised, an activation and a pooling, as networks have them."""
    n = x.ndim - 2
    pool = getattr(lf, f"{rng.choice(('max', 'avg'))}_pool{n}d")(rng.choice((2, 3)))
    parts = [getattr(lf, f"conv{n}d")(size(rng), rng.choice((1, 3, 5)), padding=rng.choice((0, 1)))]
    parts += [lf.batch_norm()] if chance(rng, 0.3) else []
    parts += [activation(rng)] if chance(rng, 0.8) else []
    return lf.serial(*parts, *([pool] if chance(rng, 0.7) else []))


def perceptron(rng, x, depth):
    parts = [
        part for _ in range(rng.choice((1, 2))) for part in (lf.dense(size(rng)), activation(rng))
    ]
    return lf.serial(*parts, *([lf.dropout(0.2)] if chance(rng, 0.3) else []))


IDIOMS = {"convolved": ((3, 4, 5), convolved), "perceptron": ((2, 3), perceptron)}
