"""A path of the gradient that is missing, overwritten or sent everywhere."""

from __future__ import annotations

import torch
from torch import Tensor

from lincoln_fn.testing.hypotheses.local import Local, local
from lincoln_fn.testing.hypotheses.windows import averaged, axes, pooling

# A path is named by what it computes, not by how it arranges the numbers.
_MOVED = ("mT", "T", "t", "transpose", "permute", "reshape", "view", "unsqueeze", "squeeze")
_LARGEST = ("max", "min", "amax", "amin", "topk", "maximum", "minimum", "fmax", "kthvalue")


def _missing(call: Local) -> Tensor | None:
    return None if call.call.name in _MOVED else torch.zeros_like(call.u)


def _everywhere(call: Local) -> Tensor | None:
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


def _all_but(call: Local) -> Tensor | None:
    everywhere = _everywhere(call)
    return None if everywhere is None else everywhere - call.right


def _among_equals(call: Local) -> Tensor | None:
    everywhere = _everywhere(call)
    if everywhere is None:
        return None
    return everywhere * (call.u.numel() and call.g.numel() / call.u.numel())


def _window(call: Local, *, average: bool) -> Tensor | None:
    """Send the gradient of max pooling to whole windows, as the sum of a window would."""
    if not _is_pooling(call):
        return None
    found = averaged(call.call, call.g)
    k = pooling(call.call)["kernel_size"]
    count = k ** axes(call.call) if isinstance(k, int) else torch.Size(k).numel()
    return found if average else found * count


def _is_pooling(call: Local) -> bool:
    return call.call.name.startswith("max_pool")


def _all_but_of_window(call: Local) -> Tensor | None:
    everywhere = _window(call, average=False)
    return None if everywhere is None else everywhere - call.right


EVERYWHERE = "sends the gradient of {at}() to all its inputs, not to the largest alone"
HYPOTHESES = [
    local("sent everywhere", EVERYWHERE, _everywhere, only=_LARGEST),
    local("sent everywhere", EVERYWHERE, lambda call: _window(call, average=False)),
    local(
        "spread evenly",
        "spreads the gradient of {at}() evenly over its inputs",
        _among_equals,
        only=_LARGEST,
    ),
    local(
        "spread evenly",
        "spreads the gradient of {at}() evenly over its inputs",
        lambda call: _window(call, average=True),
    ),
    local(
        "mask inverted",
        "sends the gradient of {at}() to all but the largest: the mask is inverted",
        _all_but,
        only=_LARGEST,
    ),
    local(
        "first of the window",
        "goes to the first element of each window of {at}(), not to the largest",
        lambda call: call.at(torch.zeros_like(call.u)) if _is_pooling(call) else None,
    ),
    local(
        "smallest of the window",
        "goes to the smallest element of each window of {at}(), not to the largest",
        lambda call: call.at(-call.u) if _is_pooling(call) else None,
    ),
    local(
        "mask inverted",
        "sends the gradient of {at}() to all but the largest: the mask is inverted",
        _all_but_of_window,
    ),
    local(
        "path missing",
        "misses {path}: is {what} treated as a constant?",
        _missing,
        grouped=True,
    ),
]
