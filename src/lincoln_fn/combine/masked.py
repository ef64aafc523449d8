"""Layers one after the other over a sequence with a mask, which is passed on with the output.

Derivation. With x = (h_0, m) and h_i = layer_i(h_(i-1)), or layer_i(h_(i-1), m) for a layer that
takes the mask, y = (h_n, m). A mask of bools has no gradient, so with g = (g_n, none) the chain
rule is that of `serial`:

    g_(i-1) = dh_(i-1)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from torch import Tensor

from lincoln_fn import core
from lincoln_fn.combine.serial import needs_dx
from lincoln_fn.core import Arrays, Cache, Key, Layer, LayerError, Params, checked, made_by, require
from lincoln_fn.layers.last_state import last_state
from lincoln_fn.layers.masked_mean import masked_mean
from lincoln_fn.walk import VisitBack, VisitThere, check_entries, composition
from lincoln_fn.walk.internal import Record, mask_form, on_meta, output_of

# How a layer takes h and the mask: (h, mask) -> x.
Takes: TypeAlias = Callable[[Arrays, Tensor], Arrays]


def _alone(h: Arrays, mask: Tensor) -> Arrays:
    return h


def _with_mask(h: Arrays, mask: Tensor) -> Arrays:
    return h, mask


def _with_state(h: Arrays, mask: Tensor) -> Arrays:
    return h, None, mask


_FORMS: Final[dict[str | None, Takes]] = {
    None: _alone,
    "sequence": _with_mask,
    "state": _with_state,
}
# Layers whose output has no mask, so they come after `masked`.
_LAST: Final = (masked_mean, last_state)


def _takes(parts: tuple[Layer, ...]) -> tuple[Takes, ...]:
    """Return how each part takes the mask; refuse one in which it is lost."""
    forms = [mask_form(part) for part in parts]
    if "lost" in forms:
        i = forms.index("lost")
        problem = "expected a layer that takes the mask, or has no part that does, got"
        mend = 'give masked the parts themselves, or make it by composition(..., mask="part")'
        raise LayerError("masked", f"{problem} {parts[i].name}; {mend}")
    return tuple(_FORMS[form] for form in forms)


def _there(visit: VisitThere, params: Params, x: Arrays) -> tuple[Arrays, Record]:
    """Pass each layer's output to the next, with the mask if it takes one."""
    takes = _takes(visit.parts)
    h, mask = _with_its_mask(x)
    check_entries("masked", "params", params, len(takes))
    records = []
    for i, take in enumerate(takes):
        y, record = visit(i, params[i], take(h, mask))
        h = y[0] if take is _with_state else y
        records.append(record)
    return (h, mask), tuple(records)


def _back(visit: VisitBack, params: Params, cache: Cache, g: Arrays) -> tuple[Arrays, Record]:
    """Pass each layer's dh to the one before it."""
    takes = _takes(visit.parts)
    count = len(takes)
    check_entries("masked", "params", params, count)
    check_entries("masked", "the cache", cache, count)
    check_entries("masked", "g", g, 2)
    records = [None] * count
    dh = g[0]
    for i in reversed(range(count)):
        of_y = (dh, None) if takes[i] is _with_state else dh
        dx, records[i] = visit(i, params[i], cache[i], of_y)
        dh = dx if takes[i] is _alone or dx is None else dx[0]
    return (dh, None), tuple(records)


def _init(parts: tuple[Layer, ...], key: Key, x: Arrays) -> Params:
    takes = _takes(parts)
    h, mask = _with_its_mask(x)
    made: list[Params] = []
    for i, (part, take) in enumerate(zip(parts, takes, strict=True)):
        made.append(part.init(key.fold_in(i), take(h, mask)))
        h, mask = on_meta((h, mask))
        y = output_of(part, made[i], take(h, mask))
        h = y[0] if take is _with_state else y
    return tuple(made)


def _with_its_mask(x: Arrays) -> tuple[Arrays, Tensor]:
    if type(x) is not tuple or len(x) != 2 or not isinstance(x[1], Tensor):
        raise LayerError(
            "masked", f"expected x to be (sequence, mask), got {core.describe_non_tuple(x)}"
        )
    h, mask = x
    return h, mask


@checked
def masked(*layers: Layer) -> Layer:
    """Compose layers over a sequence with a mask, and return the mask with the output.

    x is (sequence, mask) and y is (layer_n(... layer_1(sequence)), mask). The mask (batch, length)
    is True where the sequence has an entry. `rnn`, `gru`, `lstm`, `scan`, `multi_head_attention`,
    `grouped_query_attention` and `transformer_encoder_block` get the mask, and layers of your own
    that declare it; all other layers get only the sequence, and treat padding like entries. Use
    `masked_mean` or `last_state` after it to leave the padding out.

    Args:
        *layers: the parts, first to last. A layer that takes the mask has to be one of these parts,
            or inside a composition that passes it on, such as `frozen` or `checkpointed`.

    Returns:
        The layer. Its params, caches and dparams are tuples with one entry per part.

    Raises:
        LayerError: if `masked_mean` or `last_state` is a part, or a composition in which a layer
            would get no mask; from its functions, if a part raises one, or x is not (sequence,
            mask).

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
    _takes(layers)
    return composition(masked, layers, _there, _back, init=_init, needs_dx=needs_dx)
