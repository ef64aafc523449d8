"""Convolutions and pooling, window by window: overlaps overwritten, strides and padding wrong."""

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
from lincoln_fn.testing.hypotheses.local import Local, groups, table

_CONVOLUTIONS = ("conv1d", "conv2d", "conv3d")
# Each window takes one backward pass of the call.
MOST_WINDOWS = 150


def axes(call: Call) -> int:
    """Return the number of axes that a window moves along; 0 if the call has no windows."""
    has_windows = call.name in _CONVOLUTIONS or "pool" in call.name
    return int(call.name[-2]) if has_windows and call.name[-2:] in ("1d", "2d", "3d") else 0


def _overwritten(evidence: Evidence) -> Iterator[Guess]:
    """Assign the gradient of each window, where overlapping windows add up."""
    for tape, calls, at in groups(evidence):
        call, n = calls[0], axes(calls[0])
        if not n or len(calls) > 1 or call.tracked[0] != 0:
            continue
        (g,) = tape.arrived(call)
        positions = list(product(*map(range, g.shape[-n:])))
        channels = range(g.shape[-n - 1]) if call.name in _CONVOLUTIONS else ()
        for order in ([(p, None) for p in positions],
                      [(p, c) for p in positions for c in channels],
                      [(p, c) for c in channels for p in positions]):  # fmt: skip
            if 0 < len(order) <= MOST_WINDOWS:
                wrong = _assigned(call, g, order)
                error = wrong - call.vjp([g])[0]
                yield Guess([*tape.gradients_with([call.inputs[0]], [error])], {"at": at})


def _assigned(call: Call, g: Tensor, order: Sequence[tuple[tuple[int, ...], int | None]]) -> Tensor:
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
        wrong = torch.where(_covered(call, covers), call.vjp([g * kept])[0], wrong)
    return wrong


def _covered(call: Call, covers: Tensor) -> Tensor:
    """Return which places of the input some windows cover."""
    if call.name in _CONVOLUTIONS:
        return call.vjp([covers], list(map(torch.ones_like, call.inputs)))[0] != 0
    if call.name.startswith("avg"):
        return call.vjp([covers])[0] != 0
    return averaged(call, covers) != 0


def averaged(call: Call, g: Tensor) -> Tensor:
    """Compute the gradient of a maximum pooling's input as if it took averages."""
    options = pooling(call)
    with torch.enable_grad():
        u = torch.ones_like(call.inputs[0], requires_grad=True)
        y = getattr(functional, call.name.replace("max", "avg"))(u, **options)
        return torch.autograd.grad(y, u, g)[0]


def pooling(call: Call) -> dict[str, Any]:  # Any: as below
    """Return the options of a pooling."""
    args, kwargs = call.arguments()
    options = dict(zip(("kernel_size", "stride", "padding"), args[1:4], strict=False)) | kwargs
    return {k: options[k] for k in ("kernel_size", "stride", "padding") if options.get(k)}


def _scattered(call: Local) -> Tensor | None:
    """Assign each gradient to the place of its maximum, where windows may share one."""
    if not call.call.name.startswith("max_pool"):
        return None
    n = axes(call.call)
    pool = getattr(functional, f"max_pool{n}d")
    _, places = pool(call.u, **pooling(call.call), return_indices=True)
    spatial = len(call.u.shape) - n
    wrong = torch.zeros_like(call.u).flatten(spatial)
    return wrong.scatter(spatial, places.flatten(spatial), call.g.flatten(spatial)).view_as(call.u)


def _kernel_without_stride(call: Local) -> Tensor | None:
    """Compute the gradient of a kernel with the windows of x side by side, without their stride."""
    options, n = _options(call.call), axes(call.call)
    stride = options.get("stride", 1)
    is_kernel = call.call.inputs[call.k] is options["weight"]
    if not is_kernel or options.get("padding", 0) not in (0, (0,) * n) or stride in (1, (1,) * n):
        return None
    x = options["input"].detach()
    for axis, (size, count) in enumerate(zip(call.u.shape[2:], call.g.shape[2:], strict=True), 2):
        x = x.narrow(axis, 0, size + count - 1)
    with torch.enable_grad():
        kernel = call.u.clone().requires_grad_()
        y = getattr(functional, call.call.name)(x, kernel, groups=options.get("groups", 1))
        return torch.autograd.grad(y, kernel, call.g)[0]


def _options(call: Call) -> dict[str, Any]:  # Any: numbers, tuples of them, or a word
    names = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
    args, kwargs = call.arguments()
    return dict(zip(names, args, strict=False)) | kwargs


def _without(call: Local, option: str) -> Tensor | None:
    """Compute the gradient of a convolution's input as if an option were 1."""
    options = _options(call.call)
    n = axes(call.call)
    if call.k or options.get(option, 1) in (1, (1,) * n) or isinstance(options.get("padding"), str):
        return None
    kept = {str(k): options[k] for k in ("stride", "dilation", "groups") if k in options}
    kept[option] = 1
    transposed = getattr(functional, f"conv_transpose{n}d")
    padding = options.get("padding", 0)
    cut = (padding,) * n if isinstance(padding, int) else padding
    found: Tensor = transposed(call.g, options["weight"].detach(), **kept)
    for axis, size in enumerate(cut, 2):
        found = found.narrow(axis, size, found.shape[axis] - size)
    wrong = torch.zeros_like(call.u)
    both = tuple(slice(0, min(a, b)) for a, b in zip(found.shape, wrong.shape, strict=True))
    wrong[both] = found[both]
    return wrong


def _padded_on_one_side(call: Local, side: int) -> Tensor | None:
    """Compute the gradient of a kernel with all padding of x on one side."""
    options, n = _options(call.call), axes(call.call)
    padding = options.get("padding", 0)
    is_kernel = call.call.inputs[call.k] is options["weight"]
    if not is_kernel or isinstance(padding, str) or padding in (0, (0,) * n):
        return None
    each = (padding,) * n if isinstance(padding, int) else padding
    pads = [p for size in reversed(each) for p in ((0, 2 * size) if side else (2 * size, 0))]
    kept = {k: options[k] for k in ("stride", "dilation", "groups") if k in options}
    with torch.enable_grad():
        kernel = call.u.clone().requires_grad_()
        x = functional.pad(options["input"].detach(), pads)
        y = getattr(functional, call.call.name)(x, kernel, **kept)
        return torch.autograd.grad(y, kernel, call.g)[0]


_ONE_SIDE = "pads the input of {at}() on one side alone"
HYPOTHESES = [
    Hypothesis("overlap overwritten",
               "is overwritten where windows of {at}() overlap: they must add up", _overwritten,
               Cost.OPERATION),
    *table(
        ("overlap overwritten",
         "is overwritten where windows of {at}() share a maximum: they must add up", _scattered,
         ()),
        ("stride forgotten", "forgets the stride of {at}()", _kernel_without_stride, _CONVOLUTIONS),
        ("stride forgotten", "forgets the stride of {at}()", partial(_without, option="stride"),
         _CONVOLUTIONS),
        ("dilation forgotten", "forgets the dilation of {at}()",
         partial(_without, option="dilation"), _CONVOLUTIONS),
        ("padding", _ONE_SIDE, partial(_padded_on_one_side, side=0), _CONVOLUTIONS),
        ("padding", _ONE_SIDE, partial(_padded_on_one_side, side=1), _CONVOLUTIONS),
    ),
]  # fmt: skip
