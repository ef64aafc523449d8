"""Bias: y = x + b, a number for each feature.

Derivation. For one row,

    y_j = x_j + b_j

so that, with g_j for dL/dy_j,

    dx_j = g_j
    db_j = sum g_j    over the rows

All axes of x except the last are axes of rows.

Cache: the shape of x.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import Features, Key, Layer, bare, check_batched, record
from lincoln_fn.initializers import Fans, Initializer, zeros
from lincoln_fn.layers.dense import rows


@record
class Params:
    """The number that is added to each feature."""

    bias: Float[Tensor, " features"]


def init(key: Key, x: Features, *, bias_init: Initializer) -> Params:
    """Draw b, with as many numbers as x has features."""
    if x.ndim == 0:
        raise core.wrong_shape("bias", "x", x, "(..., features)")
    n = x.shape[-1]
    return Params(bias_init.draw(key, (n,), Fans(n, n), x.dtype))


def forward(params: Params, x: Features) -> tuple[Features, Features]:
    """Compute y = x + b."""
    core.check_like("bias", "x", x, params.bias)
    core.check_bias("bias", params.bias, x, x.shape[-1])
    return x + params.bias, x.new_zeros(()).expand(x.shape)


def backward(params: Params, cache: Features, g: Features) -> tuple[Features, Params]:
    """Compute dx = g and db = sum of g over the rows."""
    return g, Params(rows(g).sum(0))


def terms(params: Params, cache: Tensor, g: Tensor) -> Params:
    """Return db_n = sum of g over the rows of example n."""
    check_batched("bias", g)
    return core.mirror(params, bias=core.sum_rows(g))


@core.constructor(kind="addition", terms=terms)
def bias(*, bias_init: Initializer = zeros()) -> Layer:
    """Add a trained number to each feature: y = x + b.

    x has shape (..., features), with any number of leading axes, and so has y. Most layers have a
    bias of their own; this one follows those that have none, such as the scores of `tied`.

    Example:
        >>> bias().predict(Params(torch.tensor([1.0, 2.0])), torch.tensor([[10.0, 20.0]]))
        tensor([[11., 22.]])
    """
    return bare(Layer, forward, backward, init)
