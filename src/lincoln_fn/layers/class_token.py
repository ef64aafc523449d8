"""Class token: a trained vector in front of every sequence.

Derivation. With x of the positions 0 to length - 1,

    y_(0j) = w_j
    y_((t + 1) j) = x_(tj)

so that, with g_(tj) for dL/dy_(tj),

    dw_j = sum g_(0j)    over the sequences
    dx_(tj) = g_((t + 1) j)

All axes of x except the last two are axes of sequences.

Cache: the shapes of x and y.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import Key, Layer, Moved, Sequence, StandIns, bare, mirror, record, stand_ins
from lincoln_fn.initializers import Fans, Initializer, normal
from lincoln_fn.layers.dense import rows


@record
class Params:
    """The vector in front."""

    weight: Float[Tensor, " features"]


def init(key: Key, x: Sequence, *, weight_init: Initializer) -> Params:
    """Draw w, with as many numbers as x has features."""
    _check_shape(x, None)
    n = x.shape[-1]
    return Params(weight_init.draw(key, (n,), Fans(n, n), x.dtype))


def forward(params: Params, x: Sequence) -> tuple[Moved, StandIns]:
    """Put w in front of x."""
    core.check_like("class_token", "x", x, params.weight)
    _check_shape(x, tuple(params.weight.shape))
    y = torch.cat((params.weight.expand(*x.shape[:-2], 1, x.shape[-1]), x), -2)
    return y, stand_ins(x, y)


def backward(params: Params, cache: StandIns, g: Moved) -> tuple[Sequence, Params]:
    """Compute dx, which is g behind position 0, and dw = sum of g at position 0."""
    return g[..., 1:, :], Params(rows(g[..., 0, :]).sum(0))


def terms(params: Params, cache: StandIns, g: Tensor) -> Params:
    """Return dw_n = sum of g at position 0 over the sequences of example n."""
    core.check_batched("class_token", g, 3)
    return mirror(params, weight=core.sum_rows(g[..., 0, :]))


@core.constructor(kind="moving", terms=terms)
def class_token(*, weight_init: Initializer = normal(0.02)) -> Layer:
    """Put a trained vector in front of every sequence; its output stands for the whole sequence.

    x has shape (..., length, features), and y has (..., length + 1, features). Source: Devlin and
    others, "BERT", 2019, section 3; for images Dosovitskiy and others, "An Image is Worth 16x16
    Words", 2021, equation 1.

    Args:
        weight_init: draws the vector; the default is normal with standard deviation 0.02.

    Example:
        >>> class_token().predict(Params(torch.tensor([7.0])), torch.tensor([[1.0], [2.0]]))
        tensor([[7.],
                [1.],
                [2.]])
    """
    return bare(Layer, forward, backward, init)


def _check_shape(x: Tensor, weight: tuple[int, ...] | None) -> None:
    if x.ndim < 2 or (weight is not None and weight != x.shape[-1:]):
        n = "features" if weight is None else weight[-1] if weight else ()
        raise core.wrong_shape("class_token", "x", x, f"(..., length, {n})")
