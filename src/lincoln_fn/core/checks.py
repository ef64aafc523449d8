"""Checks of params, inputs, caches and cotangents, for a layer's functions."""

from __future__ import annotations

from torch import Tensor

from lincoln_fn.core.values import Like
from lincoln_fn.errors.descriptions import describe, format_briefly
from lincoln_fn.errors.errors import LayerError, unexpected, wrong_kind
from lincoln_fn.errors.suggestions import suggest


def check_input(layer: str, params: object, x: object, expected: type | None = None) -> None:
    """Check that parameters belong to the layer, and that the input is a floating tensor."""
    check_params(layer, params, expected)
    if not isinstance(x, Tensor):
        raise unexpected(layer, "x to be a tensor", type(x).__name__, suggest(x, "tensor"))
    if not x.is_floating_point():
        mend = "convert it first, say by x.float()"
        raise unexpected(layer, "x of a floating dtype", x.dtype, mend)


def check_example(layer: str, key: object, x: object) -> None:
    """Check what `init` is given: a key, and a floating tensor, or None for what it checks."""
    if type(key).__name__ != "Key":
        raise wrong_kind(layer, "key", key, "Key")
    if x is not None:
        check_input(layer, (), x)


def check_params(layer: str, params: object, expected: type | None) -> None:
    """Check that parameters are of the layer's class, or () if it has none."""
    if expected is None:
        if type(params) is not tuple or params:
            raise _wrong_params(layer, "()", params)
    elif type(params) is not expected:
        owner = f"{expected.__module__.rpartition('.')[2]}.{expected.__name__}"
        raise _wrong_params(layer, owner, params)


def _wrong_params(layer: str, expected: str, given: object) -> LayerError:
    return unexpected(layer, f"params {expected}", describe(given), suggest(given, "params"))


def check_bias(layer: str, bias: object, weight: Tensor, n: int) -> None:
    """Check that a bias is one number for each of n features, and not one that broadcasts."""
    if bias is None:
        return
    if not isinstance(bias, Tensor) or bias.shape != (n,):
        raise wrong_shape(layer, "bias", bias, f"({n},)")
    if bias.dtype is not weight.dtype:
        raise unexpected(layer, f"bias of dtype {weight.dtype}", bias.dtype)


def shape_of(layer: str, weight: Tensor, axes: str) -> tuple[int, ...]:
    """Return the shape of a weight that has these axes, such as "(n_in, n_out)"."""
    shape: tuple[int, ...] = getattr(weight, "shape", ())
    if len(shape) != axes.count(",") + 1:
        raise wrong_shape(layer, "weight", weight, axes)
    return shape


def wrong_shape(layer: str, name: str, given: object, shape: str) -> LayerError:
    """Make the error about a tensor of the wrong shape, or about what is no tensor."""
    got = given.shape if isinstance(given, Tensor) else type(given).__name__
    return unexpected(layer, f"{name} of shape {shape}", got, suggest(given, "tensor"))


def check_like(layer: str, name: str, given: Tensor, like: Tensor | Like) -> None:
    """Check that a tensor has another's dtype and device."""
    if given.dtype is not like.dtype:
        if not isinstance(like, Tensor | Like):  # a numpy array has a dtype, too
            mend = suggest(like, "tensor")
            raise unexpected(layer, "params of tensors", type(like).__name__, mend)
        is_input = name == "x" and like.dtype.is_floating_point and given.is_floating_point()
        mend = f"convert it by x.to({like.dtype})" if is_input else ""
        raise unexpected(layer, f"{name} of dtype {like.dtype}", given.dtype, mend)
    if given.device != like.device:
        raise unexpected(layer, f"{name} on {like.device}", given.device)


def check_cotangent(
    layer: str, g: object, cached: object, shape: tuple[int, ...] | None = None
) -> None:
    """Check that g has the output's shape, dtype and device, as the cache has them."""
    if not isinstance(cached, Tensor | Like):
        raise unexpected(layer, "the cache of its own forward", format_briefly(cached))
    if not isinstance(g, Tensor):
        raise unexpected(layer, "g to be a tensor", type(g).__name__)
    check_like(layer, "g", g, cached)
    expected = cached.shape if shape is None else shape
    if g.shape != expected:
        raise wrong_shape(layer, "g", g, f"{tuple(expected)}")


def check_cache(layer: str, cache: object, expected: type) -> None:
    """Check that a cache belongs to the layer."""
    if type(cache) is not expected:
        raise unexpected(layer, "the cache of its own forward", format_briefly(cache))


def check_axis(layer: str, x: Tensor, dim: int, *, scalar: bool = False) -> None:
    """Check that a tensor has an axis; with `scalar`, one without axes has one, of size 1."""
    ndim = max(x.ndim, 1) if scalar else x.ndim
    if not -ndim <= dim < ndim:
        raise unexpected(layer, f"x to have an axis dim={dim}", f"shape {tuple(x.shape)}")
