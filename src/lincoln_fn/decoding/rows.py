"""How each layer that mixes positions decodes: a row for each, by its constructor's file.

A layer without a row decodes by its `predict` if it works position by position (`trial.py` tries
it). Your own layer declares its row for its `predict` or, without one of its own, its `forward`:

    lf.declare(forward, decode=(init, step))

**Attention** keeps the keys and values of earlier positions. The queries of a step attend to the
kept keys and to their own,

    y_i = attention(query_i, the keys at positions up to i, their values)

by the layer's own formula, with a mask in the place of `is_causal`; a layer without heads has one.
With a sliding window only the last keys are kept: those of position t are in slot t mod window. So
before position n, slot s has

    p = n - 1 - (n - 1 - s) mod window    and nothing, if p < 0

**A causal convolution** keeps its last inputs. It is padding before the text and a convolution
without padding of its own:

    lf.zero_pad1d(((kernel_size - 1) * dilation, 0)), lf.conv1d(n, kernel_size, dilation=dilation)

The padding enters the first window, which the convolution begins with. So no step pads.

**A layer that adds positions** counts on: position t of the text is not position t of a step.

**A recurrent layer** runs on from the state after the positions before.
"""

from __future__ import annotations

import math
from functools import partial
from types import ModuleType
from typing import Any, Final, TypeAlias

import attrs
import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn import core, layers
from lincoln_fn.combine import fixed_point, inference, scan
from lincoln_fn.combine.scan import there as scan_there
from lincoln_fn.core import Arrays, Function, Layer, LayerError, Params, file_of, made_by, record
from lincoln_fn.fastpath import gives_own_tokens
from lincoln_fn.layers import attention_heads, conv, pad, positional_embedding, rotary_embedding
from lincoln_fn.layers.attention_heads import grouped, merge_heads, split_heads, ungrouped
from lincoln_fn.layers.common.convolution import conv_axes
from lincoln_fn.layers.common.rope_scaling import RopeScaling
from lincoln_fn.walk.internal import PREDICT, Composition, VisitThere, composition_of


@attrs.frozen
class Row:
    """How a layer decodes.

    Args:
        init: (params, x, *, axis, max_length) -> state: of what a step has to know of the positions
            before it. x is an input of one position, and `axis` the axis of the positions in it,
            counted from the end. A `LayerError` refuses the layer; its problem is the reason.
        step: (params, state, x, *, position) -> (y, state), for the next positions. `position`, a
            tensor, is the number of positions before them.
        pads: whether the x of `init` may begin with padding. Its last entry is the first position.

    Both functions also get the hyperparameters that are bound to the function of the layer. A
    composition's are those of its loop, and `parts`, its parts.
    """

    init: Function
    step: Function
    pads: bool = False


# By a layer's path; Any: each row has a state of its own.
States: TypeAlias = dict[str, Any]


def _check_axis(what: str, own: int, axis: int) -> None:
    if axis != own:
        raise LayerError("", f"{what} along axis {own}, but the positions are in axis {axis}")


@record
class KeyValue:
    """The keys and values of earlier positions, by head."""

    key: Float[Tensor, "*batch heads slots features"]
    value: Float[Tensor, "*batch heads slots n_out"]
    window: int | None = core.static()


def _attention_init(
    params: Params, x: Arrays, *, axis: int, max_length: int, is_causal: bool, num_heads: int = 1,
    num_kv_heads: int | None = None, sliding_window: int | None = None, **options: object,
) -> KeyValue:  # fmt: skip
    _check_axis("attends", -2, axis)
    if not is_causal:
        raise LayerError("", "attends to later positions; make it with is_causal=True")
    _, key, value, *mask = x
    if mask and mask[0] is not None:
        raise LayerError("", "has a mask for the text; leave it out")
    slots = min(max_length, sliding_window or max_length)
    window = sliding_window if slots < max_length else None

    def empty(t: Tensor) -> Tensor:
        t = split_heads(t, num_kv_heads or num_heads)
        return t.new_zeros(*t.shape[:-2], slots, t.shape[-1])

    return KeyValue(empty(key), empty(value), window)


