"""Draw the picture of the home page: forward and backward through a network, cache by cache.

Every number comes from the library's own functions. Each part of the picture has `data-step`, the
step at which it appears; `assets/flow.js` shows one step after the other. Without the script all
parts are visible.
"""

from __future__ import annotations

from html import escape
from typing import Final, NamedTuple

import torch
from torch import Tensor

import lincoln_fn as lf
from lincoln_fn.layers import dense

X: Final = torch.tensor([[1.0, 2.0]])
TARGET: Final = torch.tensor([[1.0]])
NET: Final = lf.serial(lf.dense(2), lf.sigmoid(), lf.dense(1))
LOSS: Final = lf.losses.mse()
PARAMS: Final = (
    dense.Params(torch.tensor([[0.5, -0.3], [0.2, 0.4]]), torch.tensor([0.1, -0.1])),
    (),
    dense.Params(torch.tensor([[1.0], [-1.5]]), torch.tensor([0.2])),
)
MINUS: Final = "\N{MINUS SIGN}"
WIDTH, ROW, TOP = 480, 96, 34
FORWARD: Final = (
    "dense(2) computes y = x W + b. Its cache is x.",
    "sigmoid() computes y = 1 / (1 + e⁻ˣ). Its cache is y.",
    "dense(1) computes the prediction. Its cache is its input.",
)
BACKWARD: Final = (
    "dense(2): dx = g Wᵀ and dW = xᵀ g, with the cached x.",
    "sigmoid(): dx = g y (1 - y), with the cached y.",
    "dense(1): dx = g Wᵀ and dW = xᵀ g, with its cache.",
)


class Flow(NamedTuple):
    """What goes in, between and out of the layers; by layer, first to last."""

    outputs: list[Tensor]
    caches: list[Tensor]
    value: Tensor
    gradients: list[Tensor]  # of each layer's input, and last of the prediction
    dparams: list[lf.layers.dense.Params | tuple[()]]


def run() -> Flow:
    """Run forward and backward, one layer at a time."""
    x, outputs, caches = X, [], []
    for layer, params in zip(NET.parts, PARAMS, strict=True):
        x, cache = layer.forward(params, x)
        outputs.append(x)
        caches.append(cache)
    value, loss_cache = LOSS.forward(x, TARGET)
    g = LOSS.backward(loss_cache)
    gradients, dparams = [g], []
    for layer, params, cache in reversed(list(zip(NET.parts, PARAMS, caches, strict=True))):
        g, of_params = layer.backward(params, cache, g)
        gradients.insert(0, g)
        dparams.insert(0, of_params)
    return Flow(outputs, caches, value, gradients, dparams)


def numbers(tensor: Tensor) -> str:
    """Write a tensor's numbers, as the picture shows them.

    Args:
        tensor: any.

    Returns:
        Such as "1.00, 2.00".
    """
    return ", ".join(f"{value:.2f}".replace("-", MINUS) for value in tensor.flatten().tolist())


def figure() -> str:
    """Draw the picture, with its captions and buttons."""
    flow, count = run(), len(NET.parts)
    parts = [_value(0, f"x = {numbers(X)}", _row(0) - 14)]
    for i, layer in enumerate(NET.parts):
        forward, backward, top = i + 1, 2 * count + 1 - i, _row(i)
        parts += [
            _box(f"{forward} {backward}", top),
            _text("name", 0, escape(layer.name), 95, top + 23),
            _arrow(forward, 60, top + 36, top + ROW - 28),
            _value(forward, f"y = {numbers(flow.outputs[i])}", top + ROW - 14),
            _text(
                "cache", f"{forward} {backward}", f"cache {numbers(flow.caches[i])}", 184, top + 13
            ),
            _arrow(backward, 460, top + ROW - 28, top + 4),
            _gradient(backward, f"dx = {numbers(flow.gradients[i])}", top - 14),
        ]
        if flow.dparams[i]:
            dw = f"dW = {numbers(flow.dparams[i].weight)}"
            parts.append(_text("gradient", backward, dw, 184, top + 33))
    foot = _row(count)
    parts += [
        _box(f"{count + 1}", foot),
        _text("name", 0, f"{LOSS.name} = {numbers(flow.value)}", 95, foot + 23),
        _gradient(count + 1, f"g = dL/dy = {numbers(flow.gradients[-1])}", foot - 14),
    ]
    height = foot + 44
    captions = [
        "An example goes in.",
        *FORWARD,
        f"{LOSS.name} gives the loss, and its gradient g.",
        *reversed(BACKWARD),
        "Every dW is there: a step of training can be taken.",
    ]
    label = "Forward and backward through dense(2), sigmoid(), dense(1) and mse(), with all numbers"
    buttons = "".join(
        f'<button type="button" data-flow="{does}" aria-label="{name}">{sign}</button>'
        for does, name, sign in (
            ("back", "one step back", "\N{SINGLE LEFT-POINTING ANGLE QUOTATION MARK}"),
            ("play", "play or pause", "❚❚"),
            ("next", "one step further", "\N{SINGLE RIGHT-POINTING ANGLE QUOTATION MARK}"),
        )
    )
    texts = "".join(f"<li>{caption}</li>" for caption in captions)
    return (
        f'<figure class="flow" data-search-exclude tabindex="0"'
        f' aria-label="{label}; arrow keys step, space plays">'
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{label}">'
        f"{''.join(parts)}</svg>"
        f'<div class="flow-controls" hidden>{buttons}<span></span></div>'
        f'<ol class="flow-captions">{texts}</ol></figure>'
    )


def _row(i: int) -> int:
    return TOP + i * ROW


def _box(steps: str, y: int) -> str:
    return f'<rect class="box" data-step="{steps}" x="20" y="{y}" width="150" height="36" rx="6"/>'


def _text(kind: str, step: int | str, text: str, x: int, y: int) -> str:
    return f'<text class="{kind}" data-step="{step}" x="{x}" y="{y}">{text}</text>'


def _value(step: int, text: str, y: int) -> str:
    return _text("value", step, text, 20, y)


def _gradient(step: int, text: str, y: int) -> str:
    return _text("gradient end", step, text, WIDTH - 10, y)


def _arrow(step: int, x: int, start: int, end: int) -> str:
    tip = 7 if end < start else -7
    kind = "back" if end < start else "there"
    return (
        f'<path class="{kind}" data-step="{step}" d="M{x} {start}V{end}'
        f'm-5 {tip}l5 {-tip}l5 {tip}"/>'
    )
