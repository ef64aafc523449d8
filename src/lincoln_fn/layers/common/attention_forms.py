"""The forms of x that multi-head attention takes, and its heads."""

from __future__ import annotations

from functools import partial
from typing import Any, TypeAlias

from torch import Tensor

from lincoln_fn.core import Layer, LayerError, record, static
from lincoln_fn.layers.attention_heads import attention_heads
from lincoln_fn.layers.common.attention import Mask, check_mask, check_sequences
from lincoln_fn.layers.common.shapes import Sequence

Inputs: TypeAlias = (
    Sequence
    | tuple[Sequence, Mask | None]
    | tuple[Sequence, Sequence, Sequence]
    | tuple[Sequence, Sequence, Sequence, Mask | None]
)
# The form of dx: as `Inputs`, and None for a mask that is not floating.
Gradients: TypeAlias = Tensor | tuple[Tensor | None, ...]

NAME = "multi_head_attention"


@record
class Given:
    """The parts of x, batch first, and its form: its number of entries, or 0 for no tuple."""

    query: Sequence
    key: Sequence
    value: Sequence
    mask: Mask | None
    entries: int = static()
    batch_first: bool = static()


@record
class Form:
    """The form of x, and the shape of its query in x's order of axes."""

    shape: tuple[int, ...] = static()
    entries: int = static()
    batch_first: bool = static()
    has_padding: bool = static()


def form_of(given: Given) -> Form:
    """Return what the backward pass has to know of x."""
    shape = tuple(from_batch_first(given, given.query).shape)
    return Form(shape, given.entries, given.batch_first, _is_padding(given))


def parts_of(
    params: object, x: object, expected: type | None, num_heads: int, features: list[int] | None,
    *, batch_first: bool,
) -> Given:  # fmt: skip
    """Find query, key, value and mask in x, and check that they fit together.

    Args:
        params: the parameters given.
        x: a sequence, (sequence, mask), (query, key, value) or (query, key, value, mask).
        expected: the record class of the parameters; None for a layer without any.
        num_heads: the number of heads.
        features: how many query, key and value should have; None for any.
        batch_first: whether the batch is the first axis of the sequences, or the length is.

    Returns:
        The parts.

    Raises:
        LayerError: if x has none of these forms.
    """
    entries = len(x) if isinstance(x, tuple) else 0
    parts: Any = x if isinstance(x, tuple) else (x, x, x)  # Any: checked below
    if entries == 2:
        parts = (parts[0], parts[0], parts[0], parts[1])
    if not batch_first:
        parts = (*map(_batch_first, parts[:3]), *parts[3:])
    check_sequences(NAME, params, parts, expected)
    query, key, value, *rest = parts
    sizes = [part.shape[-1] for part in (query, key, value)]
    if features is not None and sizes != features:
        wanted = f"query, key and value with {features} features"
        raise LayerError(NAME, f"expected {wanted}, got {sizes}")
    n = query.shape[-1]
    if n == 0 or n % num_heads:
        raise LayerError(NAME, f"expected a query with features in {num_heads} heads, got {n}")
    (mask,) = rest or (None,)
    given = Given(query, key, value, mask, entries, batch_first)
    padding = (*query.shape[:-2], key.shape[-2])
    scores = (*query.shape[:-2], num_heads, query.shape[-2], key.shape[-2])
    axes = query.ndim + 1
    if isinstance(mask, Tensor) and mask.ndim not in (len(padding), axes):
        forms = f"{padding}, or of {axes} axes that broadcast to {scores}"
        raise LayerError(NAME, f"expected a mask of shape {forms}, got {tuple(mask.shape)}")
    check_mask(NAME, mask, query, padding if _is_padding(given) else scores)
    return given


def full_mask(given: Given) -> Mask | None:
    """Give the mask the axes of the scores.

    Args:
        given: the parts of x.

    Returns:
        The mask; a padding mask, (..., key length), is the same for every head and every query.
    """
    mask = given.mask
    if mask is None or mask.ndim == given.query.ndim + 1:
        return mask
    return mask[..., None, None, :]


def mirrored(form: Form, dinputs: tuple[Tensor, ...], dmask: Tensor | None) -> Gradients:
    """Put the parts' gradients into x's form.

    Args:
        form: that of x.
        dinputs: the gradients of x's sequences, one or three.
        dmask: that of `full_mask`, or None.

    Returns:
        dx.
    """
    dinputs = tuple(from_batch_first(form, dx) for dx in dinputs)
    if form.entries == 0:
        return dinputs[0]
    if dmask is not None and form.has_padding:
        dmask = dmask[..., 0, 0, :]
    return dinputs if form.entries == 3 else (*dinputs, dmask)


def to_batch_first(given: Given | Form, y: Sequence) -> Sequence:
    """Move the batch of a sequence to the first axis."""
    return y if given.batch_first else y.movedim(0, -2)


def from_batch_first(given: Given | Form, y: Sequence) -> Sequence:
    """Move the axes of a sequence back to x's order."""
    return y if given.batch_first else y.movedim(-2, 0)


def heads_from_the_start(num_heads: int, *, p: float, is_causal: bool) -> Layer:
    """Make heads whose first query is beside the first key, as torch's is_causal has it."""
    layer = attention_heads(num_heads, is_causal=is_causal, dropout=p)
    forward: Any = layer.forward  # Any: of more keywords than the protocol's
    predict: Any = layer.predict
    return layer.replace(
        name=f"attention_heads({num_heads})",
        forward=partial(forward, is_aligned_at_end=False),
        predict=partial(predict, is_aligned_at_end=False),
        spec=layer.spec,
    )


def _is_padding(given: Given) -> bool:
    return given.mask is not None and given.mask.ndim == given.query.ndim - 1


def _batch_first(x: object) -> object:
    # Anything but a sequence is left unchanged, and the checks refuse it.
    return x.movedim(0, -2) if isinstance(x, Tensor) and x.ndim > 2 else x