def _attention_step(
    params: Params, state: KeyValue, x: Arrays, *, position: Tensor, num_heads: int = 1,
    num_kv_heads: int | None = None, scale: float | None, softcap: float | None = None,
    **options: object,
) -> tuple[Tensor, KeyValue]:  # fmt: skip
    counts = num_heads, num_kv_heads or num_heads, num_kv_heads or num_heads
    query, key, value = (split_heads(t, n) for t, n in zip(x[:3], counts, strict=True))
    own = position + torch.arange(query.shape[-2], device=query.device)
    slots, window = torch.arange(state.key.shape[-2], device=query.device), state.window
    if window is None:
        seen = after = _written(state, key, value, own)
        allowed = slots <= own[:, None]
    else:
        after = _written(
            state, key[..., -window:, :], value[..., -window:, :], own[-window:] % window
        )
        # The slots are used again: the first queries of a step still need what they held.
        seen = KeyValue(
            torch.cat([state.key, key], -2), torch.cat([state.value, value], -2), window
        )
        last = position - 1
        at = torch.cat([last - (last - slots) % window, own])
        allowed = (at >= 0) & (at <= own[:, None]) & (own[:, None] - at < window)
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    form = (core.Like.of(query), False, None, softcap, scale, True, 4)
    cache = attention_heads.Cache(query * scale, seen.key, seen.value, allowed, None, *form)
    weights, _ = attention_heads.weights_and_slope(cache)
    return merge_heads(ungrouped(grouped(weights, seen.key) @ seen.value, query)), after


def _written(state: KeyValue, key: Tensor, value: Tensor, slots: Tensor) -> KeyValue:
    return KeyValue(
        state.key.index_copy(-2, slots, key), state.value.index_copy(-2, slots, value), state.window
    )


@record
class Window:
    """The last inputs of a convolution, along the axis of the positions."""

    x: Tensor
    axis: int = core.static()


@record
class Padding:
    """How many elements a step pads: those of the other axes."""

    amounts: tuple[int, ...] = core.static()


def _pad_init(
    params: tuple[()], x: Tensor, *, axis: int, max_length: int,
    padding: tuple[int, ...], mode: str, value: float, layer: str,
) -> Padding:  # fmt: skip
    first = 2 * (-axis - 1)  # the last axis is first in torch's order
    before, after = (*padding, *[0] * first, 0)[first : first + 2]
    if after:
        raise LayerError("", "pads after the text")
    if before and mode != "constant":
        raise LayerError("", "pads with numbers of the text; pad with a constant")
    own = (first, first + 1)
    return Padding(tuple(0 if i in own else amount for i, amount in enumerate(padding)))


def _pad_step(
    params: tuple[()], state: Padding, x: Tensor, *, position: Tensor,
    padding: tuple[int, ...], mode: str, value: float, layer: str,
) -> tuple[Tensor, Padding]:  # fmt: skip
    y, _ = pad.forward(params, x, padding=state.amounts, mode=mode, value=value, layer=layer)
    return y, state


# Any: the hyperparameters of a convolution.
def _conv_init(
    params: conv.Params, x: Tensor, *, axis: int, max_length: int, **options: Any
) -> Window:
    kernel = tuple(params.weight.shape[2:])
    geometry, amounts, _ = conv_axes("conv", kernel, **options)
    i = len(kernel) + axis
    if i < 0:
        raise LayerError("", f"has no kernel along axis {axis}, where the positions are")
    if geometry.stride[i] > 1:
        raise LayerError("", "has a stride, so that it skips positions")
    if any(amounts[i]):
        raise LayerError("", "pads after the text; put a zero_pad1d((n, 0)) before it")
    reach = (kernel[i] - 1) * geometry.dilation[i]
    # Of the input of one position, all but the last entry are padding.
    return Window(x.narrow(axis, x.shape[axis] - 1 - reach, reach), axis)


