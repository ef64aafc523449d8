"""Rprop: steps that take only their sign from the gradient, for full batches.

Each element has its own step size. It grows where dp keeps its sign. Where dp changes its sign, the
size shrinks, and dp counts as 0:

    size <- etas[1] size             if dp last > 0
    size <- etas[0] size, dp <- 0    if dp last < 0
    p <- p - size sign(dp)
    last <- dp
"""

from __future__ import annotations

from typing import Annotated, Final

import torch
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import OR_INFINITE, NonNegative, Params, Positive, Shown, record, require
from lincoln_fn.optim.leafwise import At, Row, Rules, leafwise
from lincoln_fn.optim.optimizer import Optimizer

NO_ADJOINT: Final = "it takes only the sign of the gradient, whose derivative is 0 or none"


@record
class RpropState:
    """The last gradient, and the size of the next step of each element."""

    last: Params
    size: Params


def rules(at: At, *, etas: tuple[float, float], step_sizes: tuple[float, float]) -> Rules:
    """Compute p <- p - size sign(dp), after size has grown or shrunk."""
    shrinking, growing = etas

    def rule(p: Tensor, dp: Tensor, last: Tensor, size: Tensor) -> Row:
        turn = dp * last
        # Of two numbers, `where` would make a tensor in float32.
        smaller = torch.where(turn < 0, size * shrinking, size)
        size = torch.where(turn > 0, size * growing, smaller).clamp(*step_sizes)
        dp = torch.where(turn < 0, 0.0, dp)
        return p - size * dp.sign(), dp, size

    return rule, None


@core.constructor
def rprop(
    lr: Shown[NonNegative] = 1e-2,
    etas: tuple[float, float] = (0.5, 1.2),
    step_sizes: tuple[Positive, Annotated[Positive, OR_INFINITE]] = (1e-6, 50.0),
    *,
    maximize: bool = False,
) -> Optimizer:
    """Make Rprop: p <- p - size sign(dp), element by element.

    Where dp keeps its sign, size grows by etas[1]; where it changes it, size shrinks by etas[0] and
    dp counts as 0.

    Args:
        lr: the size of the first steps, above 0.
        step_sizes: the smallest and the largest size.

    Source: Riedmiller and Braun, "A Direct Adaptive Method for Faster Backpropagation Learning:
    The RPROP Algorithm", 1993.

    Example:
        >>> optimizer, params = rprop(0.5), (torch.tensor([1.0]),)
        >>> optimizer.update(params, (torch.tensor([4.0]),), optimizer.init(params))[0]
        (tensor([0.5000]),)
    """
    shrinking, growing = etas
    require(0 < shrinking < 1 < growing, "rprop", "etas below and above 1", etas)
    require(step_sizes[0] <= step_sizes[1], "rprop", "step_sizes that rise", step_sizes)
    return leafwise(RpropState, rules, {"last": 0.0, "size": lr}, no_adjoint=NO_ADJOINT)
