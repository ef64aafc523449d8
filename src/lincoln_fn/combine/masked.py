"""Layers one after the other over a sequence with a mask, which is passed on with the output.

Derivation. With x = (h_0, m) and h_i = layer_i(h_(i-1)), or layer_i(h_(i-1), m) for a layer that
takes the mask, y = (h_n, m). A mask of bools has no gradient, so with g = (g_n, none) the chain
rule is that of `serial`:

    g_(i-1) = dh_(i-1)
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final, TypeAlias

from torch import Tensor

from lincoln_fn.combine.serial import needs_dx
from lincoln_fn.core.keys import Key
from lincoln_fn.core.layer import Arrays, Cache, Layer, Params, unbound
from lincoln_fn.errors.arguments import checked, require
from lincoln_fn.errors.descriptions import describe_non_tuple
from lincoln_fn.errors.errors import LayerError
from lincoln_fn.layers import gru, last_state, lstm, masked_mean, rnn
from lincoln_fn.walk.composition import composition
from lincoln_fn.walk.init import on_meta
from lincoln_fn.walk.parts import check_entries
from lincoln_fn.walk.visits import Record, VisitBack, VisitThere

# How a layer takes h and the mask: (h, mask) -> x.
Takes: TypeAlias = Callable[[Arrays, Tensor], Arrays]


def _alone(h: Arrays, mask: Tensor) -> Arrays:
    return h


def _with_mask(h: Arrays, mask: Tensor) -> Arrays:
    return h, mask


def _with_state(h: Arrays, mask: Tensor) -> Arrays:
    return h, None, mask


# How a layer takes the mask, by its `forward`, and a composition, by its label.
_TAKES: Final[dict[object, Takes]] = {
    rnn.forward: _with_state,
    gru.forward: _with_state,
    lstm.forward: _with_state,
    "scan": _with_state,
    "multi_head_attention": _with_mask,
    "transformer_encoder_block": _with_mask,
}
# Compositions that take a mask if their first part does: those of this room, and of higher ones.
_AROUND: Final = (
    "frozen", "checkpointed", "in_dtype", "straight_through", "feedback_alignment",
    "kolen_pollack", "sign_symmetric", "fully_sharded",
)  # fmt: skip
# Layers whose output has no mask, so they come after `masked`.
_LAST: Final = (masked_mean.forward, last_state.forward)


def _takes(layer: Layer) -> Takes:
    made = layer.composition
    if made is None:
        return _TAKES.get(unbound(layer.forward), _alone)
    return _takes(made.parts[0]) if made.label in _AROUND else _TAKES.get(made.label, _alone)


def _there(
    visit: VisitThere, params: Params, x: Arrays, *, takes: tuple[Takes, ...]
) -> tuple[Arrays, Record]:
    """Pass each layer's output to the next, with the mask if it takes one."""
    h, mask = _with_its_mask(x)
    check_entries("masked", "params", params, len(takes))
    records = []
    for i, take in enumerate(takes):
        y, record = visit(i, params[i], take(h, mask))
        h = y[0] if take is _with_state else y
        records.append(record)
    return (h, mask), tuple(records)


def _back(
    visit: VisitBack, params: Params, cache: Cache, g: Arrays, *, takes: tuple[Takes, ...]
) -> tuple[Arrays, Record]:
    """Pass each layer's dh to the one before it."""
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


def _init(parts: tuple[Layer, ...], key: Key, x: Arrays, *, takes: tuple[Takes, ...]) -> Params:
    h, mask = _with_its_mask(x)
    made: list[Params] = []
    for i, (part, take) in enumerate(zip(parts, takes, strict=True)):
        made.append(part.init(key.fold_in(i), take(h, mask)))
        h, mask = on_meta((h, mask))  # x itself gives the first parameters their device
        y = part.predict(on_meta(made[i]), take(h, mask))
        h = y[0] if take is _with_state else y
    return tuple(made)


def _with_its_mask(x: Arrays) -> tuple[Arrays, Tensor]:
    if type(x) is not tuple or len(x) != 2 or not isinstance(x[1], Tensor):
        raise LayerError(
            "masked", f"expected x to be (sequence, mask), got {describe_non_tuple(x)}"
        )
    h, mask = x
    return h, mask


@checked
def masked(*layers: Layer) -> Layer:
    """Compose layers over a sequence with a mask, and return the mask with the output.

    x is (sequence, mask) and y is (layer_n(... layer_1(sequence)), mask). The mask (batch, length)
    is True where the sequence has an entry. `rnn`, `gru`, `lstm`, `scan`, `multi_head_attention`
    and `transformer_encoder_block` get the mask; all other layers get only the sequence, and treat
    padding like entries. Use `masked_mean` or `last_state` after it to leave the padding out.

    Args:
        *layers: the parts, first to last. A layer that takes the mask has to be one of these parts,
            not inside another composition.

    Returns:
        The layer. Its params, caches and dparams are tuples with one entry per part.

    Raises:
        LayerError: if `masked_mean` or `last_state` is a part; from its functions, if a part raises
            one, or x is not (sequence, mask).

    Example:
        >>> body = masked(lf.embedding(10, 4), lf.lstm(3, bidirectional=True), lf.dropout(0.1))
        >>> net = lf.serial(body, lf.masked_mean(), lf.dense(2))
        >>> x = torch.tensor([[4, 2, 0]]), torch.tensor([[True, True, False]])
        >>> net.predict(net.init(lf.Key(0), x), x).shape
        torch.Size([1, 2])
    """
    for layer in layers:
        behind = f"{layer.name} behind masked(...), in serial"
        require(unbound(layer.forward) not in _LAST, "masked", behind, layer)
    takes = tuple(map(_takes, layers))
    return composition(
        "masked",
        layers,
        partial(_there, takes=takes),
        partial(_back, takes=takes),
        init=partial(_init, takes=takes),
        needs_dx=needs_dx,
        reads_once=True,
    )
