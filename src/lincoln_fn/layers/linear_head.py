"""Linear head: both factors of a product that `losses.linear_cross_entropy` computes in chunks.

Derivation. With the matrix W of a dense layer without bias, `forward` gives both factors,

    y = (x, W^T)

and the loss computes the scores x W. Each factor is an entry of y, so with g = (g_x, g_W),

    dx = g_x
    dW = g_W^T

`predict` computes the scores, as `dense` does.

Cache: stand-ins for both factors.
"""

from __future__ import annotations

from typing import TypeAlias

from jaxtyping import Float
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import Features, Key, Layer, PositiveInt, bare, declare, record, stand_in
from lincoln_fn.initializers import Initializer, fan_in_uniform
from lincoln_fn.layers import dense

NAME = "linear_head"
Factors: TypeAlias = tuple[Features, Float[Tensor, "n_out n_in"]]


@record
class Cache:
    x: Features
    weight: Float[Tensor, "n_out n_in"]


def init(key: Key, x: Features, *, num_classes: int, weight_init: Initializer) -> dense.Params:
    """Draw W of shape (n_in, num_classes), as `dense` does."""
    return dense.init(
        key, x, n_out=num_classes, bias=False, weight_init=weight_init, bias_init=weight_init
    )


def forward(params: dense.Params, x: Features) -> tuple[Factors, Cache]:
    """Give x and W^T."""
    dense.check_forward(params, x)
    weight = params.weight.mT
    return (x, weight), Cache(stand_in(x), stand_in(weight))


def backward(params: dense.Params, cache: Cache, g: Factors) -> tuple[Features, dense.Params]:
    """Compute dx = g_x and dW = g_W^T."""
    if type(g) is not tuple or len(g) != 2:
        raise core.unexpected(NAME, "g to be (g_x, g_W)", type(g).__name__)
    for of_factor, factor in zip(g, (cache.x, cache.weight), strict=True):
        core.check_cotangent(NAME, of_factor, factor)
    return g[0], dense.Params(g[1].mT, None)


def predict(params: dense.Params, x: Features) -> Float[Tensor, "*batch n_out"]:
    """Compute the scores x W."""
    return dense.forward(params, x)[0]


declare(predict, kind="dense", at_inference=(dense.forward, dense.backward))


@core.constructor(kind="other")
def linear_head(num_classes: PositiveInt, *, weight_init: Initializer = fan_in_uniform()) -> Layer:
    """End a network with a large number of classes: its loss computes the scores in chunks.

    In training y is the pair of x and the transposed matrix W, which the loss
    `losses.linear_cross_entropy` takes; the scores are never all in memory. `predict` gives the
    scores x W, as a dense layer without bias, whose params it has.

    Args:
        weight_init: draws W. The default is torch's: uniform within 1 / sqrt(n_in).

    Example:
        >>> head, params = linear_head(3), dense.Params(torch.ones(2, 3), None)
        >>> head.predict(params, torch.tensor([[10.0, 100.0]]))
        tensor([[110., 110., 110.]])
    """
    return bare(Layer, forward, backward, init, predict=predict)
