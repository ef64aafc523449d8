"""Draw an activation and its derivative, computed by the layer's own functions, as SVG."""

from __future__ import annotations

import inspect
from itertools import pairwise
from typing import Final

import torch

import lincoln_fn as lf
from lincoln_fn.plots.derivatives import is_random, jumps, slopes

WIDTH, HEIGHT, MARGIN = 480, 270, 24
REACH: Final = 5.0  # x goes from -REACH to REACH
POINTS: Final = 1001
# The arguments of an activation that has no defaults.
ARGUMENTS: Final = {"scale": (0.5,), "softcap": (1.0,), "threshold": (1.0, 0.25)}


def picture(name: str) -> str:
    """Draw a layer that works element by element.

    Args:
        name: the constructor's.

    Returns:
        SVG, with colours from the style sheet; nothing if the layer is another one.
    """
    make = getattr(lf, name)
    parameters = inspect.signature(make).parameters.values()
    required = [p for p in parameters if p.default is p.empty and p.kind is not p.VAR_POSITIONAL]
    if required and name not in ARGUMENTS:
        return ""
    layer = make(*ARGUMENTS.get(name, ()))
    x = torch.linspace(-REACH, REACH, POINTS, dtype=torch.float64)
    try:
        params = layer.init(lf.Key(0), x)
        y, slope = slopes(layer, params, x)
    except (lf.LayerError, ValueError):
        return ""
    # The numbers of a random layer are points: each has its own random number.
    shown = slice(None, None, 4 if is_random(params) else 1)
    return _svg(
        layer.name, *(values[shown].tolist() for values in (x, y, slope)), points=is_random(params)
    )


def _svg(name: str, xs: list[float], ys: list[float], slope: list[float], *, points: bool) -> str:
    low, high = min(0.0, *ys, *slope), max(1.0, *ys, *slope)
    across = (WIDTH - 2 * MARGIN) / (2 * REACH)
    up = (HEIGHT - 2 * MARGIN) / (high - low)

    def place(x: float, y: float) -> tuple[float, float]:
        return round(MARGIN + (x + REACH) * across, 1), round(HEIGHT - MARGIN - (y - low) * up, 1)

    left, ground = place(-REACH, 0.0)
    middle, top = place(0.0, high)
    parts = [
        f'<svg class="curves" viewBox="0 0 {WIDTH} {HEIGHT}" role="img"'
        f' aria-label="{name}: y and dy/dx from x = {-REACH:g} to {REACH:g}">',
        f'<path class="axis" d="M{left} {ground}H{WIDTH - MARGIN}"/>',
        f'<path class="axis" d="M{middle} {HEIGHT - MARGIN}V{top}"/>',
    ]
    for x in (-4, -2, 2, 4):
        at, _ = place(x, 0.0)
        parts.append(f'<text x="{at}" y="{ground + 14}" text-anchor="middle">{x}</text>')
    for y in _marks(low, high):
        _, at = place(0.0, y)
        parts.append(f'<text x="{middle - 6}" y="{at + 4}" text-anchor="end">{y:g}</text>')
    runs, look = (_alone, " points") if points else (_unbroken, "")
    for kind, values in (("slope", slope), ("value", ys)):
        lines = " ".join(
            "M" + "L".join(f"{x} {y}" for x, y in (place(*point) for point in run))
            for run in runs(xs, values)
        )
        parts.append(f'<path class="{kind}{look}" d="{lines}"/>')
    parts.append(f'<text class="value" x="{MARGIN}" y="12">y</text>')
    parts.append(f'<text class="slope" x="{MARGIN + 16}" y="12">dy/dx</text>')
    return "".join([*parts, "</svg>"])


def _marks(low: float, high: float) -> list[float]:
    step = 1.0 if high - low < 4 else 2.0
    return [
        step * i for i in range(int(low // step), int(high // step) + 1) if i and low <= step * i
    ]


def _alone(xs: list[float], values: list[float]) -> list[list[tuple[float, float]]]:
    """Make a line of no length of each point: its round ends are a dot."""
    return [[point, point] for point in zip(xs, values, strict=True)]


def _unbroken(xs: list[float], values: list[float]) -> list[list[tuple[float, float]]]:
    points = list(zip(xs, values, strict=True))
    ends = [0, *jumps(torch.tensor(values)), len(points)]
    return [points[first:last] for first, last in pairwise(ends)]
