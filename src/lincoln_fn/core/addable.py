"""Sums of gradients of one x or parameter, and records in their place, which are added up, too.

A composition's `gather` adds up the gradients of a parameter that is used several times. If a
visitor's records are `Addable`, `gather` joins those of all uses instead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import torch
from torch import Tensor
from typing_extensions import Self

from lincoln_fn.core import tree
from lincoln_fn.core.values import Arrays


class Addable:
    """A record that `+` and `torch.add` join with another of its kind."""

    # A plain tensor counts as zeros: it is the gradient of what the output does not depend on.

    __slots__ = ()

    def joined(self, other: Self) -> Self:
        """Put the records of two uses together."""
        raise NotImplementedError

    def __add__(self, other: Self | Tensor) -> Self:
        return self if isinstance(other, Tensor) else self.joined(other)

    __radd__ = __add__

    # Any: torch calls it for any of its functions, with any arguments.
    @classmethod
    def __torch_function__(
        cls,
        function: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Join the records that `torch.add` is given."""
        if function not in (torch.add, torch.Tensor.add) or kwargs:
            return NotImplemented
        records = [record for record in args if isinstance(record, Addable)]
        return reduce(lambda first, second: first.joined(second), records)


def add_trees(first: Arrays, second: Arrays) -> Arrays:
    """Add two trees of one structure, leaf by leaf."""
    return tree.map(torch.add, first, second)
