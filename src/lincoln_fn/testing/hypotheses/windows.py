"""Paths that are missing or sent everywhere, and windows that overwrite each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import product
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from lincoln_fn.testing.call import Call
from lincoln_fn.testing.evidence import Evidence
from lincoln_fn.testing.hypotheses.hypothesis import Cost, Guess, Hypothesis
from lincoln_fn.testing.hypotheses.local import Local, list_groups, local, make_table
from lincoln_fn.testing.oracles import vjp

CONVOLUTIONS = ("conv1d", "conv2d", "conv3d")
POOLINGS = ("max_pool1d", "max_pool2d", "max_pool3d")
# Each window takes one backward pass of the call.
MOST_WINDOWS = 150


def axes(call: Call) -> int:
    """Return the number of axes that a window moves along; 0 if the call has no windows."""
    has_windows = call.name in CONVOLUTIONS or "pool" in call.name
    return int(call.name[-2]) if has_windows and call.name[-2:] in ("1d", "2d", "3d") else 0


def _overwrite(evidence: Evidence) -> Iterator[Guess]:
    """Assign the gradient of each window, where overlapping windows add up."""
    for tape, calls, at in list_groups(evidence):
        call, n = calls[0], axes(calls[0])
        if not n or len(calls) > 1 or call.tracked[0] != 0:
            continue
        (g,) = tape.arrived(call)
        positions = list(product(*map(range, g.shape[-n:])))
        channels = range(g.shape[-n - 1]) if call.name in CONVOLUTIONS else ()
        for order in ([(p, None) for p in positions],
                      [(p, c) for p in positions for c in channels],
                      [(p, c) for c in channels for p in positions]):  # fmt: skip
            if 0 < len(order) <= MOST_WINDOWS:
                wrong = _assign(call, g, order)
                error = wrong - call.vjp([g])[0]
                yield Guess([*tape.gradients_with([call.inputs[0]], [error])], {"at": at})


def _assign(call: Call, g: Tensor, order: Sequence[tuple[tuple[int, ...], int | None]]) -> Tensor:
    """Assign the gradient of one window after the other."""
    wrong = torch.zeros_like(call.inputs[0])
    for position, channel in order:
        covers = torch.zeros_like(g)
        where: tuple[Any, ...] = (..., *position)  # Any: numbers
        covers[where] = 1
        kept = covers if channel is None else torch.zeros_like(g)
        channels = slice(channel, None if channel is None else channel + 1)
        place: tuple[Any, ...] = (..., channels, *position)  # Any: slices and numbers
        kept[place] = 1
        wrong = torch.where(_cover(call, covers), call.vjp([g * kept])[0], wrong)
    return wrong


def _cover(call: Call, covers: Tensor) -> Tensor:
    """Return which places of the input some windows cover."""
    if call.name in CONVOLUTIONS:
        return call.vjp([covers], list(map(torch.ones_like, call.inputs)))[0] != 0
    if call.name.startswith("avg"):
        return call.vjp([covers])[0] != 0
    return take_averages(call, covers) != 0


def take_averages(call: Call, g: Tensor) -> Tensor:
    """Compute the gradient of a maximum pooling's input as if it took averages."""
    average = partial(getattr(functional, call.name.replace("max", "avg")), **read_pooling(call))
    return vjp(average, torch.ones_like(call.inputs[0]), g)


def read_pooling(call: Call) -> dict[str, Any]:  # Any: numbers, or tuples of them
    """Return the options of a pooling."""
    args, kwargs = call.arguments()
    options = dict(zip(("kernel_size", "stride", "padding"), args[1:4], strict=False)) | kwargs
    return {k: options[k] for k in ("kernel_size", "stride", "padding") if options.get(k)}


def _scatter(call: Local) -> Tensor:
    """Assign each gradient to the place of its maximum, where windows may share one."""
    n = axes(call.call)
    pool = getattr(functional, f"max_pool{n}d")
    _, places = pool(call.u, **read_pooling(call.call), return_indices=True)
    spatial = len(call.u.shape) - n
    wrong = torch.zeros_like(call.u).flatten(spatial)
    return wrong.scatter(spatial, places.flatten(spatial), call.g.flatten(spatial)).view_as(call.u)


HYPOTHESES = [
    Hypothesis("overlap overwritten",
               "is overwritten where windows of {at}() overlap: they must add up", _overwrite,
               Cost.OPERATION),
    local("overlap overwritten",
          "is overwritten where windows of {at}() share a maximum: they must add up", _scatter,
          only=POOLINGS),
]  # fmt: skip


# A path is named by what it computes, not by how it arranges the numbers.
_MOVED = ("mT", "T", "t", "transpose", "permute", "reshape", "view", "unsqueeze", "squeeze")
_LARGEST = ("max", "min", "amax", "amin", "topk", "maximum", "minimum", "fmax", "kthvalue")


def _cut(call: Local) -> Tensor | None:
    return None if call.call.name in _MOVED else torch.zeros_like(call.u)


def _send_everywhere(call: Local) -> Tensor:
    """Send the gradient of a maximum to all numbers that it was taken of."""
    if call.call.name in ("maximum", "minimum", "fmax"):
        return call.g.sum_to_size(call.u.shape)
    numbers = [
        leaf for leaf in call.call.leaves if isinstance(leaf, int) and not isinstance(leaf, bool)
    ]
    g = call.g
    if g.ndim < call.u.ndim and numbers:
        for dim in sorted(n % call.u.ndim for n in numbers):
            g = g.unsqueeze(dim)
    return g.expand_as(call.u)


def _share(call: Local) -> Tensor:
    return _send_everywhere(call) * (call.u.numel() and call.g.numel() / call.u.numel())


def _fill_window(call: Local, *, average: bool) -> Tensor:
    """Send the gradient of max pooling to whole windows, as the sum of a window would."""
    found = take_averages(call.call, call.g)
    k = read_pooling(call.call)["kernel_size"]
    count = k ** axes(call.call) if isinstance(k, int) else torch.Size(k).numel()
    return found if average else found * count


_EVERYWHERE = "sends the gradient of {at}() to all its inputs, not to the largest alone"
_EVENLY = "spreads the gradient of {at}() evenly over its inputs"
_ALL_BUT = "sends the gradient of {at}() to all but the largest: the mask is inverted"
PATHS = [
    *make_table(("sent everywhere", _EVERYWHERE, _send_everywhere, _LARGEST),
        ("sent everywhere", _EVERYWHERE, partial(_fill_window, average=False), POOLINGS),
        ("spread evenly", _EVENLY, _share, _LARGEST),
        ("spread evenly", _EVENLY, partial(_fill_window, average=True), POOLINGS),
        ("mask inverted", _ALL_BUT, lambda call: _send_everywhere(call) - call.right, _LARGEST),
        ("smallest of the window",
        "goes to the smallest element of each window of {at}(), not to the largest",
        lambda call: call.at(-call.u), POOLINGS),
        ("mask inverted", _ALL_BUT, lambda call: _fill_window(call, average=False) - call.right,
        POOLINGS),),
    local("path missing", "misses {path}: is {what} treated as a constant?", _cut, grouped=True),
]  # fmt: skip
