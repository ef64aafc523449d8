"""Checks of params, inputs, caches and cotangents, for a layer's functions."""

from __future__ import annotations

from typing import Final

from torch import Tensor

from lincoln_fn.errors.descriptions import describe, format_briefly
from lincoln_fn.errors.errors import LayerError
from lincoln_fn.errors.suggestions import suggest

_OWN: Final = "expected the cache of its own forward, got"


def check_input(layer: str, params: object, x: object, expected: type | None = None) -> None:
    """Check that parameters belong to the layer, and that the input is a floating tensor."""
    check_params(layer, params, expected)
    if not isinstance(x, Tensor):
        raise LayerError(layer, f"expected x to be a tensor, got {_kind_of(x)}")
    if not x.is_floating_point():
        mend = "convert it first, say by x.float()"
        raise LayerError(layer, f"expected x of a floating dtype, got {x.dtype}; {mend}")


def check_params(layer: str, params: object, expected: type | None) -> None:
    """Check that parameters are of the layer's class, or () if it has none."""
    if type(params) is (expected or tuple) and (expected or not params):
        return
    owner = f"{expected.__module__.rpartition('.')[2]}.{expected.__name__}" if expected else "()"
    mend = _mend(params, "params")
    raise LayerError(layer, f"expected params {owner}, got {describe(params)}{mend}")


def _mend(given: object, kind: str) -> str:
    mend = suggest(given, kind)
    return f"; {mend}" if mend else ""


def _kind_of(given: object) -> str:
    return f"{type(given).__name__}{_mend(given, 'tensor')}"


def check_bias(layer: str, bias: object, weight: Tensor, n: int) -> None:
    """Check that a bias is one number for each of n features, and not one that broadcasts."""
    if bias is None:
        return
    if not isinstance(bias, Tensor) or bias.shape != (n,):
        raise wrong_shape(layer, "bias", bias, f"({n},)")
    if bias.dtype is not weight.dtype:
        raise LayerError(layer, f"expected bias of dtype {weight.dtype}, got {bias.dtype}")


def wrong_shape(layer: str, name: str, given: object, shape: str) -> LayerError:
    """Make the error about a parameter that is not a tensor, or has the wrong shape."""
    got = f"{tuple(given.shape)}" if isinstance(given, Tensor) else _kind_of(given)
    return LayerError(layer, f"expected {name} of shape {shape}, got {got}")


def check_like(layer: str, name: str, given: Tensor, like: Tensor) -> None:
    """Check that a tensor has another's dtype and device."""
    if given.dtype is not like.dtype:
        if not isinstance(like, Tensor):  # a numpy array has a dtype, too
            raise LayerError(layer, f"expected params of tensors, got {_kind_of(like)}")
        problem = f"expected {name} of dtype {like.dtype}, got {given.dtype}"
        is_input = name == "x" and like.dtype.is_floating_point and given.is_floating_point()
        mend = f"; convert it by x.to({like.dtype})" if is_input else ""
        raise LayerError(layer, f"{problem}{mend}")
    if given.device != like.device:
        raise LayerError(layer, f"expected {name} on {like.device}, got {given.device}")


def check_cotangent(
    layer: str, g: object, cached: object, shape: tuple[int, ...] | None = None
) -> None:
    """Check that g has the output's shape, dtype and device, as a cached tensor has them."""
    if not isinstance(cached, Tensor):
        raise LayerError(layer, f"{_OWN} {format_briefly(cached)}")
    if not isinstance(g, Tensor):
        raise LayerError(layer, f"expected g to be a tensor, got {type(g).__name__}")
    check_like(layer, "g", g, cached)
    expected = cached.shape if shape is None else shape
    if g.shape != expected:
        raise LayerError(layer, f"expected g of shape {tuple(expected)}, got {tuple(g.shape)}")


def check_cache(layer: str, cache: object, expected: type) -> None:
    """Check that a cache belongs to the layer."""
    if type(cache) is not expected:
        raise LayerError(layer, f"{_OWN} {format_briefly(cache)}")


def check_axis(layer: str, x: Tensor, dim: int, *, scalar: bool = False) -> None:
    """Check that a tensor has an axis; with `scalar`, one without axes has one, of size 1."""
    ndim = max(x.ndim, 1) if scalar else x.ndim
    if not -ndim <= dim < ndim:
        raise LayerError(layer, f"expected x to have an axis dim={dim}, got shape {tuple(x.shape)}")
