"""Layers one after the other over a sequence with a mask, which is passed on with the output.

Derivation. With x = (h_0, m) and h_i = layer_i(h_(i-1)), or layer_i(h_(i-1), m) for a layer that
takes the mask, y = (h_n, m). A mask of bools has no gradient, so with g = (g_n, none) the chain
rule is that of `serial`:

    g_(i-1) = dh_(i-1)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import attrs
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.combine._wiring import Wiring, in_turn, wired
from lincoln_fn.core import Arrays, Layer, checked, made_by, require, unexpected
from lincoln_fn.layers.last_state import last_state
from lincoln_fn.layers.masked_mean import masked_mean
from lincoln_fn.walk.internal import Record, mask_form

# Layers whose output has no mask, so they come after `masked`.
_LAST: Final = (masked_mean, last_state)
# By the form of a layer that gets no mask, though it needs one: what else is expected, and a mend.
_REFUSED: Final[dict[str | None, tuple[str, str]]] = {
    "lost": (
        "has no part that does",
        'give masked the parts themselves, or make it by composition(..., mask="part")',
    ),
    None: (
        "computes each position by itself",
        'declare which it does by lf.declare(forward, mask="sequence"), or mask="position"; or let'
        " it mix the padding in by parallel(layer, identity()), in serial between two masked",
    ),
}


@attrs.frozen
class _Masked(Wiring):
    """Each part reads the output of the part before it, and the mask if it takes one."""

    def values_of(self, label: str, x: Arrays) -> tuple[Arrays, ...]:
        if type(x) is not tuple or len(x) != 2 or not isinstance(x[1], Tensor):
            raise core.unexpected("masked", "x to be (sequence, mask)", core.describe_non_tuple(x))
        return x

    def inputs_of(self, i: int, parts: tuple[Layer, ...], values: Sequence[Arrays]) -> Arrays:
        """Return h, (h, mask) or (h, state, mask); refuse a part in which the mask is lost."""
        (h, mask), form = super().inputs_of(i, parts, values), _form(parts[i])
        return h if form is None else (h, mask) if form == "sequence" else (h, None, mask)

    def value_of(self, part: Layer, y: Arrays) -> Arrays:
        return y[0] if _form(part) == "state" else y

    def g_of(self, part: Layer, g: Arrays) -> Arrays:
        return (g, None) if _form(part) == "state" else g

    def dx_of(self, i: int, part: Layer, dx: Arrays, notes: tuple[Record, ...]) -> Arrays:
        return dx if _form(part) is None else dx[0], None

    def dx_of_x(self, gs: Sequence[Arrays]) -> Arrays:
        return gs[0], None


def _form(part: Layer) -> str | None:
    """Return how a part takes the mask; refuse one that loses it, or that may mix positions."""
    form = mask_form(part)
    if form in _REFUSED:
        expected, mend = _REFUSED[form]
        raise unexpected("masked", f"a layer that takes the mask, or {expected}", part.name, mend)
    return None if form == "position" else form


@checked
def masked(*layers: Layer) -> Layer:
    """Compose layers over a sequence with a mask, and return the mask with the output.

    x is (sequence, mask) and y is (layer_n(... layer_1(sequence)), mask). The mask (batch, length)
    is True where the sequence has an entry. `rnn`, `gru`, `lstm`, `scan`, `multi_head_attention`,
    `grouped_query_attention` and `transformer_encoder_block` get the mask, and layers of your own
    that declare it. Layers that compute each position by itself, such as `dense`, get only the
    sequence. Use `masked_mean` or `last_state` after it to leave the padding out. Params, caches
    and dparams are tuples with one entry per part.

    Args:
        *layers: the parts, first to last. A layer that takes the mask has to be one of these parts,
            or inside a composition that passes it on, such as `frozen` or `checkpointed`.

    Raises:
        LayerError: if `masked_mean` or `last_state` is a part, or a composition in which a layer
            would get no mask, or a layer that mixes positions without one or does not say whether
            it does.

    Example:
        >>> body = masked(lf.embedding(10, 4), lf.lstm(3, bidirectional=True), lf.dropout(0.1))
        >>> net = lf.serial(body, lf.masked_mean(), lf.dense(2))
        >>> x = torch.tensor([[4, 2, 0]]), torch.tensor([[True, True, False]])
        >>> net.predict(net.init(lf.Key(0), x), x).shape
        torch.Size([1, 2])
    """
    for layer in layers:
        behind = f"{layer.name} behind masked(...), in serial"
        require(not made_by(layer, *_LAST), "masked", behind, layer)
        _form(layer)
    n = len(layers)
    return wired(masked, layers, _Masked(in_turn(n), (n + 1 if n else 0, 1), entries=2))