def _conv_step(
    params: conv.Params, state: Window, x: Tensor, *, position: Tensor, **options: Any
) -> tuple[Tensor, Window]:
    joined = torch.cat([state.x, x], state.axis)
    reach = state.x.shape[state.axis]
    last = joined.narrow(state.axis, joined.shape[state.axis] - reach, reach)
    return conv.forward(params, joined, **options)[0], Window(last, state.axis)


@record
class Table:
    """The vector that is added at each position."""

    rows: Tensor


def _learned_init(
    params: positional_embedding.Params, x: Tensor, *, axis: int, max_length: int
) -> tuple[()]:
    _check_axis("adds positions", -2, axis)
    if max_length > (given := len(params.weight)):
        raise LayerError("", f"has {given} positions, fewer than max_length, {max_length}")
    return ()


def _fixed_init(params: tuple[()], x: Tensor, *, axis: int, max_length: int) -> Table:
    _check_axis("adds positions", -2, axis)
    return Table(layers.sinusoidal_positions.forward((), x.new_zeros(max_length, x.shape[-1]))[0])


def _add_step(
    params: Params, state: Table | tuple[()], x: Tensor, *, position: Tensor
) -> tuple[Tensor, Table | tuple[()]]:
    """Compute y = x + the rows of W or P at the positions of x."""
    table = state.rows if isinstance(state, Table) else params.weight
    own = position + torch.arange(x.shape[-2], device=x.device)
    return x + table.index_select(0, own), state


def _turned_init(
    params: tuple[()], x: Arrays, *, axis: int, max_length: int, theta: float,
    rotary_dim: int | None, scaling: RopeScaling | None, **options: object,
) -> tuple[()]:  # fmt: skip
    _check_axis("adds positions", -2, axis)
    if scaling is not None:
        n = rotary_dim or _heads(x).shape[-1]
        lengths = torch.tensor([[1.0], [max_length]], dtype=torch.float64)
        # Most scalings have the same for every length, in one row.
        short, long = scaling.frequencies(theta, n, lengths).expand(2, -1)
        if not torch.equal(short, long):
            problem = f"has other frequencies at {max_length} positions, and so other keys"
            raise LayerError("", f"{problem}; take a smaller max_length")
    return ()


# Any: the hyperparameters of `rotary_embedding`.
def _turned_step(
    params: tuple[()], state: tuple[()], x: Arrays, *, position: Tensor, **options: Any
) -> tuple[Tensor, tuple[()]]:
    """Turn each pair by the angle of its position, unless x has positions of its own."""
    heads = _heads(x)
    given = x[1] if isinstance(x, tuple) else None
    own = position + torch.arange(heads.shape[-2], device=heads.device) if given is None else given
    return rotary_embedding.forward(params, (heads, own), **options)[0], ()


def _heads(x: Arrays) -> Tensor:
    heads: Tensor = x[0] if isinstance(x, tuple) else x
    return heads


@record
class Recurrent:
    """The last state of a recurrent layer; None before the first position of a `scan`."""

    last: Arrays


def _recurrent_init(
    params: Params, x: Arrays, *, axis: int, max_length: int, forward: Function, sequences: int,
    **options: object,
) -> Recurrent:  # fmt: skip
    if len(getattr(params, "cells", [()])[0]) == 2:
        raise LayerError("", "is bidirectional: it also runs from the end of the text")
    is_scan = forward is layers.linear_scan.forward
    own = 1 - x[0].ndim if is_scan else -2 if options.get("batch_first", True) else -3
    _check_axis("runs", own, axis)
    (_, last), _ = forward(params, _from(Recurrent(None), x, sequences), **options)
    return Recurrent(core.tree.map(torch.zeros_like, last))


def _recurrent_step(
    params: Params, state: Recurrent, x: Arrays, *, position: Tensor, forward: Function,
    sequences: int, **options: object,
) -> tuple[Arrays, Recurrent]:  # fmt: skip
    made = forward(params, _from(state, x, sequences), **options)[0]
    return _with_last(x, made, sequences)


