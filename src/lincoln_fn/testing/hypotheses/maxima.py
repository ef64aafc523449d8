"""Max pooling of images: the wrong window, the wrong place in it, or a mask that overlaps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from types import EllipsisType
from typing import TypeAlias

import attrs
import torch
from torch import Tensor

from lincoln_fn.testing.evidence import Evidence
from lincoln_fn.testing.hypotheses.hypothesis import Cost, Guess, Hypothesis
from lincoln_fn.testing.hypotheses.local import list_groups
from lincoln_fn.testing.hypotheses.windows import MOST_WINDOWS, read_pooling

Pair: TypeAlias = tuple[int, int]


@attrs.frozen(eq=False)
class Pooled:
    """A max pooling of images, and the gradient of its output."""

    x: Tensor
    g: Tensor
    kernel: Pair
    stride: Pair


def _largest(of: Pooled, kernel: Pair) -> Tensor:
    """Return the place of the largest number of each window, counted along its rows."""
    high, wide = of.g.shape[-2:]
    reach = [(n - 1) * s + k for n, s, k in zip((high, wide), of.stride, kernel, strict=True)]
    more = [max(0, r - size) for r, size in zip(reach, of.x.shape[-2:], strict=True)]
    padded = torch.nn.functional.pad(of.x, (0, more[1], 0, more[0]), value=-torch.inf)
    windows = padded.unfold(-2, kernel[0], of.stride[0]).unfold(-2, kernel[1], of.stride[1])
    return windows[..., :high, :wide, :, :].flatten(-2).argmax(-1)


def _place(of: Pooled, rows: Tensor, columns: Tensor, steps: Pair) -> Tensor:
    """Add each gradient at a place of its window; what falls outside is lost."""
    high, wide = of.x.shape[-2:]
    i = torch.arange(rows.shape[-2]).view(-1, 1) * steps[0] + rows
    j = torch.arange(rows.shape[-1]) * steps[1] + columns
    inside = (i < high) & (j < wide)
    flat = (i.clamp_max(high - 1) * wide + j.clamp_max(wide - 1)).flatten(-2)
    wrong = torch.zeros_like(of.x).flatten(-2)
    return wrong.scatter_add(-1, flat, (of.g * inside).flatten(-2)).view_as(of.x)


def _decode(of: Pooled, *, by: int, turned: bool = False) -> Tensor:
    found = _largest(of, of.kernel)
    rows, columns = found // by, found % by
    return _place(of, *((columns, rows) if turned else (rows, columns)), of.stride)


def _divide(of: Pooled) -> Tensor:
    found = _largest(of, of.kernel)
    columns = found % of.kernel[1]
    return _place(of, (found - columns) // of.kernel[0], columns, of.stride)


def _resize(of: Pooled, kernel: Pair) -> Tensor:
    found = _largest(of, kernel)
    return _place(of, found // kernel[1], found % kernel[1], of.stride)


def _mask(of: Pooled) -> Tensor | None:
    """Keep the maxima in a mask of the image's shape, in which each window overwrites others."""
    windows = [_window(of, i, j) for i, j in product(*map(range, of.g.shape[-2:]))]
    if len(windows) > MOST_WINDOWS:
        return None
    mask, dx = torch.zeros_like(of.x), torch.zeros_like(of.x)
    for window in windows:
        largest = of.x[window].amax((-2, -1), keepdim=True)
        mask[window] = (of.x[window] == largest).to(of.x.dtype)
    for window, g in zip(windows, of.g.flatten(-2).unbind(-1), strict=True):
        dx[window] += mask[window] * g[..., None, None]
    return dx


def _window(of: Pooled, i: int, j: int) -> tuple[EllipsisType, slice, slice]:
    rows, columns = (
        slice(n * s, n * s + k) for n, s, k in zip((i, j), of.stride, of.kernel, strict=True)
    )
    return ..., rows, columns


Wrong: TypeAlias = Callable[[Pooled], Tensor | None]
MISTAKES: tuple[tuple[str, str, Wrong], ...] = (
    ("window of the stride", "takes windows of the size of the stride, not of the kernel",
     lambda of: _resize(of, of.stride)),
    ("height for width", "finds the row and column of the largest element by the window's height, "
     "where its width belongs", lambda of: _decode(of, by=of.kernel[0])),
    ("height for width", "divides the place of the largest element by the window's height, where "
     "its width belongs", lambda of: _divide(of)),
    ("row for column", "exchanges row and column of the largest element",
     lambda of: _decode(of, by=of.kernel[1], turned=True)),
    ("mask overwritten", "keeps the maxima in one mask, where overlapping windows overwrite each "
     "other's maxima", _mask),
)  # fmt: skip


def _of(wrong: Wrong) -> Callable[[Evidence], Iterator[Guess]]:
    def candidates(evidence: Evidence) -> Iterator[Guess]:
        for tape, calls, at in list_groups(evidence):
            call = calls[0]
            if at != "max_pool2d" or len(calls) > 1 or call.inputs[0].ndim != 4:
                continue
            options = read_pooling(call)
            kernel = _pair(options["kernel_size"])
            if options.get("padding") and any(_pair(options["padding"])):
                continue
            (g,) = tape.arrived(call)
            x = call.inputs[0].detach()
            of = Pooled(x, g, kernel, _pair(options.get("stride", kernel)))
            found = wrong(of)
            if found is not None:
                error = found - call.vjp([g])[0]
                yield Guess([*tape.gradients_with([call.inputs[0]], [error])], {"at": at})

    return candidates


def _pair(value: int | tuple[int, ...]) -> Pair:
    return (value, value) if isinstance(value, int) else (value[0], value[-1])


HYPOTHESES = [Hypothesis(name, said, _of(wrong), Cost.OPERATION) for name, said, wrong in MISTAKES]
