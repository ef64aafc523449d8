"""Checks of params, inputs, caches and cotangents, for a layer's functions."""

from __future__ import annotations

from torch import Tensor

from lincoln_fn.errors.descriptions import describe, format_briefly
from lincoln_fn.errors.errors import LayerError
from lincoln_fn.errors.suggestions import suggest


def check_input(layer: str, params: object, x: object, expected: type | None = None) -> None:
    """Check that parameters belong to the layer, and that the input is a floating tensor.

    Args:
        layer: the layer's name.
        params: the parameters given.
        x: the input given.
        expected: the record class of the layer's parameters; None for a layer without any.

    Raises:
        LayerError: if one of them does not.

    Example:
        >>> check_input("sigmoid", (), 3.0)
        Traceback (most recent call last):
        lincoln_fn.LayerError: sigmoid: expected x to be a tensor, got float; convert it by \
torch.tensor
    """
    check_params(layer, params, expected)
    if not isinstance(x, Tensor):
        raise LayerError(layer, f"expected x to be a tensor, got {type(x).__name__}{_mend(x)}")
    if not x.is_floating_point():
        mend = "convert it first, say by x.float()"
        raise LayerError(layer, f"expected x of a floating dtype, got {x.dtype}; {mend}")


def check_params(layer: str, params: object, expected: type | None) -> None:
    """Check that parameters belong to the layer.

    Args:
        layer: the layer's name.
        params: the parameters given.
        expected: the record class of the layer's parameters; None for a layer without any.

    Raises:
        LayerError: if they are not.

    Example:
        >>> check_params("sigmoid", (1, 2), None)
        Traceback (most recent call last):
        lincoln_fn.LayerError: sigmoid: expected params (), got (1, 2)
    """
    if expected is None:
        if type(params) is not tuple or params:
            raise _wrong_params(layer, "()", params)
    elif type(params) is not expected:
        owner = f"{expected.__module__.rpartition('.')[2]}.{expected.__name__}"
        raise _wrong_params(layer, owner, params)


def _wrong_params(layer: str, expected: str, given: object) -> LayerError:
    return LayerError(
        layer, f"expected params {expected}, got {describe(given)}{_mend(given, 'params')}"
    )


def _mend(given: object, kind: str = "tensor") -> str:
    mend = suggest(given, kind)
    return f"; {mend}" if mend else ""


def check_bias(layer: str, bias: object, weight: Tensor, n: int) -> None:
    """Check that a bias is one number for each of n features, and not one that broadcasts.

    Args:
        layer: the layer's name.
        bias: the bias given, or None.
        weight: the bias should have its dtype.
        n: how many features.

    Raises:
        LayerError: if it is not.

    Example:
        >>> import torch
        >>> check_bias("dense(4)", torch.ones(1), torch.ones(3, 4), 4)
        Traceback (most recent call last):
        lincoln_fn.LayerError: dense(4): expected bias of shape (4,), got (1,)
    """
    if bias is None:
        return
    if not isinstance(bias, Tensor) or bias.shape != (n,):
        raise wrong_shape(layer, "bias", bias, f"({n},)")
    if bias.dtype is not weight.dtype:
        raise LayerError(layer, f"expected bias of dtype {weight.dtype}, got {bias.dtype}")


def wrong_shape(layer: str, name: str, given: object, shape: str) -> LayerError:
    """Make the error about a parameter that is not a tensor, or has the wrong shape.

    Args:
        layer: the layer's name.
        name: the parameter.
        given: what was given.
        shape: the shape that was expected, in words such as "(n_in, n_out)".

    Returns:
        The error.

    Example:
        >>> wrong_shape("dense", "weight", None, "(n_in, n_out)")
        LayerError('dense', 'expected weight of shape (n_in, n_out), got NoneType')
    """
    got = f"{type(given).__name__}{_mend(given)}"
    if isinstance(given, Tensor):
        got = f"{tuple(given.shape)}"
    return LayerError(layer, f"expected {name} of shape {shape}, got {got}")


def check_like(layer: str, name: str, given: Tensor, like: Tensor) -> None:
    """Check that a tensor has another's dtype and device.

    Args:
        layer: the layer's name.
        name: the argument's name.
        given: the argument.
        like: the tensor that it has to match.

    Raises:
        LayerError: if dtype or device differ.
    """
    if given.dtype is not like.dtype:
        if not isinstance(like, Tensor):  # a numpy array has a dtype, too
            got = f"{type(like).__name__}{_mend(like)}"
            raise LayerError(layer, f"expected params of tensors, got {got}")
        raise LayerError(layer, f"expected {name} of dtype {like.dtype}, got {given.dtype}")
    if given.device != like.device:
        raise LayerError(layer, f"expected {name} on {like.device}, got {given.device}")


def check_cotangent(
    layer: str, g: object, cached: object, shape: tuple[int, ...] | None = None
) -> None:
    """Check that g has the output's shape, dtype and device, as the cache has them.

    Args:
        layer: the layer's name.
        g: the gradient given to `backward`.
        cached: a tensor from the cache, with the output's dtype and device.
        shape: the output's shape; None if it is the cached tensor's.

    Raises:
        LayerError: if the cache is not this layer's, or g differs in shape, dtype or device.

    Example:
        >>> import torch
        >>> check_cotangent("sigmoid", torch.zeros(2, 3), torch.zeros(2, 4))
        Traceback (most recent call last):
        lincoln_fn.LayerError: sigmoid: expected g of shape (2, 4), got (2, 3)
    """
    if not isinstance(cached, Tensor):
        raise LayerError(
            layer, f"expected the cache of its own forward, got {format_briefly(cached)}"
        )
    if not isinstance(g, Tensor):
        raise LayerError(layer, f"expected g to be a tensor, got {type(g).__name__}")
    check_like(layer, "g", g, cached)
    expected = cached.shape if shape is None else shape
    if g.shape != expected:
        raise LayerError(layer, f"expected g of shape {tuple(expected)}, got {tuple(g.shape)}")


def check_cache(layer: str, cache: object, expected: type) -> None:
    """Check that a cache belongs to the layer.

    Args:
        layer: the layer's name.
        cache: the cache given.
        expected: the record class of the layer's cache.

    Raises:
        LayerError: if it is of another class.

    Example:
        >>> check_cache("softmax", (), LayerError)
        Traceback (most recent call last):
        lincoln_fn.LayerError: softmax: expected the cache of its own forward, got ()
    """
    if type(cache) is not expected:
        raise LayerError(
            layer, f"expected the cache of its own forward, got {format_briefly(cache)}"
        )


def check_axis(layer: str, x: Tensor, dim: int, *, scalar: bool = False) -> None:
    """Check that a tensor has an axis.

    Args:
        layer: the layer's name.
        x: the tensor.
        dim: the axis, counted from the end if it is negative.
        scalar: whether a tensor without axes counts as having one, of size 1.

    Raises:
        LayerError: if there is none.

    Example:
        >>> import torch
        >>> check_axis("softmax", torch.zeros(2, 3), 2)
        Traceback (most recent call last):
        lincoln_fn.LayerError: softmax: expected x to have an axis dim=2, got shape (2, 3)
    """
    ndim = max(x.ndim, 1) if scalar else x.ndim
    if not -ndim <= dim < ndim:
        raise LayerError(layer, f"expected x to have an axis dim={dim}, got shape {tuple(x.shape)}")