def _scan_init(
    params: Params, x: Arrays, *, axis: int, max_length: int, dim: int, reverse: bool,
    **options: object,
) -> Recurrent:  # fmt: skip
    if reverse:
        raise LayerError("", "runs from the end of the text")
    ndim = (x[0] if type(x) is tuple else x).ndim
    _check_axis("runs", dim % ndim - ndim, axis)
    return Recurrent(None)  # only the cell knows its first state


# Any: the hyperparameters of `scan`.
def _scan_step(
    params: Params, state: Recurrent, x: Arrays, *, position: Tensor, made: Composition,
    sequences: int = 1, **options: Any,
) -> tuple[Arrays, Recurrent]:  # fmt: skip
    visit, given = VisitThere(made, PREDICT), _from(state, x, sequences)
    y, _ = scan_there(visit, params, given, sequences=sequences, **options)
    return _with_last(x, y, sequences)


def _from(state: Recurrent, x: Arrays, sequences: int) -> Arrays:
    """Add the last state to x, behind its sequences and before its mask."""
    entries = x if type(x) is tuple else (x,)
    missing = (None,) * (sequences - len(entries))
    return (*entries[:sequences], *missing, state.last, *entries[sequences + 1 :])


def _with_last(x: Arrays, made: Arrays, sequences: int) -> tuple[Arrays, Recurrent]:
    has_state = type(x) is tuple and len(x) > sequences
    return (made if has_state else made[0]), Recurrent(made[1])


def _row(forward: Function, n: int) -> Row:
    init = partial(_recurrent_init, forward=forward, sequences=n)
    return Row(init, partial(_recurrent_step, forward=forward, sequences=n))


# The most sequences in x of a layer, behind which its state is.
_SEQUENCES: Final = {
    layers.rnn: 1, layers.gru: 1, layers.lstm: 1, layers.linear_scan: 2,
    layers.gated_linear_recurrence: 3, layers.linear_attention: 4, layers.selective_scan: 4,
}  # fmt: skip
_ATTENTION: Final = Row(_attention_init, _attention_step)
_SCAN: Final = Row(_scan_init, _scan_step)
ROWS: Final[dict[ModuleType | None, Row]] = {
    attention_heads: _ATTENTION,
    layers.scaled_dot_product_attention: _ATTENTION,
    conv: Row(_conv_init, _conv_step, pads=True),
    pad: Row(_pad_init, _pad_step, pads=True),
    positional_embedding: Row(_learned_init, _add_step),
    rotary_embedding: Row(_turned_init, _turned_step),
    layers.sinusoidal_positions: Row(_fixed_init, _add_step),
    **{layer: _row(layer.forward, n) for layer, n in _SEQUENCES.items()},
}


def row_of(layer: Layer) -> Row | None:
    """Return a layer's row, with its hyperparameters; None if it has none."""
    if made_by(layer, inference):
        assert layer.spec is not None, "it has a constructor"
        return row_of(layer.spec["layer"])  # whose prediction it is
    function: Function = layer.forward if core.is_derived(layer, "predict") else layer.predict
    made = getattr(function, "__self__", None)
    options: dict[str, Any] = {}  # Any: a composition
    if isinstance(made, Composition):
        function, options = made.predict_there, {"made": made}
    declared = core.declared_by(function).decode
    file = file_of(layer) or core.file_of_forward(layer)
    row = _SCAN if made_by(layer, scan) else ROWS.get(file)
    row = Row(*declared) if declared else row
    if not row or (isinstance(made, Composition) and made.taps):
        return None
    init, step = (core.bind_like(partial(f, **options), function) for f in (row.init, row.step))
    return Row(init, step, row.pads)


def without_walk(net: Layer) -> Layer:
    """Make single layers of the compositions that decode as a whole, such as `scan`."""
    made = composition_of(net)
    if made is None:
        return net
    # These run their parts as often, or on as many tokens, as their numbers say.
    has_no_walk = made_by(net, fixed_point) or gives_own_tokens(net)
    if has_no_walk or row_of(net) is not None:
        return net.replace(predict=net.predict, spec=net.spec)  # so no walk reaches its parts
    changes = {} if made.predict_there is made.there else {"there": made.predict_there}
    return net.rebuild(tuple(map(without_walk, net.parts)), **changes)
