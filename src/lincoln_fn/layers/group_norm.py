"""Group norm: y = (x - mean) / sqrt(var + epsilon) w + b, over groups of channels.

The channels of each example are divided into groups of neighbours. Each group is normalised by its
mean and biased variance over all of its channels and positions. The weight and the bias have one
number per channel (Wu and He, "Group Normalization", ECCV 2018, section 3).

Derivation. A group takes the role of a row in layer norm, and the means are over the group:

    rstd = 1 / sqrt(var + epsilon)
    hat x = (x - mean) rstd
    y = hat x w + b

`layers/layer_norm.py` derives

    d hat x = g w
    dx = rstd (d hat x - mean(d hat x) - hat x mean(d hat x hat x))
    dw = sum g hat x    over examples and positions
    db = sum g    over examples and positions

Cache: x_hat in x's dtype; rstd, one number per group, for half precision in float32.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import Channels, Key, Layer, NonNegative, PositiveInt, bare, record
from lincoln_fn.layers.common import normalisation
from lincoln_fn.layers.common.inputs import check_grouped


@record
class Params:
    """The scale and the shift, one number per channel, or None."""

    weight: Float[Tensor, " channels"] | None
    bias: Float[Tensor, " channels"] | None


@record
class Cache:
    x_hat: Channels
    rstd: Float[Tensor, "batch groups 1 *ones"]


def init(key: Key, x: Channels, *, num_groups: int, affine: bool, bias: bool) -> Params:
    """Make a weight of ones and a bias of zeros for inputs like x."""
    check_grouped(None, x, num_groups)
    return Params(*normalisation.first_affine(key, x, (x.shape[1],), affine, bias))


def forward(params: Params, x: Channels, *, num_groups: int, eps: float) -> tuple[Channels, Cache]:
    """Compute y = x_hat w + b with x_hat = (x - mean) rstd, group by group."""
    check_grouped(params, x, num_groups)
    grouped = _in_groups(x, num_groups)
    x_hat, rstd, _, _ = normalisation.standardised(grouped, tuple(range(2, grouped.ndim)), eps)
    x_hat = x_hat.flatten(1, 2)
    y = normalisation.scale_and_shift(x_hat, params.weight, params.bias, x.ndim - 2)
    return y.to(x.dtype), Cache(x_hat.to(x.dtype), rstd)


def backward(params: Params, cache: Cache, g: Channels) -> tuple[Channels, Params]:
    """Compute dx = rstd (dx_hat - mean(dx_hat) - x_hat mean(dx_hat x_hat)), dw and db."""
    dx_hat, dparams = normalisation.affine_backward(params, cache.x_hat, g, (1,))
    rstd = cache.rstd
    dx_hat, x_hat = (_in_groups(each, rstd.shape[1]) for each in (dx_hat, cache.x_hat))
    dx = normalisation.standardised_dx(dx_hat, x_hat, rstd, tuple(range(2, rstd.ndim)))
    return dx.flatten(1, 2).to(g.dtype), dparams


def _in_groups(x: Tensor, num_groups: int) -> Tensor:
    """Split axis 1, the channels, into the groups and their channels."""
    return x.reshape(x.shape[0], num_groups, x.shape[1] // num_groups, *x.shape[2:])


def terms(params: Params, cache: Cache, g: Tensor) -> Params:
    """Return dw_n = sum of g x_hat and db_n = sum of g, over what shares them in example n."""
    return normalisation.affine_terms(params, cache.x_hat, g, (1,))


@core.constructor(kind="norm", terms=terms)
def group_norm(
    num_groups: PositiveInt, eps: NonNegative = 1e-5, affine: bool = True, *, bias: bool = True
) -> Layer:
    """Normalise groups of channels of each example: y = (x - mean) / sqrt(var + eps) w + b.

    x is of shape (N, C) or (N, C, ...) with any further axes; y is of x's shape.

    Args:
        num_groups: the number of groups; C is a multiple of it.
        affine: whether there is a weight.

    Example:
        >>> params = Params(None, None)
        >>> group_norm(2, affine=False).predict(params, torch.tensor([[1.0, 3.0, 6.0, 4.0]]))
        tensor([[-1.0000,  1.0000,  1.0000, -1.0000]])
    """
    return bare(Layer, forward, backward, init)
