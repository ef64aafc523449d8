"""Params, caches and other trees of records and tensors, as tables that fold.

A row shows the distribution of a tensor's numbers. Smallest and largest number and what is not
finite are those of the whole tensor, by one pass over it. The bars of the histogram and the mean
are those of at most 10,000 numbers from all over it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Final

import attrs
import torch
from jaxtyping import Shaped
from torch import Tensor

from lincoln_fn.core import format_briefly, html, is_record, tree
from lincoln_fn.notebook.markup import Markup, element, fade, fold, picture, table, wrap

# So few numbers are written, in place of a histogram.
_WRITTEN: Final = 4
# A tree of more tensors is folded below its first level.
_OPEN: Final = 12
_SAMPLE: Final = 10_000
_GOLDEN_RATIO: Final = (1 + math.sqrt(5)) / 2
_BARS: Final = 24
_WIDTH, _HEIGHT = 96, 18


def tree_html(value: tree.Tree, name: str = "", *, is_open: bool | None = None) -> Markup:
    """Show a tree: each record, tuple or dict folds, and its tensors are rows of a table."""
    if is_open is None:
        is_open = len(tree.leaves(value, states=True)) <= _OPEN
    if not _has_parts(value):
        return table((), [_row(name, value)], left=6)
    return _node(name, value, is_open, outermost=True)


def _node(name: str, value: tree.Tree, is_open: bool, *, outermost: bool = False) -> Markup:
    inside = []
    for is_folded, parts in groupby(_parts(value), key=lambda part: _has_parts(part[1])):
        if is_folded:
            inside += [_node(key, part, is_open) for key, part in parts]
        else:
            inside.append(table((), [_row(key, part) for key, part in parts], left=6))
    title = f"{name} " if name else "", element("b", _kind(value)), " ", fade(_size(value))
    return fold(element("span", *title), *inside, is_open=is_open or outermost)


@html.register(object)
def record_html(value: object) -> Markup:
    """Show a record, or any other value."""
    return wrap(tree_html(value))


def _has_parts(value: object) -> bool:
    return is_record(type(value)) or (isinstance(value, tuple | list | Mapping) and len(value) > 0)


def _parts(value: tree.Tree) -> Iterator[tuple[str, tree.Tree]]:
    if is_record(type(value)):
        yield from ((field.name, getattr(value, field.name)) for field in attrs.fields(type(value)))
    elif isinstance(value, Mapping):
        yield from ((str(key), entry) for key, entry in value.items())
    else:
        yield from ((str(i), entry) for i, entry in enumerate(value))


def _kind(value: object) -> str:
    """Name a record by its layer, too: all layers' are called Params or Cache."""
    kind = type(value)
    module = kind.__module__.rpartition(".")[2]
    in_layer = kind.__name__ in ("Params", "Cache") and module != "__main__"
    return f"{module}.{kind.__name__}" if in_layer else kind.__name__


def _size(value: tree.Tree) -> str:
    tensors = [leaf for leaf in tree.leaves(value, states=True) if isinstance(leaf, Tensor)]
    numbers = sum(leaf.numel() for leaf in tensors)
    tensor_s, number_s = ("" if n == 1 else "s" for n in (len(tensors), numbers))
    return f"{len(tensors):,} tensor{tensor_s}, {numbers:,} number{number_s}" if tensors else ""


def _row(name: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, Tensor):
        return name, format_briefly(value), "", "", "", ""
    return name, *tensor_cells(value)


def tensor_cells(tensor: Shaped[Tensor, "*s"]) -> tuple[str, str, str, str, str]:
    """Make the cells of a tensor: dtype and shape, histogram, range, mean, what is not finite."""
    measured = distribution(tensor) if tensor.ndim else None
    if measured is None:
        return format_briefly(tensor), "", "", "", ""
    lost = warning(measured)
    if tensor.numel() <= _WRITTEN:
        shown = " ".join(f"{number:.4g}" for number in tensor.detach().flatten().tolist())
    else:
        shown = histogram(measured) if measured.shares else ""
    if not measured.shares:
        return format_briefly(tensor), shown, "", "", lost
    span = f"{measured.low:.4g} … {measured.high:.4g}"
    return format_briefly(tensor), shown, span, f"mean {measured.mean:.4g}", lost


