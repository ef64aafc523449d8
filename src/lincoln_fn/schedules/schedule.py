"""The schedule protocol: a learning rate for every step."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import torch
from torch import Tensor

from lincoln_fn.core import check_functions


@attrs.frozen(eq=False, repr=False)
class Schedule:
    """A learning rate for every step.

    Args:
        name: the code that makes it; its repr.
        at: float64 steps -> rates, element by element.

    Example:
        >>> halving = Schedule("halving()", lambda step: 0.5**step)
        >>> halving, halving(torch.tensor([0, 1, 2]))
        (halving(), tensor([1.0000, 0.5000, 0.2500], dtype=torch.float64))
    """

    name: str
    at: Callable[[Tensor], Tensor]

    def __attrs_post_init__(self) -> None:
        check_functions("Schedule", self.name, at=self.at)

    def __repr__(self) -> str:
        return self.name

    def __call__(self, step: Tensor | int) -> Tensor:
        """Compute the rate of one step, or of each step in a tensor, for a plot."""
        return self.at(torch.as_tensor(step).double())
