"""Losses for labels y that are 1 or -1: of one score, or of two that are ranked.

A hinge max(0, z) has slope 1 where z > 0 and, as torch has it for the losses here, at z = 0 too.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from lincoln_fn.losses.labels import signs
from lincoln_fn.losses.loss import Loss, Reduction, reduced
from lincoln_fn.shapes import LayerError


def hinge_embedding(*, margin: float = 1.0, reduction: Reduction = "mean") -> Loss:
    """Make the hinge loss on distances x: near where y = 1, at least the margin where y = -1.

    l = x where y = 1, and max(0, margin - x) where y = -1.

    Derivation. dl/dx is 1 where y = 1; where y = -1 it is -1 up to the margin and 0 beyond.

    Args:
        margin: the distance that costs nothing.
        reduction: "mean" over the elements, "sum" of them, or "none".

    Returns:
        The loss, on x of any shape and labels of its shape.

    Raises:
        ValueError: if there is no such reduction.

    Example:
        >>> loss = hinge_embedding(reduction="sum")
        >>> value, cache = loss.forward(torch.tensor([0.25, 0.25]), torch.tensor([1, -1]))
        >>> value, loss.backward(cache)
        (tensor(1.), tensor([ 1., -1.]))
    """

    def values(x: Tensor, target: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        y = signs("hinge_embedding", target, tuple(x.shape), x)
        z = margin - x
        return torch.where(y > 0, x, z.clamp(min=0)), (y, z)

    def slope(kept: tuple[Tensor, Tensor], dl: Tensor | float) -> Tensor:
        y, z = kept
        return y * ((y > 0) | (z >= 0)) * dl

    return reduced("hinge_embedding", reduction, values, slope, margin=(margin, 1.0))


def soft_margin(*, reduction: Reduction = "mean") -> Loss:
    """Make the logistic loss on logits x, for labels 1 and -1.

    l = log(1 + exp(-y x)) = -log s(y x), where s is the sigmoid.

    Derivation. d log s(u)/du = s(-u), so

        dl/dx = -y s(-y x).

    It is finite for every x; torch's grows to infinity, with a gradient of nan, from y x = -89 on.

    Args:
        reduction: "mean" over the elements, "sum" of them, or "none".

    Returns:
        The loss, on x of any shape and labels of its shape.

    Raises:
        ValueError: if there is no such reduction.

    Example:
        >>> loss = soft_margin(reduction="sum")
        >>> value, cache = loss.forward(torch.tensor([0.0, 1e4]), torch.tensor([1, -1]))
        >>> value, loss.backward(cache)
        (tensor(10000.6934), tensor([-0.5000,  1.0000]))
    """

    def values(x: Tensor, target: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        y = signs("soft_margin", target, tuple(x.shape), x)
        return -logsigmoid(y * x), (x, y)

    def slope(kept: tuple[Tensor, Tensor], dl: Tensor | float) -> Tensor:
        x, y = kept
        return -y * torch.sigmoid(-y * x) * dl

    return reduced("soft_margin", reduction, values, slope)


def margin_ranking(*, margin: float = 0.0, reduction: Reduction = "mean") -> Loss:
    """Make the ranking loss of two scores: x1 above x2 where y = 1, below it where y = -1.

    l = max(0, z), z = margin - y (x1 - x2).

    Derivation. Where z >= 0, dl/dx1 = -y and dl/dx2 = y; elsewhere both are 0.

    Args:
        margin: how far apart the scores should be.
        reduction: "mean" over the elements, "sum" of them, or "none".

    Returns:
        The loss, on (x1, x2) of one shape and labels of that shape.

    Raises:
        ValueError: if there is no such reduction.

    Example:
        >>> loss, x1, x2 = margin_ranking(margin=0.5), torch.tensor([1.0]), torch.tensor([3.0])
        >>> value, cache = loss.forward((x1, x2), torch.tensor([1]))
        >>> value, loss.backward(cache)
        (tensor(2.5000), (tensor([-1.]), tensor([1.])))
    """

    def values(x: tuple[Tensor, Tensor], target: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        x1, x2 = x
        if x1.shape != x2.shape:
            shapes = f"x1's shape {tuple(x1.shape)}, got {tuple(x2.shape)}"
            raise LayerError("margin_ranking", f"expected x2 of {shapes}")
        y = signs("margin_ranking", target, tuple(x1.shape), x1)
        z = margin - y * (x1 - x2)
        return z.clamp(min=0), (y, z)

    def slope(kept: tuple[Tensor, Tensor], dl: Tensor | float) -> tuple[Tensor, Tensor]:
        y, z = kept
        dx2 = y * (z >= 0) * dl
        return -dx2, dx2

    return reduced(
        "margin_ranking", reduction, values, slope, inputs=("x1", "x2"), margin=(margin, 0.0)
    )
