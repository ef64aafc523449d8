"""The right gradient of another function: another activation, another loss, another pooling."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from lincoln_fn import layers
from lincoln_fn.core import Key, keys
from lincoln_fn.testing.evidence import Evidence
from lincoln_fn.testing.held import is_held
from lincoln_fn.testing.hypotheses.hypothesis import Cost, Guess, Hypothesis, guess_alone
from lincoln_fn.testing.oracles import vjp
from lincoln_fn.testing.plain import first_not_linear

STEP = 1e-5


def fits_another_forward(evidence: Evidence) -> bool:
    """Return whether the submitted gradients are those of another function, no diagonal one.

    The second derivatives of a function are symmetric. So if backward is the gradient of any
    function s(x, params) = <g, y> at all, then for all directions a and b

        <b, D_a backward> = <a, D_b backward>

    with D_a the derivative along a, for fixed g. A mistake in backward breaks this as a rule. If it
    holds, backward is consistent and forward is another function than the one it was derived for.
    """
    sample = evidence.sample
    if any(a.shape != b.shape for a, b in evidence.pairs()):
        return False
    # The sums below are those of the large entries, and say nothing of a mistake in small ones.
    if not any(_is_seen(a - b, b) for a, b in evidence.pairs()):
        return False
    if first_not_linear(sample, Key(8)) is not None:
        return False
    told = False
    for n in range(3):
        a, b = (_draw_direction(evidence, Key(7).fold_in(2 * n + m)) for m in (0, 1))
        try:
            along_a, along_b = _differentiate(evidence, a), _differentiate(evidence, b)
        except Exception:  # a submission may fail elsewhere, in any way
            return False
        first = _multiply(b, along_a)
        scale = _multiply([v.abs() for v in b], [v.abs() for v in along_a])
        if not abs(first - _multiply(a, along_b)) <= 1e-4 * scale:
            return False
        told = told or scale > 1e-6 * _multiply(
            [v.abs() for v in b], [v.abs() for v in sample.given]
        )
    return told and not _is_diagonal(evidence)


def _is_seen(error: Tensor, right: Tensor) -> bool:
    return bool(error.numel()) and bool(error.abs().max() > 1e-3 * right.abs().max())


def _draw_direction(evidence: Evidence, key: Key) -> list[Tensor]:
    arrays = enumerate(evidence.sample.arrays)
    return [
        keys.normal(key.fold_in(i).near(array), tuple(array.shape), dtype=array.dtype)
        for i, array in arrays
    ]


def _differentiate(evidence: Evidence, direction: list[Tensor]) -> list[Tensor]:
    """Compute D_a backward, by central differences."""
    sample = evidence.sample
    pairs = list(zip(sample.arrays, direction, strict=True))
    up = sample.at([array + STEP * d for array, d in pairs]).given
    down = sample.at([array - STEP * d for array, d in pairs]).given
    return [(a - b) / (2 * STEP) for a, b in zip(up, down, strict=True)]


def _is_diagonal(evidence: Evidence) -> bool:
    """Return whether a change at every second place leaves the gradient at the others as it is."""
    halves = []
    for array in evidence.sample.arrays:
        half = torch.zeros_like(array).flatten()
        half[::2] = 1
        halves.append(half.view(array.shape))
    changes = _differentiate(evidence, halves)
    outside = [c * (1 - half) for c, half in zip(changes, halves, strict=True)]
    return len(halves) == 1 and all(float(c.abs().max()) < 1e-8 for c in outside if c.numel())


def _multiply(a: list[Tensor], b: list[Tensor]) -> float:
    return sum(float((p * q).sum()) for p, q in zip(a, b, strict=True))


ACTIVATIONS = (
    "sigmoid", "tanh", "relu", "softmax", "log_softmax", "softmin", "log_sigmoid", "leaky_relu",
    "relu6", "elu", "selu", "celu", "gelu", "silu", "mish", "softplus", "softsign", "tanhshrink",
    "hardtanh", "hardswish", "hardsigmoid", "hardshrink", "softshrink",
)  # fmt: skip
_POINTWISE: dict[str, Callable[[Tensor], Tensor]] = {
    "sin x": torch.sin, "cos x": torch.cos, "x^2": torch.square, "e^x": torch.exp,
    "log x": torch.log, "sqrt(x)": torch.sqrt, "|x|": torch.abs, "1/x": torch.reciprocal,
    "x^3": lambda x: x**3, "x": torch.clone,
    'gelu(approximate="tanh")': lambda x: functional.gelu(x, approximate="tanh"),
    "x sigmoid(1.702 x)": lambda x: x * torch.sigmoid(1.702 * x),
}  # fmt: skip


@cache
def list_functions() -> dict[str, Callable[[Tensor], Tensor]]:
    """List activations and other functions of one number, by name."""
    made = {}
    for name in ACTIVATIONS:
        layer = getattr(getattr(layers, name), name)()
        made[layer.name] = lambda x, layer=layer: layer.forward((), x)[0]
    return made | _POINTWISE


def _take_another(evidence: Evidence) -> Iterator[Guess]:
    """Take the gradient of every activation of the library, at x and with g."""
    for name, function in list_functions().items() if len(evidence.g) == 1 else ():
        (g,) = evidence.g
        found = [
            vjp(function, array, g) if array.shape == g.shape else None
            for array in evidence.sample.arrays
        ]
        # A function that is x at these numbers tells nothing.
        is_x = [d is not None and name != "x" and torch.equal(d, g) for d in found]
        guesses = [None if x else d for d, x in zip(found, is_x, strict=True)]
        yield Guess([*guesses], {"other": name})


def _fill_windows(evidence: Evidence) -> Iterator[Guess]:
    """Send the gradient of a maximum of a window to the whole window."""
    size: Any = evidence.option("kernel_size")  # Any: a tuple, if it is that of a pooling
    x, n = evidence.x, len(size) if isinstance(size, tuple) else 0
    is_maximum = "max" in evidence.sample.layer.name
    if not is_maximum or not 1 <= n <= 3 or len(x) != 1 or not evidence.g:
        return
    options = {key: evidence.option(key) for key in ("stride", "padding") if evidence.option(key)}
    options["ceil_mode"] = bool(evidence.option("ceil_mode"))
    for how, count in (("to every element of a window", math.prod(size)),
                       ("evenly over a window", 1)):  # fmt: skip
        try:
            average = partial(getattr(functional, f"avg_pool{n}d"), kernel_size=size, **options)
            found = vjp(average, x[0], evidence.g[0]) * count
        except (RuntimeError, TypeError):  # the window may have other options
            continue
        yield guess_alone(evidence, len(evidence.expected) - 1, found, how=how)


def _take_another_forward(evidence: Evidence) -> Iterator[Guess]:
    # A reference that agrees with forward says what forward is.
    if not is_held(evidence.sample) and fits_another_forward(evidence):
        yield Guess([*evidence.given])


HYPOTHESES = [
    Hypothesis("sent everywhere", "goes {how}, where it should go to the largest element alone",
               _fill_windows, Cost.SHAPE),
    Hypothesis("another function", "is the gradient of another forward: of {other}", _take_another,
               Cost.ANOTHER),
]  # fmt: skip
# What fits any forward at all is the last thing to be said.
LAST = [
    Hypothesis("another forward", "is right for another forward: the gradients fit each other, "
               "but not this forward", _take_another_forward, Cost.FITTED),
]  # fmt: skip
