"""Sequences as a layer's input: one with a mask, or several with a state.

A mask is True where a sequence has an entry: x is a sequence, or (sequence, mask). A layer that
runs from a state has x = (a, b, ...) or (a, b, ..., state). With a state, or None for zeros, y is
(outputs, last state), and so is g.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import torch
from jaxtyping import Bool
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import Arrays, Sequence, Sizes, check_cotangent, static, unexpected
from lincoln_fn.layers.common.inputs import check_inputs
from lincoln_fn.layers.common.normalisation import widened

Mask: TypeAlias = Bool[Tensor, "*batch length"]
Inputs: TypeAlias = Sequence | tuple[Sequence, Mask | None]
Mirrored: TypeAlias = Sequence | tuple[Sequence, None]
# None for an entry that was not given.
Gradients: TypeAlias = tuple[Tensor | None, ...]


def sequence_and_mask(name: str, x: object) -> tuple[Sequence, Mask | None]:
    """Find the sequence and the mask in x, and check that they fit together."""
    if isinstance(x, list) or (isinstance(x, tuple) and len(x) != 2):
        raise unexpected(name, "x to be a sequence or (sequence, mask)", core.describe_non_tuple(x))
    sequence, mask = x if isinstance(x, tuple) else (x, None)
    core.check_input(name, (), sequence)
    if sequence.ndim < 2 or not sequence.shape[-2]:
        raise unexpected(name, "a sequence of shape (..., length, features)", sequence.shape)
    if mask is not None:
        check_mask(name, mask, sequence)
    return sequence, mask


def check_mask(name: str, mask: object, sequence: Tensor) -> None:
    """Check that a mask is of bools, one for each entry of a sequence."""
    shape = tuple(sequence.shape[:-1])
    if not isinstance(mask, Tensor) or mask.dtype is not torch.bool or mask.shape != shape:
        mend = "True where the sequence has an entry"
        wanted = f"a mask of bools of shape {shape}, {mend}"
        raise core.unexpected(name, wanted, core.format_briefly(mask))
    if mask.device != sequence.device:
        raise unexpected(name, f"mask on {sequence.device}", mask.device)


def mirrored(dx: Sequence, has_mask_entry: bool) -> Mirrored:
    """Put dx into the form of x: a mask has no gradient."""
    return (dx, None) if has_mask_entry else dx


@core.record
class Form:
    """Stand-ins for y and the last state; whether x has a place for a state, and a state in it."""

    y: Tensor
    last: Tensor
    has_state: bool = static()
    is_given: bool = static()

    def outputs(self, y: Tensor, last: Tensor) -> Arrays:
        """Return y, or (y, last state) if x has a state, in their shapes and x's dtype."""
        y = _like(y, self.y)
        return (y, _like(last, self.last)) if self.has_state else y

    def cotangents(self, layer: str, g: Arrays) -> tuple[Tensor, Tensor | None]:
        """Split g into that of y and that of the last state; None for one without a state."""
        if not self.has_state:
            check_cotangent(layer, g, self.y)
            return widened(g), None
        if type(g) is not tuple or len(g) != 2:
            wanted = "g to be (g of the outputs, g of the last state)"
            raise core.unexpected(layer, wanted, core.format_briefly(g))
        check_cotangent(layer, g[0], self.y)
        if g[1] is not None:
            check_cotangent(layer, g[1], self.last)
        return widened(g[0]), g[1]

    def gradients(self, *dx: Tensor, state: Tensor) -> Gradients:
        """Return dx with the axes and the dtype of x, and that of the state, if x has one."""
        lead = self.y.shape[: self.y.ndim + 1 - dx[0].ndim]
        made = (d.to(self.y.dtype).reshape(*lead, *d.shape[1:]) for d in dx)
        return (*made, self.of_state(state)) if self.has_state else tuple(made)

    def of_state(self, dstate: Tensor) -> Tensor | None:
        """Return the gradient of the state, if one is given."""
        return _like(dstate, self.last) if self.is_given else None


def _like(x: Tensor, stand_in: Tensor) -> Tensor:
    return x.to(stand_in.dtype).reshape(stand_in.shape)


def form_of(x: tuple[Tensor | None, ...], count: int, y: Sizes, last: Sizes) -> Form:
    """Make the form of x, which has `count` entries before its state, for these shapes."""
    assert x[0] is not None
    zero, has_state = x[0].new_zeros(()), len(x) > count
    return Form(zero.expand(y), zero.expand(last), has_state, has_state and x[count] is not None)


def first_state(state: Tensor | None, like: Tensor) -> Tensor:
    """Return a state in another's shape, in float32 at least, or zeros for None."""
    return torch.zeros_like(like) if state is None else widened(state).reshape(like.shape)


def unpacked(
    layer: str, x: Arrays, names: tuple[str, ...]
) -> tuple[tuple[Tensor, ...], Tensor | None]:
    """Split x into its sequences and the state, and check that they have one dtype and device."""
    if type(x) is not tuple or len(x) not in (len(names), len(names) + 1):
        form = ", ".join(names)
        raise unexpected(layer, f"x to be ({form}) or ({form}, state)", core.describe_non_tuple(x))
    *given, last = x
    is_zero_state = last is None and len(x) > len(names)
    check_inputs(layer, tuple(given) if is_zero_state else x)
    return x[: len(names)], x[len(names)] if len(x) > len(names) else None


def check_steps(layer: str, u: Tensor) -> None:
    """Check that the sequence u has features and at least one step."""
    if u.ndim < 2 or u.shape[-2] == 0:
        raise core.wrong_shape(layer, "u", u, "(..., length, features) with at least one step")


def check_shapes(layer: str, **given: tuple[Tensor | None, tuple[int, ...]]) -> None:
    """Check that each tensor that is given has its shape."""
    for name, (tensor, shape) in given.items():
        if tensor is not None and tuple(tensor.shape) != tuple(shape):
            raise core.wrong_shape(layer, name, tensor, f"{tuple(shape)}")


def one_batch(x: Tensor, axes: int = 2) -> Tensor:
    """Make one axis of all but the last axes of x, with the features next to each other."""
    return x.reshape(math.prod(x.shape[:-axes]), *x.shape[-axes:]).contiguous()


# (what each sequence of y gives, y) -> their total, a gradient or its terms.
Total: TypeAlias = Callable[[Tensor, Tensor], Tensor | core.Explicit]


def over_all(values: Tensor, y: Tensor) -> Tensor:
    """Sum what each sequence of y gives."""
    return values.sum(0).to(y.dtype)


def by_example(values: Tensor, y: Tensor) -> core.Explicit:
    """Sum what each sequence of y gives over those of each example, on axis 0 of y."""
    count = len(y)
    each = values.reshape(count, len(values) // max(count, 1), *values.shape[1:])
    return core.Explicit(each.sum(1))
