"""A sequence as a layer's input, alone or with a mask that is True where it has an entry."""

from __future__ import annotations

from typing import TypeAlias

import torch
from jaxtyping import Bool
from torch import Tensor

from lincoln_fn.core import LayerError, check_input, describe_non_tuple, format_briefly
from lincoln_fn.layers.common.shapes import Sequence

Mask: TypeAlias = Bool[Tensor, "*batch length"]
Inputs: TypeAlias = Sequence | tuple[Sequence, Mask | None]


def sequence_and_mask(name: str, params: object, x: object) -> tuple[Sequence, Mask | None]:
    """Find the sequence and the mask in x, and check that they fit together.

    Args:
        name: the layer's name.
        params: its params, which are ().
        x: a sequence, or (sequence, mask), with a mask or None.

    Returns:
        The sequence, and the mask or None.

    Raises:
        LayerError: if x is neither.

    Example:
        >>> sequence_and_mask("last_state", (), torch.zeros(2, 5, 3))[1]
    """
    if isinstance(x, list) or (isinstance(x, tuple) and len(x) != 2):
        wanted = "x to be a sequence or (sequence, mask)"
        raise LayerError(name, f"expected {wanted}, got {describe_non_tuple(x)}")
    sequence, mask = x if isinstance(x, tuple) else (x, None)
    check_input(name, params, sequence)
    if sequence.ndim < 2 or not sequence.shape[-2]:
        shape = tuple(sequence.shape)
        raise LayerError(name, f"expected a sequence of shape (..., length, features), got {shape}")
    if mask is not None:
        check_mask(name, mask, sequence)
    return sequence, mask


def check_mask(name: str, mask: object, sequence: Tensor) -> None:
    """Check that a mask is of bools, one for each entry of a sequence."""
    shape = tuple(sequence.shape[:-1])
    if not isinstance(mask, Tensor) or mask.dtype is not torch.bool or mask.shape != shape:
        mend = "True where the sequence has an entry"
        raise LayerError(
            name, f"expected a mask of bools of shape {shape}, {mend}, got {format_briefly(mask)}"
        )
    if mask.device != sequence.device:
        raise LayerError(name, f"expected mask on {sequence.device}, got {mask.device}")


def mirrored(dx: Sequence, has_mask_entry: bool) -> Sequence | tuple[Sequence, None]:
    """Put dx into the form of x: a mask has no gradient."""
    return (dx, None) if has_mask_entry else dx
