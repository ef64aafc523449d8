"""Alpha dropout, for networks of `selu`: dropped elements become selu's limit, alpha'.

alpha' is the limit for x towards minus infinity. With q = 1 - p, the probability to keep x,

    h = {(x, if kept), (alpha', otherwise):}
    y = a h + b

The numbers a and b are such that x of mean 0 and variance 1 gives y of mean 0 and variance 1:

    mean(h) = p alpha'
    var(h) = q + p alpha'^2 - p^2 alpha'^2 = q (1 + p alpha'^2)
    a = 1 / sqrt(q (1 + p alpha'^2))
    b = -a p alpha'

Where p = 1, both are 0, as in torch. `predict` is the identity.

Derivation. Neither the mask, which is 1 for kept elements, nor alpha' depends on x:

    dx = g mask a

This is dropout's own `backward` with scale = a. Params, `init` and `advance` are dropout's too.

Cache: the mask, and scale.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Final

import torch
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import Elements, Layer, Like, Probability, bare, constructor, declare
from lincoln_fn.layers.dropout import Cache, Params, advance, as_it_is, backward, draw_mask, init
from lincoln_fn.layers.selu import ALPHA, SCALE

# alpha', selu's limit far below 0.
DROPPED: Final = -SCALE * ALPHA


def forward(
    params: Params, x: Elements, *, p: float, features: bool = False
) -> tuple[Elements, Cache]:
    """Compute y = a h + b, with h = x where the mask keeps it, else alpha'."""
    _check(x, features)
    mask = draw_mask(params.key, x, p, spatial=x.ndim - 2 if features else 0)
    a = 1 / math.sqrt((1 - p) * (1 + p * DROPPED**2)) if p < 1 else 0.0
    b = -a * p * DROPPED
    h = torch.where(mask, x, DROPPED)
    return a * h + b, Cache(mask, a, Like.of(x))


def predict(params: Params, x: Elements, *, p: float, features: bool = False) -> Elements:
    """Return x itself."""
    _check(x, features)
    return x


declare(forward, kind="dropout")
declare(predict, kind="dropout", at_inference=as_it_is(predict))


def _check(x: Tensor, features: bool) -> None:
    if features and x.ndim < 2:
        raise core.wrong_shape("feature_alpha_dropout", "x", x, "(N, C, ...)")


@constructor
def alpha_dropout(p: Probability = 0.5) -> Layer:
    """Set dropped elements to selu's lower limit, and keep mean 0 and variance 1.

    `predict` returns x itself. The params are the key of the next mask. Source: Klambauer,
    Unterthiner, Mayr and Hochreiter, "Self-Normalizing Neural Networks", 2017, section 3.

    Example:
        >>> alpha_dropout(0.5).forward(Params(lf.Key(0)), torch.zeros(5))[0]
        tensor([-0.7792,  0.7792,  0.7792, -0.7792,  0.7792])
    """
    return bare(Layer, forward, backward, init, predict=predict, advance=advance)


@constructor
def feature_alpha_dropout(p: Probability = 0.5) -> Layer:
    """Drop whole channels as `alpha_dropout` drops elements: x has the shape (N, C, ...).

    Example:
        >>> feature_alpha_dropout(0.5).forward(Params(lf.Key(0)), torch.zeros(1, 3, 2))[0]
        tensor([[[-0.7792, -0.7792],
                 [ 0.7792,  0.7792],
                 [ 0.7792,  0.7792]]])
    """
    run, as_is = partial(forward, features=True), partial(predict, features=True)
    return bare(Layer, run, backward, init, predict=as_is, advance=advance)
