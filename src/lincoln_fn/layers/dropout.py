"""Dropout: y = x mask / (1 - p), where the mask drops each element with probability p.

Kept elements are scaled up, so that the expectation of y is x, and `predict` is the identity. The
last `spatial` axes can share one draw, which drops whole channels.

Derivation. The mask does not depend on x, so y is linear in x. With scale = 1 / (1 - p), or 0 where
p = 1 and nothing is kept,

    y = x mask scale
    dx = g mask scale

The key is in params, as a state: `forward` with the same params draws the same mask, and `advance`
returns params with the next key, key.fold_in(0).

Cache: the mask, and scale.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeVar

from jaxtyping import Bool
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import Elements, Key, Layer, Like, Probability, bare, declare, keys, record

P = TypeVar("P")


@record
class Params:
    """The key that the next mask is drawn from; nothing is trained."""

    key: Key


@record
class Cache:
    mask: Bool[Tensor, "*s"]
    scale: float = core.static()
    y: Like = core.static()


def init(key: Key, x: Elements) -> Params:
    """Make the key of the first mask."""
    return Params(key.fold_in(0))


def forward(params: Params, x: Elements, *, p: float, spatial: int = 0) -> tuple[Elements, Cache]:
    """Compute y = x mask scale, with a mask drawn from the key."""
    _check(x, spatial)
    return dropped(params.key, x, p, spatial)


def dropped(key: Key, x: Elements, p: float, spatial: int) -> tuple[Elements, Cache]:
    """Compute y, with one draw for the last `spatial` axes."""
    mask = draw_mask(key, x, p, spatial)
    scale = 1 / (1 - p) if p < 1 else 0.0
    return x * mask * scale, Cache(mask, scale, Like.of(x))


def backward(params: Params, cache: Cache, g: Elements) -> tuple[Elements, Params]:
    """Compute dx = g mask scale."""
    return g * cache.mask * cache.scale, params


def predict(params: Params, x: Elements, *, p: float, spatial: int = 0) -> Elements:
    """Return x itself."""
    _check(x, spatial)
    return x


def inference_forward(
    predict: Callable[..., Elements], params: Params, x: Elements, **options: object
) -> tuple[Elements, Elements]:
    """Compute y = x, and keep its shape, dtype and device in the memory of one number."""
    return predict(params, x, **options), core.stand_in(x)


def inference_backward(params: P, cache: Elements, g: Elements) -> tuple[Elements, P]:
    """Compute dx = g."""
    return g, params


def as_it_is(predict: Callable[..., Elements]) -> tuple[core.Function, core.Function]:
    """Return forward and backward of a `predict` that returns x itself, for `lf.inference`."""
    return partial(inference_forward, core.shape_checked(predict)), inference_backward


declare(forward, inference_forward, kind="dropout")
declare(predict, kind="dropout", at_inference=as_it_is(predict))


def advance(params: Params, cache: object) -> Params:
    """Return the next mask's key, key.fold_in(0)."""
    return Params(params.key.fold_in(0))


declare(advance, reads=())


def draw_mask(key: Key, x: Elements, p: float, spatial: int) -> Bool[Tensor, "*s"]:
    """Draw True for kept elements, with one draw for the last `spatial` axes."""
    shape = tuple(x.shape[: x.ndim - spatial]) + (1,) * spatial
    return keys.bernoulli(key.near(x), shape, 1 - p).expand(x.shape)


def _check(x: Tensor, spatial: int) -> None:
    if spatial and x.ndim - spatial not in (1, 2):
        axes = "".join(f", L{i}" for i in range(1, spatial + 1))
        raise core.wrong_shape(f"dropout{spatial}d", "x", x, f"(N, C{axes}) or (C{axes})")


@core.constructor
def dropout(p: Probability = 0.5) -> Layer:
    """Drop each element with probability p and scale up the rest: y = x mask / (1 - p).

    `predict` returns x itself. Source: Srivastava et al., "Dropout: A Simple Way to Prevent Neural
    Networks from Overfitting", 2014.

    Example:
        >>> dropout(0.5).forward(Params(Key(0)), torch.ones(5))[0]
        tensor([0., 2., 2., 0., 2.])
    """
    return bare(Layer, forward, backward, init, predict=predict, advance=advance)


def _dropout_nd(n: int, p: Probability = 0.5) -> Layer:
    """Drop whole channels of x of shape (N, C, *spatial) or (C, *spatial) and scale up the rest.

    x has one, two or three spatial axes. For three axes, (C, H, W), torch's `dropout2d` warns, and
    takes the first two as examples and channels, as `dropout1d` does. Source: Tompson et al.,
    "Efficient Object Localization Using Convolutional Networks", 2015, section 3.2.

    Example:
        >>> dropout1d(0.5).forward(Params(Key(0)), torch.ones(3, 2))[0]
        tensor([[0., 0.],
                [2., 2.],
                [2., 2.]])
    """
    run, as_is = partial(forward, spatial=n), partial(predict, spatial=n)
    return bare(Layer, run, backward, init, predict=as_is, advance=advance)


dropout1d, dropout2d, dropout3d = core.over_axes(_dropout_nd)
