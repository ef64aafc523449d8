"""What a layer's functions take, return and keep, and the names of its shapes.

A stand-in is the cache of a layer whose backward needs no values. A composition's `gather` adds up
the gradients of a parameter that is used several times. If a visitor's records are `Addable`,
`gather` joins those of all uses instead.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any, NamedTuple, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor
from typing_extensions import Self

from lincoln_fn.core import tree
from lincoln_fn.core.record import record

# Any: each layer has its own records, and a composition has tuples of them. Python's types cannot
# express "what this layer's forward returned".
Params: TypeAlias = Any
Cache: TypeAlias = Any
# Any: one tensor, or a tuple of them where a layer takes several inputs.
Arrays: TypeAlias = Any


class Like(NamedTuple):
    """A tensor's shape, dtype and device, which a cache keeps of y if no tensor in it has them."""

    shape: torch.Size
    dtype: torch.dtype
    device: torch.device

    @classmethod
    def of(cls, y: Tensor) -> Like:
        """Read them off a tensor."""
        return cls(y.shape, y.dtype, y.device)


Sizes = tuple[int, ...]
Elements: TypeAlias = Float[Tensor, "*s"]
# Of another shape than x: its elements moved, left out or repeated, or numbers made of them.
Moved: TypeAlias = Float[Tensor, "*moved"]
Several: TypeAlias = tuple[Elements, ...]
Features: TypeAlias = Float[Tensor, "*batch n_in"]
Outputs: TypeAlias = Float[Tensor, "*batch n_out"]
Reduced: TypeAlias = Float[Tensor, "*reduced"]
Rows: TypeAlias = Float[Tensor, "*batch_and_row"]
Sequence: TypeAlias = Float[Tensor, "*batch length features"]
Channels: TypeAlias = Float[Tensor, "batch channels *spatial"]
# With the channels before the spatial axes, and a batch or none before the channels: of a
# normalisation, and the x and the y of a convolution.
Instances: TypeAlias = Float[Tensor, "*channels_and_spatial"]
ConvInput: TypeAlias = Float[Tensor, "*in_channels_and_spatial"]
ConvOutput: TypeAlias = Float[Tensor, "*out_channels_and_positions"]
# With any axes before the spatial ones.
Image: TypeAlias = Float[Tensor, "*batch_and_spatial"]
Pooled: TypeAlias = Float[Tensor, "*batch_and_pooled"]


@record
class StandIns:
    """Stand-ins for a layer's input and output."""

    x: Elements
    y: Moved


def stand_in(x: Tensor) -> Tensor:
    """Make an expanded zero with x's shape, dtype and device, and the memory of one number."""
    return x.new_zeros(()).expand(x.shape)


def stand_ins(x: Elements, y: Moved) -> StandIns:
    """Make stand-ins for a layer's input and output, of one dtype and device."""
    zero = x.new_zeros(())
    return StandIns(zero.expand(x.shape), zero.expand(y.shape))


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
        types: tuple[type, ...],
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
