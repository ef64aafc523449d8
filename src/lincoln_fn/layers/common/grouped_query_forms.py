"""The forms of x that grouped-query attention takes."""

from __future__ import annotations

from typing import Any, TypeAlias

from jaxtyping import Int
from torch import Tensor

from lincoln_fn.core import LayerError, format_briefly, record, static
from lincoln_fn.layers.common.attention import Mask, check_mask, check_sequences
from lincoln_fn.layers.common.shapes import Sequence

NAME = "grouped_query_attention"

Positions: TypeAlias = Int[Tensor, "*batch length"]
Inputs: TypeAlias = (
    Sequence
    | tuple[Sequence, Mask | None]
    | tuple[Sequence, Mask | None, Positions | None]
    | tuple[Sequence, Sequence, Sequence]
    | tuple[Sequence, Sequence, Sequence, Mask | None]
)
# As `Inputs`, and None for positions and for a mask that is not floating.
Gradients: TypeAlias = Tensor | tuple[Tensor | None, ...]


@record
class Form:
    """How many entries x has, whether it is one sequence, and whether its mask is of padding."""

    entries: int = static()
    is_self: bool = static()
    is_padding: bool = static()


def parts_of(
    x: object,
) -> tuple[tuple[Sequence, Sequence, Sequence], Mask | None, Positions | None, Form]:
    """Find query, key and value, the mask and the positions in x, and check that they fit.

    Args:
        x: in one of the forms of `Inputs`.

    Returns:
        The three sequences; the mask with the axes of the scores, or None; the positions with an
        axis for the heads, or None; and the form of x.

    Raises:
        LayerError: if x has none of these forms.
    """
    entries: Any = x if isinstance(x, tuple) else (x,)  # Any: checked below
    count = len(entries)
    if not 1 <= count <= 4:
        forms = "a sequence, (sequence, mask), (sequence, mask, positions), (query, key, value)"
        problem = f"expected x to be {forms} or (query, key, value, mask), got {format_briefly(x)}"
        raise LayerError(NAME, problem)
    is_self = count <= 2 or (count == 3 and (entries[1] is None or _are_positions(entries[2])))
    mask, positions = (*entries[1:], None, None)[:2] if is_self else ((*entries, None)[3], None)
    sequences = (entries[0],) * 3 if is_self else entries[:3]
    check_sequences(NAME, (), sequences, None)
    query, key, _ = sequences
    is_padding = isinstance(mask, Tensor) and mask.ndim == query.ndim - 1
    if is_padding:
        check_mask(NAME, mask, query, (*query.shape[:-2], key.shape[-2]))
        mask = mask[..., None, None, :]
    if positions is not None:
        if not _are_positions(positions) or positions.ndim == 0:
            wanted = "positions to be integers of shape (..., length)"
            raise LayerError(NAME, f"expected {wanted}, got {format_briefly(positions)}")
        positions = positions.unsqueeze(-2)
    return sequences, mask, positions, Form(count, is_self, is_padding)


def mirrored(form: Form, dinputs: tuple[Tensor, Tensor, Tensor], dmask: Tensor | None) -> Gradients:
    """Put the gradients into x's form.

    Args:
        form: that of x.
        dinputs: the gradients of query, key and value.
        dmask: that of the mask with the axes of the scores, or None.

    Returns:
        dx.
    """
    if dmask is not None and form.is_padding:
        dmask = dmask[..., 0, 0, :]
    dquery, dkey, dvalue = dinputs
    dx = (dquery + dkey + dvalue, dmask, None) if form.is_self else (*dinputs, dmask)
    return dx[: form.entries] if form.entries > 1 else dx[0]


def _are_positions(x: object) -> bool:
    return x is None or (isinstance(x, Tensor) and not x.is_floating_point())
