"""A path of the gradient that is missing, overwritten or sent everywhere."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from lincoln_fn.testing.hypotheses.local import Local, local, make_table
from lincoln_fn.testing.hypotheses.windows import POOLINGS, axes, read_pooling, take_averages

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
HYPOTHESES = [
    *make_table(
        ("sent everywhere", _EVERYWHERE, _send_everywhere, _LARGEST),
        ("sent everywhere", _EVERYWHERE, partial(_fill_window, average=False), POOLINGS),
        ("spread evenly", _EVENLY, _share, _LARGEST),
        ("spread evenly", _EVENLY, partial(_fill_window, average=True), POOLINGS),
        ("mask inverted", _ALL_BUT, lambda call: _send_everywhere(call) - call.right, _LARGEST),
        ("smallest of the window",
         "goes to the smallest element of each window of {at}(), not to the largest",
         lambda call: call.at(-call.u), POOLINGS),
        ("mask inverted", _ALL_BUT, lambda call: _fill_window(call, average=False) - call.right,
         POOLINGS),
    ),
    local("path missing", "misses {path}: is {what} treated as a constant?", _cut,
          grouped=True),
]  # fmt: skip
