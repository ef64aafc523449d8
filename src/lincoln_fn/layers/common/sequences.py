"""Inputs of layers that run over sequences from a state: (a, b, ...) or (a, b, ..., state).

With a state, or None for zeros, y is (outputs, last state), and so is g.
"""

from __future__ import annotations

import math

from torch import Tensor

from lincoln_fn.core.layer import Arrays
from lincoln_fn.errors.descriptions import describe_non_tuple, format_briefly
from lincoln_fn.errors.errors import LayerError
from lincoln_fn.errors.shapes import check_cotangent
from lincoln_fn.layers.common.merge import check_inputs


def unpacked(
    layer: str, x: Arrays, names: tuple[str, ...]
) -> tuple[tuple[Tensor, ...], Tensor | None]:
    """Split x into its sequences and the state, and check that they have one dtype and device."""
    if type(x) is not tuple or len(x) not in (len(names), len(names) + 1):
        form = ", ".join(names)
        problem = f"expected x to be ({form}) or ({form}, state)"
        raise LayerError(layer, f"{problem}, got {describe_non_tuple(x)}")
    *given, last = x
    is_zero_state = last is None and len(x) > len(names)
    check_inputs(layer, (), tuple(given) if is_zero_state else x)
    return x[: len(names)], x[len(names)] if len(x) > len(names) else None


def check_steps(layer: str, name: str, x: Tensor) -> None:
    """Check that a sequence has features and at least one step."""
    if x.ndim < 2 or x.shape[-2] == 0:
        problem = f"expected {name} of shape (..., length, features) with at least one step"
        raise LayerError(layer, f"{problem}, got {tuple(x.shape)}")


def check_shapes(layer: str, **given: tuple[Tensor | None, tuple[int, ...]]) -> None:
    """Check that each tensor that is given has its shape."""
    for name, (tensor, shape) in given.items():
        if tensor is not None and tuple(tensor.shape) != tuple(shape):
            problem = f"expected {name} of shape {tuple(shape)}, got {tuple(tensor.shape)}"
            raise LayerError(layer, problem)


def unpacked_cotangent(
    layer: str, g: Arrays, like: Tensor, y: tuple[int, ...], last: tuple[int, ...], *,
    has_state: bool,
) -> tuple[Tensor, Tensor | None]:  # fmt: skip
    """Split g into that of the outputs and that of the last state; None for one without a state.

    `y` and `last` are their shapes.
    """
    if not has_state:
        check_cotangent(layer, g, like, y)
        return g, None
    if type(g) is not tuple or len(g) != 2:
        form = "(g of the outputs, g of the last state)"
        raise LayerError(layer, f"expected g to be {form}, got {format_briefly(g)}")
    check_cotangent(layer, g[0], like, y)
    if g[1] is not None:
        check_cotangent(layer, g[1], like, last)
    dy, dlast = g
    return dy, dlast


def one_batch(x: Tensor, axes: int = 2) -> Tensor:
    """Make one axis of all but the last axes of x, with the features next to each other."""
    return x.reshape(math.prod(x.shape[:-axes]), *x.shape[-axes:]).contiguous()


def by_example(values: Tensor, x: Tensor) -> Tensor:
    """Sum what each sequence of x gives over the sequences of each example, on axis 0 of x."""
    count = len(x)
    return values.reshape(count, len(values) // max(count, 1), *values.shape[1:]).sum(1)
