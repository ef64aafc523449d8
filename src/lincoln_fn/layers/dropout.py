"""Dropout: y = x mask / (1 - p), where the mask drops each place with probability p.

What is kept is scaled up, so that y's expectation is x and `predict` is the identity (Srivastava
and others, "Dropout", JMLR 2014). The last `spatial` axes can share one draw, which drops whole
channels (Tompson and others, "Efficient Object Localization Using Convolutional Networks", CVPR
2015, section 3.2).

Derivation. The mask does not depend on x, so y is linear in x, and with scale = 1 / (1 - p), or 0
where p = 1 and nothing is kept,

    dx = g mask scale.

The key stands in params, as a state: `forward` with the same params draws the same mask, and
`advance` returns params with the next key, key.fold_in(0). Cache: the mask, and scale.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lincoln_fn import keys
from lincoln_fn.keys import Key
from lincoln_fn.record import record, static
from lincoln_fn.shapes import (
    LayerError,
    check_cache,
    check_cotangent,
    check_input,
    check_params,
)


@record
class Params:
    """The key that the next mask is drawn from; nothing that is trained."""

    key: Key


@record
class Cache:
    """What was kept, by how much it was scaled, and y's dtype."""

    mask: Bool[Tensor, "*s"]
    scale: float = static()
    dtype: torch.dtype = static()


def init(key: Key, x: Float[Tensor, "*s"]) -> Params:
    """Make the key of the first mask.

    Args:
        key: what it is made from.
        x: an example input, of which only the device counts.

    Returns:
        The parameters, on x's device.

    Raises:
        LayerError: if x is not a floating tensor.
    """
    check_input("dropout", (), x)
    return Params(key.near(x).fold_in(0))


def forward(
    params: Params, x: Float[Tensor, "*s"], *, p: float = 0.5, spatial: int = 0
) -> tuple[Float[Tensor, "*s"], Cache]:
    """Compute y = x mask / (1 - p), with a mask drawn from the key.

    Args:
        params: the key.
        x: of any shape; with spatial, of shape (N, C, ...) or (C, ...) with so many axes after C.
        p: the probability to drop, from 0 to 1.
        spatial: how many of the last axes are kept or dropped as one.

    Returns:
        y of x's shape, and the cache.

    Raises:
        LayerError: if x is not a floating tensor of such a shape, or params are another layer's.

    Example:
        >>> y, cache = forward(Params(Key(0)), torch.ones(5), p=0.5)
        >>> y, cache.mask
        (tensor([0., 2., 2., 0., 2.]), tensor([False,  True,  True, False,  True]))
    """
    _check(params, x, spatial)
    mask = draw_mask(params.key, x, p, spatial)
    scale = 1 / (1 - p) if p < 1 else 0.0
    return x * mask * scale, Cache(mask, scale, x.dtype)


def backward(
    params: Params, cache: Cache, g: Float[Tensor, "*s"]
) -> tuple[Float[Tensor, "*s"], Params]:
    """Compute dx = g mask scale.

    Args:
        params: those given to `forward`.
        cache: what `forward` returned.
        g: dL/dy, of y's shape.

    Returns:
        dx of x's shape, and params, whose key has no gradient.

    Raises:
        LayerError: if g does not mirror y, or params or cache are another layer's.

    Example:
        >>> cache = Cache(torch.tensor([True, False]), 2.0, torch.float32)
        >>> backward(Params(Key(0)), cache, torch.ones(2))[0]
        tensor([2., 0.])
    """
    check_params("dropout", params, Params)
    check_cache("dropout", cache, Cache)
    like_y = cache.mask.new_empty((), dtype=cache.dtype)
    check_cotangent("dropout", g, like_y, cache.mask.shape)
    return g * cache.mask * cache.scale, params


def predict(
    params: Params, x: Float[Tensor, "*s"], *, p: float = 0.5, spatial: int = 0
) -> Float[Tensor, "*s"]:
    """Return x itself.

    Args:
        params: the key, unused.
        x: as `forward` takes it.
        p: ignored.
        spatial: as `forward` takes it.

    Returns:
        x.

    Raises:
        LayerError: as `forward` does.
    """
    _check(params, x, spatial)
    return x


def advance(params: Params, cache: Cache) -> Params:
    """Move on to the next mask's key, key.fold_in(0).

    Args:
        params: those given to `forward`.
        cache: ignored.

    Returns:
        The parameters with the next key.

    Raises:
        LayerError: if params are another layer's.
    """
    check_params("dropout", params, Params)
    return Params(params.key.fold_in(0))


def draw_mask(key: Key, x: Float[Tensor, "*s"], p: float, spatial: int) -> Bool[Tensor, "*s"]:
    """Draw what to keep, the last `spatial` axes as one.

    Args:
        key: the key.
        x: the input, of which only shape and device count.
        p: the probability to drop.
        spatial: how many of the last axes share one draw.

    Returns:
        True where x is kept, of x's shape.
    """
    shape = tuple(x.shape[: x.ndim - spatial]) + (1,) * spatial
    return keys.bernoulli(key.near(x), shape, 1 - p).expand(x.shape)


def _check(params: Params, x: Tensor, spatial: int) -> None:
    check_input("dropout", params, x, Params)
    if spatial and x.ndim - spatial not in (1, 2):
        axes = "".join(f", L{i}" for i in range(1, spatial + 1))
        expected = f"(N, C{axes}) or (C{axes})"
        raise LayerError("dropout", f"expected x of shape {expected}, got {tuple(x.shape)}")
