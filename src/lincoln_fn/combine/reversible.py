"""Less memory for more time: blocks whose input follows from their output, and layers run again.

In a reversible block, x is split into two halves, and each changes the other:

    y_1 = x_1 + f(x_2)
    y_2 = x_2 + h(y_1)

Derivation. Solved for the input, from the last line to the first:

    x_2 = y_2 - h(y_1)
    x_1 = y_1 - f(x_2)

y_1 enters y_2 through h, and x_2 enters y_1 through f. With g_1, g_2 the gradients of y_1, y_2 and
"back"_f that of f's input:

    dx_1 = g_1 + "back"_h(g_2)
    dx_2 = g_2 + "back"_f(dx_1)

Cache: the last y, which gives the inputs of all blocks, one after the other.

`checkpointed` keeps only x, and runs `forward` again, which is pure: it gives the same cache, with
the same dropout masks. (Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016.)
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

import torch
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.combine._wiring import Kept, keep, with_states, wrong_output
from lincoln_fn.combine.serial import needs_dx
from lincoln_fn.core import Arrays, Key, Layer, Params, Spec, call_of, checked, unexpected
from lincoln_fn.walk import VisitBack, VisitThere, check_entries, composition
from lincoln_fn.walk.internal import Record, around


def _there(visit: VisitThere, params: Params, x: Arrays, *, dim: int) -> tuple[Arrays, Kept]:
    check_entries(visit.label, "params", params, len(visit.parts))
    changed, other = _halves(x, dim)
    advanced = []
    for i, entry in enumerate(params):  # f and h in turn
        moved, record = visit(i, entry, other)
        if moved.shape != changed.shape:
            shape = f"its output to have the shape {tuple(changed.shape)}, which it is added to"
            raise wrong_output(visit, i, shape, moved.shape)
        changed, other = other, changed + moved
        advanced.append(visit.advance(i, entry, record))
    y = _join((changed, other), x, dim)
    is_still = all(part.advance is core.unchanged for part in visit.parts)
    return y, Kept(y, None if is_still else tuple(advanced))


# From the terms of a sum and its g to the g of each term.
SumBack: TypeAlias = Callable[[tuple[Tensor, Tensor], Tensor], tuple[Tensor, Tensor]]


def _to_both(terms: tuple[Tensor, Tensor], g: Tensor) -> tuple[Tensor, Tensor]:
    return g, g


def back(
    visit: VisitBack, params: Params, cache: Kept, g: Arrays,
    *, dim: int, sum_back: SumBack = _to_both,
) -> tuple[Arrays, Record]:  # fmt: skip
    """Recompute x_2 = y_2 - h(y_1) and x_1 = y_1 - f(x_2), with dx_1 and dx_2 on the way."""
    count = len(visit.parts)
    core.check_cache(visit.label, cache, Kept)
    check_entries(visit.label, "params", params, count)
    records = [None] * count
    other, changed = _halves(cache.arrays, dim)
    dother, dchanged = _halves(g, dim)
    for i in reversed(range(count)):
        moved, again = visit.parts[i].forward(params[i], other)
        before = changed - moved
        dbefore, dmoved = sum_back((before, moved), dchanged)
        through, records[i] = visit(i, params[i], again, dmoved)
        if through is not None:
            dother = dother + through
        changed, other = other, before
        dchanged, dother = dother, dbefore
    return _join((dother, dchanged), g, dim), tuple(records)


def _halves(x: Arrays, dim: int) -> tuple[Tensor, Tensor]:
    if isinstance(x, Tensor):
        core.check_axis("reversible", x, dim)
        if x.shape[dim] % 2:
            raise unexpected("reversible", f"an even number of features in axis {dim}", x.shape)
        first, second = x.chunk(2, dim)
        return first, second
    if type(x) is not tuple or len(x) != 2:
        expected = "x to be a tensor or a tuple of two"
        raise unexpected("reversible", expected, core.describe_non_tuple(x))
    return x


def _join(halves: tuple[Tensor, Tensor], like: Arrays, dim: int) -> Arrays:
    return torch.cat(halves, dim) if isinstance(like, Tensor) else halves


def _init(parts: tuple[Layer, ...], key: Key, x: Arrays, *, dim: int) -> Params:
    first, second = _halves(x, dim)
    return tuple(
        part.init(key.fold_in(i), first if i % 2 else second) for i, part in enumerate(parts)
    )


@core.constructor
def reversible(*blocks: tuple[Layer, Layer], dim: int = -1) -> Layer:
    """Make residual blocks that keep only the last output: y_1 = x_1 + f(x_2), y_2 = x_2 + h(y_1).

    The backward pass recomputes each block's input. So it takes one more forward pass, and the
    memory of one block. What is recomputed differs from the original by rounding, and the
    difference grows with depth. Dropout draws the same mask again.

    Args:
        *blocks: pairs (f, h). The output of f has the shape of x_1, that of h the shape of x_2.
        dim: the axis, of even size, that a tensor is halved along, such as 1 for images' channels.

    Returns:
        The layer. x is a tensor, or a tuple (x_1, x_2); y has the form of x. Its params are a tuple
        with the entries of f and h of each block in turn.

    Source:
        Gomez, Ren, Urtasun and Grosse, "The Reversible Residual Network: Backpropagation Without
        Storing Activations", 2017.

    Example:
        >>> net, x = reversible((lf.dense(3), lf.tanh())), torch.ones(2, 6)
        >>> y, cache = net.forward(net.init(lf.Key(0), x), x)
        >>> cache.arrays is y
        True
    """
    core.require(len(blocks) > 0, "reversible", "at least one of blocks", blocks)
    parts = tuple(part for block in blocks for part in block)
    functions = {"init": _init, "advance": with_states, "needs_dx": needs_dx, "call": _call}
    return core.bare(partial(composition, parts=parts), there=_there, back=back, **functions)


def _call(parts: tuple[Layer, ...], *, dim: int) -> Spec:
    pairs = [*zip(parts[::2], parts[1::2], strict=True)]
    call, pair = call_of(reversible, *pairs, dim=dim), repr(pairs[0])
    alike = ", ".join([pair] * len(pairs))
    text = call.replace(alike, f"*[{pair}] * {len(pairs)}") if len(pairs) > 1 else call
    return Spec(reversible, call.arguments, text)


def _keep_x(visit: VisitThere, params: Params, x: Arrays) -> tuple[Arrays, Kept]:
    y, record = visit(0, params, x)
    return y, keep(visit, x, params, record)


def _run_again(visit: VisitBack, params: Params, cache: Kept, g: Arrays) -> tuple[Arrays, Record]:
    core.check_cache("checkpointed", cache, Kept)
    return visit(0, params, visit.parts[0].forward(params, cache.arrays)[1], g)


@checked
def checkpointed(layer: Layer) -> Layer:
    """Trade time for memory: keep only x, and run forward again during backward.

    The params are the layer's own.

    Example:
        >>> checkpointed(lf.tanh()).forward((), torch.zeros(2))[1]
        Kept(arrays=float32[2], advanced=None)
    """
    return around(checkpointed, layer, _keep_x, _run_again, advance=with_states, mask="part")
