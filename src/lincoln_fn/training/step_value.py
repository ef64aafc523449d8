"""What a step reports: its loss, other numbers, and how many examples it has seen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from torch import Tensor

from lincoln_fn.core import LayerError, tree, wrong_kind

# The loss, or numbers by name, "loss" among them.
Value: TypeAlias = Tensor | Mapping[str, Tensor]


def read_numbers(value: Value) -> tuple[float, dict[str, float]]:
    """Read the loss, and the other numbers by name, of what a step returned beside the state."""
    if isinstance(value, Tensor):
        return value.item(), {}
    if not isinstance(value, Mapping) or "loss" not in value:
        kind = "a tensor of one number, or a dict of such with 'loss' among them"
        raise wrong_kind("train", "the step's value", value, kind)
    if "step" in value:  # a log has the number of the step there
        problem = f"expected no number named 'step' in the step's value, got {list(value)}"
        raise LayerError("train", f"{problem}; give it another name")
    numbers = {name: float(number) for name, number in value.items()}
    return numbers.pop("loss"), numbers


def count_examples(batch: object) -> int | None:
    """Count the examples of a batch: the length of x, or None if it has no tensor."""
    x = batch[0] if type(batch) is tuple and batch else batch
    first = x if isinstance(x, Tensor) else next(iter(tree.leaves(x)), None)
    return first.shape[0] if isinstance(first, Tensor) and first.ndim else None
