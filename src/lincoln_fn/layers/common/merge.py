"""Checks of tuples, shared by the layers that merge several inputs into one."""

from __future__ import annotations

from torch import Tensor

from lincoln_fn.core import LayerError, check_input, check_like, describe_non_tuple


def check_inputs(layer: str, params: object, x: object) -> None:
    """Check that x is a tuple of floating tensors of one dtype, on one device.

    Args:
        params: the parameters given, which should be ().
        x: the inputs given.

    Raises:
        LayerError: if it is not.
    """
    if type(x) is not tuple or not x:
        raise LayerError(layer, f"expected x to be a tuple of tensors, got {describe_non_tuple(x)}")
    for i, x_i in enumerate(x):
        check_input(layer, params, x_i)
        check_like(layer, f"x[{i}]", x_i, x[0])


def check_form(layer: str, x: object, form: str) -> None:
    """Check that x is a tuple with an entry for each name of a form, such as "(x, index)"."""
    if type(x) is not tuple or len(x) != form.count(",") + 1:
        raise LayerError(layer, f"expected x to be {form}, got {describe_non_tuple(x)}")


def check_one_shape(layer: str, x: tuple[Tensor, ...]) -> None:
    """Check that tensors have one shape.

    Args:
        x: the tensors.

    Raises:
        LayerError: if they do not.
    """
    shapes = [tuple(x_i.shape) for x_i in x]
    if len(set(shapes)) > 1:
        raise LayerError(layer, f"expected inputs of one shape, got {', '.join(map(str, shapes))}")


def check_shape(layer: str, g: object, shape: tuple[int, ...]) -> None:
    """Check that g has the shape that forward returned.

    Args:
        g: the gradient given to `backward`.
        shape: y's shape.

    Raises:
        LayerError: if it is not a tensor of that shape.
    """
    if not isinstance(g, Tensor):
        raise LayerError(layer, f"expected g to be a tensor, got {type(g).__name__}")
    if g.shape != shape:
        raise LayerError(layer, f"expected g of shape {shape}, got {tuple(g.shape)}")
