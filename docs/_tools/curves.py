"""Draw an activation and its derivative, computed by the layer's own functions, as SVG."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Final

import torch

import lincoln_fn as lf

WIDTH, HEIGHT, MARGIN = 480, 270, 24
REACH: Final = 5.0  # x goes from -REACH to REACH
POINTS: Final = 1001
JUMP: Final = 0.1  # a larger difference between neighbours is a jump, and no line is drawn


def picture(name: str) -> str:
    """Draw a layer that has no arguments to be given and works element by element.

    Args:
        name: the constructor's.

    Returns:
        SVG, with colours from the style sheet; nothing if the layer is another one.
    """
    make = getattr(lf, name)
    parameters = inspect.signature(make).parameters.values()
    if any(p.default is p.empty and p.kind is not p.VAR_POSITIONAL for p in parameters):
        return ""
    layer, x = make(), torch.linspace(-REACH, REACH, POINTS, dtype=torch.float64)
    try:
        params = layer.init(lf.Key(0), x)
        y, cache = layer.forward(params, x)
        alone = torch.cat([layer.forward(params, one)[0] for one in x[::100].split(1)])
    except lf.LayerError:
        return ""
    if y.shape != x.shape or not torch.equal(alone, y[::100]):
        return ""
    return _svg(
        name, x.tolist(), y.tolist(), layer.input_grad(params, cache, torch.ones_like(y)).tolist()
    )


def _svg(name: str, xs: list[float], ys: list[float], slopes: list[float]) -> str:
    low, high = min(0.0, *ys, *slopes), max(1.0, *ys, *slopes)
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
    for kind, values in (("slope", slopes), ("value", ys)):
        lines = " ".join(
            "M" + "L".join(f"{x} {y}" for x, y in (place(*point) for point in run))
            for run in _unbroken(xs, values)
        )
        parts.append(f'<path class="{kind}" d="{lines}"/>')
    parts.append(f'<text class="value" x="{MARGIN}" y="12">y</text>')
    parts.append(f'<text class="slope" x="{MARGIN + 16}" y="12">dy/dx</text>')
    return "".join([*parts, "</svg>"])


def _marks(low: float, high: float) -> list[float]:
    step = 1.0 if high - low < 4 else 2.0
    return [
        step * i for i in range(int(low // step), int(high // step) + 1) if i and low <= step * i
    ]


def _unbroken(xs: list[float], values: list[float]) -> Iterator[list[tuple[float, float]]]:
    run: list[tuple[float, float]] = []
    for point in zip(xs, values, strict=True):
        if run and abs(point[1] - run[-1][1]) > JUMP:
            yield run
            run = []
        run.append(point)
    yield run
