"""Layers one after the other with a shared second input, and layers that select and fill inputs.

Derivation of `with_context`. With x = (h_0, c) and h_i = layer_i((h_(i-1), c)), layer i turns g_i
into a pair of dh_(i-1) and dc_i. The context c enters every layer, so

    g_(i-1) = dh_(i-1)
    dc = sum_i dc_i
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final, TypeAlias

import attrs
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.combine._wiring import Wiring, in_turn, wired
from lincoln_fn.core import Arrays, Layer, NonNegativeInt, Params, declare, record, tree, unexpected
from lincoln_fn.layers.stop_gradient import zero
from lincoln_fn.walk.internal import Record


@attrs.frozen
class Context(Wiring):
    """Parts read sequences and behind them their context, which is one value: a tuple, or None."""

    def values_of(self, label: str, x: Arrays) -> tuple[Arrays, ...]:
        """Return h_0 and the context."""
        return (x[0], x[1:]) if type(x) is tuple else (x, None)

    def inputs_of(self, i: int, parts: tuple[Layer, ...], values: Sequence[Arrays]) -> Arrays:
        """Return (h, *context), or h."""
        read = self.reads[i]
        if isinstance(read, int):
            return values[read]
        *sequences, context = (values[j] for j in read)
        x = (*sequences, *(context or ()))
        return x if context is not None or len(x) > 1 else x[0]

    def dx_of(self, i: int, part: Layer, dx: Arrays, notes: tuple[Record, ...]) -> Arrays:
        """Return the gradients of the sequences, and that of the context."""
        read = self.reads[i]
        if isinstance(read, int):
            return dx
        count = len(read) - 1
        return (*dx[:count], dx[count:]) if type(dx) is tuple else (dx, None)

    def dx_of_x(self, gs: Sequence[Arrays]) -> Arrays:
        """Return (dh_0, *dcontext), or dh_0."""
        return gs[0] if gs[1] is None else (gs[0], *gs[1])


@attrs.frozen
class _WithContext(Context):
    """Each part reads the output of the part before it, and the context, which x has to have."""

    def values_of(self, label: str, x: Arrays) -> tuple[Arrays, ...]:
        if type(x) is not tuple or len(x) < 2:
            raise core.unexpected(label, "x to be (input, *context)", core.describe_non_tuple(x))
        return super().values_of(label, x)


@core.checked
def with_context(*layers: Layer) -> Layer:
    """Compose layers one after the other, each with the same context as a second input.

    With x = (h_0, *c), where the context c is one entry or more, such as a mask or an encoder's
    output, h_i = layer_i((h_{i-1}, *c)) and y = h_n. Put `select(0)` before a layer that takes no
    context. Params, caches and dparams are tuples with one entry per part.

    Example:
        >>> net = with_context(lf.multiply(), lf.multiply())
        >>> net.predict(((), ()), (torch.tensor([2.0]), torch.tensor([3.0])))
        tensor([18.])
    """
    core.require(len(layers) > 0, "with_context", "at least one of layers", layers)
    n = len(layers)
    return wired(with_context, layers, _WithContext(in_turn(n), n + 1, entries=2))


@record
class Selected:
    """The entries of x."""

    x: tuple[Arrays, ...]


def _forward(
    params: Params, x: Arrays, *, name: str, entries: tuple[int, ...]
) -> tuple[Arrays, Selected]:
    core.check_params(name, params, None)
    if type(x) is not tuple or len(x) <= max(entries):
        expected = f"x to be a tuple of at least {max(entries) + 1}"
        raise unexpected(name, expected, core.describe_non_tuple(x))
    y = tuple(x[i] for i in entries)
    return y if len(y) > 1 else y[0], Selected(x)


declare(_forward, kind="moving")


def _backward(
    params: Params, cache: Selected, g: Arrays, *, name: str, entries: tuple[int, ...]
) -> tuple[Arrays, Params]:
    """Compute dx_j as the sum of g over the entries of y that are x_j."""
    core.check_cache(name, cache, Selected)
    gs = g if len(entries) > 1 else (g,)
    dx: list[Arrays] = [None] * len(cache.x)
    for i, g_i in zip(entries, gs, strict=True):
        dx[i] = g_i if dx[i] is None else core.add_trees(dx[i], g_i)
    for i in set(range(len(dx))).difference(entries):
        dx[i] = None if cache.x[i] is None else tree.map(zero, cache.x[i])
    return tuple(dx), ()


@core.constructor
def select(*entries: NonNegativeInt) -> Layer:
    """Make a layer that selects entries of a tuple: y = x_0 for select(0), (x_0, x_2) for (0, 2).

    Derivation. Each entry of y is one x_j, so dx_j is the sum of g over the entries that are x_j.
    It is 0 if there is none (None, if x_j is not floating).

    Example:
        >>> select(1, 0, 1).predict((), ("a", "b"))
        ('b', 'a', 'b')
    """
    core.require(len(entries) > 0, "select", "at least one of entries", entries)
    name = f"select({', '.join(map(str, entries))})"
    return core.bare(Layer, partial(_forward, name=name), partial(_backward, name=name))


# The forms of x: the number of its entries, and what they are.
Forms: TypeAlias = tuple[tuple[int, str], ...]
OF_SEQUENCE: Final[Forms] = ((1, "a sequence"), (2, "(sequence, mask)"))
OF_TARGET: Final[Forms] = ((2, "(target, memory)"), (4, "(target, memory, mask, mask)"))


@record
class Completed:
    """How many entries x had; 0 if it was not a tuple."""

    entries: int = core.static()


def _fill(
    params: Params, x: Arrays, *, label: str, forms: Forms, masks: tuple[int, ...]
) -> tuple[Arrays, Completed]:
    """Insert None for the entries that x lacks, and make bools of masks of integers."""
    core.check_params(label, params, None)
    entries = x if type(x) is tuple else (x,)
    if len(entries) not in dict(forms):
        expected = f"x to be {' or '.join(form for _, form in forms)}"
        raise unexpected(label, expected, core.describe_non_tuple(x))
    y = (*entries, *(None,) * (forms[-1][0] - len(entries)))
    filled = tuple(_as_bools(entry) if i in masks else entry for i, entry in enumerate(y))
    return filled, Completed(len(x) if type(x) is tuple else 0)


declare(_fill, kind="moving")


def _as_bools(mask: Tensor | None) -> Tensor | None:
    is_integer = isinstance(mask, Tensor) and not (mask.is_floating_point() or mask.is_complex())
    return mask.bool() if is_integer and mask is not None else mask


def _unfill(params: Params, cache: Completed, g: Arrays, *, label: str) -> tuple[Arrays, Params]:
    core.check_cache(label, cache, Completed)
    return g[: cache.entries] if cache.entries else g[0], ()


def complete(forms: Forms, label: str = "context()", masks: tuple[int, ...] = ()) -> Layer:
    """Insert None for the entries that x lacks: the last form has all. Masks become bools."""
    fill = partial(_fill, label=label, forms=forms, masks=masks)
    return Layer(label, fill, partial(_unfill, label=label))
