"""The distribution of a tensor's numbers, and its histogram.

Smallest and largest number and what is not finite are those of the whole tensor, by one pass over
it. The bars and the mean are those of at most 10,000 numbers from all over it.
"""

from __future__ import annotations

import math
from typing import Final

import attrs
import torch
from jaxtyping import Shaped
from torch import Tensor

from lincoln_fn.notebook.markup import Markup, element, picture

_SAMPLE: Final = 10_000
_GOLDEN_RATIO: Final = (1 + math.sqrt(5)) / 2
_BARS: Final = 24
_WIDTH, _HEIGHT = 96, 18


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
    nans = infinities = 0
    low, high = _range(tensor)
    if not (math.isfinite(low) and math.isfinite(high)):
        nans, infinities = (int(f(tensor).sum()) for f in (torch.isnan, torch.isinf))
        if nans + infinities == tensor.numel():
            return Distribution(math.nan, math.nan, math.nan, (), nans, infinities)
        low, high = _range(tensor[torch.isfinite(tensor)])
    sample = _sample(tensor)
    sample = sample[torch.isfinite(sample)]
    if not len(sample):
        return Distribution(low, high, math.nan, (), nans, infinities)
    within = (sample - low) / (high - low) if high > low else torch.full_like(sample, 0.5)
    bars = (within * _BARS).long().clamp(0, _BARS - 1)
    shares = torch.bincount(bars, minlength=_BARS).double() / len(sample)
    mean = sample.mean().item()
    return Distribution(low, high, mean, tuple(shares.tolist()), nans, infinities)


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
