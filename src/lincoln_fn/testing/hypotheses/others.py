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
from lincoln_fn.testing.evidence import Evidence
from lincoln_fn.testing.held import is_held
from lincoln_fn.testing.hypotheses.hypothesis import Cost, Guess, Hypothesis, guess_alone
from lincoln_fn.testing.hypotheses.symmetry import fits_another_forward
from lincoln_fn.testing.oracles import vjp

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
