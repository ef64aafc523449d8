"""Group norm: y = (x - mean) / sqrt(var + eps) * weight + bias, over groups of channels.

The channels of each example fall into groups of neighbours, and each group, over all of its
channels and places, is normalised by its own mean and biased variance; the weight and the bias are
one number a channel (Wu and He, "Group Normalization", ECCV 2018, section 3).

Derivation. A group is a row of layer norm, M = C / num_groups * places long, so that with
rstd = 1 / sqrt(var + eps), x_hat = (x - mean) rstd and dx_hat = g weight the three terms are those
derived in `layers/layer_norm.py`, the means being taken over the group:

    dx      = rstd (dx_hat - mean(dx_hat) - x_hat mean(dx_hat x_hat))
    dweight = sum over examples and places of g x_hat
    dbias   = sum over examples and places of g

Cache: x in contiguous order, and mean and rstd, one number a group.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from lincoln_fn.keys import Key
from lincoln_fn.layers._normalisation import (
    check_channels,
    first_affine,
    normalise_groups,
    normalise_groups_backward,
)
from lincoln_fn.record import record
from lincoln_fn.shapes import (
    LayerError,
    check_cache,
    check_cotangent,
    check_input,
    check_params,
)


@record
class Params:
    """The scale and the shift, one number a channel; None for a layer without."""

    weight: Float[Tensor, " channels"] | None
    bias: Float[Tensor, " channels"] | None


@record
class Cache:
    """The input, and its groups' mean and rstd."""

    x: Float[Tensor, "batch channels *spatial"]
    mean: Float[Tensor, "batch groups"]
    rstd: Float[Tensor, "batch groups"]


def init(
    key: Key, x: Float[Tensor, "batch channels *spatial"], *, num_groups: int, affine: bool
) -> Params:
    """Make a weight of ones and a bias of zeros for inputs like x.

    Args:
        key: ignored.
        x: an example input, of which only shape, dtype and device count.
        num_groups: how many groups the channels fall into.
        affine: whether there are a weight and a bias.

    Returns:
        The parameters, in x's dtype and on its device.

    Raises:
        LayerError: if x is not a floating tensor of shape (N, C, ...) with C a multiple of
            num_groups.
    """
    check_input("group_norm", (), x)
    _check(x, None, num_groups)
    return Params(*first_affine(x, (x.shape[1],), weight=affine, bias=affine))


def forward(
    params: Params,
    x: Float[Tensor, "batch channels *spatial"],
    *,
    num_groups: int,
    eps: float = 1e-5,
) -> tuple[Float[Tensor, "batch channels *spatial"], Cache]:
    """Compute y = (x - mean) / sqrt(var + eps) * weight + bias, group by group.

    Args:
        params: weight and bias.
        x: of shape (N, C, ...), any number of further axes.
        num_groups: how many groups the channels fall into.
        eps: added to the variance.

    Returns:
        y of x's shape, and the cache.

    Raises:
        LayerError: if x is not a floating tensor of shape (N, C, ...) with the weight's C, dtype
            and device, C is no multiple of num_groups, or params are another layer's.

    Example:
        >>> forward(Params(None, None), torch.tensor([[1.0, 3.0, 6.0, 4.0]]), num_groups=2)[0]
        tensor([[-1.0000,  1.0000,  1.0000, -1.0000]])
    """
    check_input("group_norm", params, x, Params)
    _check(x, params.weight, num_groups)
    x = x.contiguous()
    y, mean, rstd = normalise_groups(x, params.weight, params.bias, num_groups, eps)
    return y, Cache(x, mean, rstd)


def backward(
    params: Params, cache: Cache, g: Float[Tensor, "batch channels *spatial"]
) -> tuple[Float[Tensor, "batch channels *spatial"], Params]:
    """Compute dx = rstd (dx_hat - mean(dx_hat) - x_hat mean(dx_hat x_hat)), dweight and dbias.

    Args:
        params: those given to `forward`.
        cache: what `forward` returned.
        g: dL/dy, of y's shape.

    Returns:
        dx of x's shape, and dparams.

    Raises:
        LayerError: if g does not mirror y, or params or cache are another layer's.

    Example:
        >>> params = Params(None, None)
        >>> _, cache = forward(params, torch.tensor([[1.0, 3.0, 3.0]]), num_groups=1)
        >>> backward(params, cache, torch.ones(1, 3))[0].abs().max() < 1e-6
        tensor(True)
    """
    check_params("group_norm", params, Params)
    check_cache("group_norm", cache, Cache)
    check_cotangent("group_norm", g, cache.x)
    statistics = (cache.mean, cache.rstd)
    dx, dweight, dbias = normalise_groups_backward(
        g, cache.x, statistics, params.weight, params.bias
    )
    return dx, Params(dweight, dbias)


def _check(x: Tensor, weight: Tensor | None, num_groups: int) -> None:
    check_channels("group_norm", x, weight)
    if x.shape[1] % num_groups:
        problem = f"expected C to be a multiple of num_groups={num_groups}"
        raise LayerError("group_norm", f"{problem}, got x of shape {tuple(x.shape)}")
