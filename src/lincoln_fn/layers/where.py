"""Where: y is an element of a where a condition holds, and one of b elsewhere.

Derivation. With c_i = 1 where the condition holds, else 0,

    y_i = c_i a_i + (1 - c_i) b_i
    da_i = {(g_i, if c_i), (0, otherwise):}
    db_i = {(0, if c_i), (g_i, otherwise):}

The condition is no number, so it has no gradient. An element that is not selected gets exactly 0,
even where it is not finite.

Cache: the condition, and a stand-in of y's shape.
"""

from __future__ import annotations

from typing import TypeAlias

import torch
from jaxtyping import Bool
from torch import Tensor

from lincoln_fn.core import Elements, Layer, bare, constructor, record, stand_in, unexpected
from lincoln_fn.layers.common import inputs

Inputs: TypeAlias = tuple[Bool[Tensor, "*s"], Elements, Elements]
Gradients: TypeAlias = tuple[None, Elements, Elements]


@record
class Cache:
    condition: Bool[Tensor, "*s"]
    y: Elements


def forward(params: tuple[()], x: Inputs) -> tuple[Elements, Cache]:
    """Compute y_i = a_i where c_i, else b_i."""
    inputs.check_form("where", x, "(condition, a, b)")
    condition, a, b = x
    inputs.check_inputs("where", (a, b))
    if not isinstance(condition, Tensor) or condition.dtype is not torch.bool:
        got = getattr(condition, "dtype", type(condition).__name__)
        raise unexpected("where", "the condition to be a tensor of bools", got)
    inputs.check_one_shape("where", x)
    return torch.where(condition, a, b), Cache(condition, stand_in(a))


def backward(params: tuple[()], cache: Cache, g: Elements) -> tuple[Gradients, tuple[()]]:
    """Compute da_i = g_i where c_i, else 0; and db_i = g_i elsewhere."""
    return (None, torch.where(cache.condition, g, 0), torch.where(cache.condition, 0, g)), ()


@constructor(kind="moving", mask="position")
def where() -> Layer:
    """Select from two inputs by a condition: y = a where it holds, and b elsewhere.

    x is (condition, a, b), of one shape, which y has too. The condition is a tensor of bools. dx is
    (None, da, db).

    Example:
        >>> condition = torch.tensor([True, False])
        >>> where().predict((), (condition, torch.tensor([1.0, 2.0]), torch.tensor([8.0, 9.0])))
        tensor([1., 9.])
    """
    return bare(Layer, forward, backward)