def warning(measured: Distribution) -> Markup:
    """Say how many numbers are not finite, or "" if all are."""
    counts = ((measured.nans, "nan"), (measured.infinities, "inf"))
    text = ", ".join(f"{count:,} {name}" for count, name in counts if count)
    return element("b", text) if text else Markup("")


@attrs.frozen
class Distribution:
    """The distribution of the finite numbers of a tensor, and the count of the others."""

    low: float  # the smallest; `nan` if no number is finite, like high and mean
    high: float
    mean: float  # of the sample
    # of the sample, the share of each bar; the bars divide the range from low to high
    shares: tuple[float, ...]
    nans: int = 0
    infinities: int = 0


def distribution(tensor: Shaped[Tensor, "*s"]) -> Distribution | None:
    """Measure the distribution of a tensor's numbers; None if it has none, or torch traces."""
    if tensor.is_complex():
        return None
    try:
        with torch.no_grad():
            return _measure(tensor.detach())
    except RuntimeError:  # torch.aminmax, or float() of what it returns
        return None


def _measure(tensor: Shaped[Tensor, "*s"]) -> Distribution:
    lost = 0, 0
    low, high = _range(tensor)
    if not (math.isfinite(low) and math.isfinite(high)):
        lost = int(tensor.isnan().sum()), int(tensor.isinf().sum())
        if sum(lost) == tensor.numel():
            return Distribution(math.nan, math.nan, math.nan, (), *lost)
        low, high = _range(tensor[torch.isfinite(tensor)])
    sample = _sample(tensor)
    sample = sample[torch.isfinite(sample)]
    if not len(sample):
        return Distribution(low, high, math.nan, (), *lost)
    shares = torch.histc(sample, _BARS, low, high) / len(sample)
    return Distribution(low, high, sample.mean().item(), tuple(shares.tolist()), *lost)


def _range(tensor: Shaped[Tensor, "*s"]) -> tuple[float, float]:
    low, high = torch.aminmax(tensor)
    return float(low), float(high)


def _sample(tensor: Shaped[Tensor, "*s"]) -> Shaped[Tensor, " n"]:
    if tensor.numel() > _SAMPLE:
        # By index, since flattening would copy a tensor that is not contiguous. Multiples of the
        # golden ratio modulo 1: equal steps could meet one column of a matrix only.
        spread = torch.arange(_SAMPLE, dtype=torch.float64) * _GOLDEN_RATIO % 1
        places = (spread * tensor.numel()).long()
        tensor = tensor[torch.unravel_index(places.to(tensor.device), tensor.shape)]
    return tensor.flatten().double().cpu()


def histogram(measured: Distribution) -> Markup:
    """Draw a histogram as a line of text is high; the largest bar has the full height."""
    highest, width = max(measured.shares, default=1.0), _WIDTH / _BARS
    bars = "".join(
        # A bar of a small share stays visible.
        f"M{i * width:g} {_HEIGHT}v-{max(1.0, _HEIGHT * share / highest):.3g}h{width:g}V{_HEIGHT}z"
        for i, share in enumerate(measured.shares)
        if share
    )
    label = f"from {measured.low:.4g} to {measured.high:.4g}, mean {measured.mean:.4g}"
    return picture(
        label,
        _WIDTH,
        _HEIGHT,
        element("path", d=bars, fill="currentColor", opacity=0.7),
        element("path", d=f"M0 {_HEIGHT}h{_WIDTH}", stroke="currentColor", opacity=0.4),
        style="vertical-align:middle",
    )
