"""What a layer's functions take, return and keep: the names of these types, and their checks.

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
from lincoln_fn.errors.descriptions import describe, format_briefly, suggest
from lincoln_fn.errors.errors import LayerError, unexpected, wrong_kind

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
        if function not in (torch.add, torch.Tensor.add) or kwargs:
            return NotImplemented
        records = [record for record in args if isinstance(record, Addable)]
        return reduce(lambda first, second: first.joined(second), records)


def add_trees(first: Arrays, second: Arrays) -> Arrays:
    """Add two trees of one structure, leaf by leaf."""
    return tree.map(torch.add, first, second)


def check_input(layer: str, params: object, x: object, expected: type | None = None) -> None:
    """Check that parameters belong to the layer, and that the input is a floating tensor."""
    check_params(layer, params, expected)
    if not isinstance(x, Tensor):
        raise unexpected(layer, "x to be a tensor", type(x).__name__, suggest(x, "tensor"))
    if not x.is_floating_point():
        mend = "convert it first, say by x.float()"
        raise unexpected(layer, "x of a floating dtype", x.dtype, mend)


def check_example(layer: str, key: object, x: object) -> None:
    """Check what `init` is given: a key, and a floating tensor, or None for what it checks."""
    if type(key).__name__ != "Key":
        raise wrong_kind(layer, "key", key, "Key")
    if x is not None:
        check_input(layer, (), x)


def check_params(layer: str, params: object, expected: type | None) -> None:
    """Check that parameters are of the layer's class, or () if it has none."""
    if expected is None:
        if type(params) is not tuple or params:
            raise _wrong_params(layer, "()", params)
    elif type(params) is not expected:
        owner = f"{expected.__module__.rpartition('.')[2]}.{expected.__name__}"
        raise _wrong_params(layer, owner, params)


def _wrong_params(layer: str, expected: str, given: object) -> LayerError:
    return unexpected(layer, f"params {expected}", describe(given), suggest(given, "params"))


def check_bias(layer: str, bias: object, weight: Tensor, n: int) -> None:
    """Check that a bias is one number for each of n features, and not one that broadcasts."""
    if bias is None:
        return
    if not isinstance(bias, Tensor) or bias.shape != (n,):
        raise wrong_shape(layer, "bias", bias, f"({n},)")
    if bias.dtype is not weight.dtype:
        raise unexpected(layer, f"bias of dtype {weight.dtype}", bias.dtype)


def shape_of(layer: str, weight: Tensor, axes: str) -> tuple[int, ...]:
    """Return the shape of a weight that has these axes, such as "(n_in, n_out)"."""
    shape: tuple[int, ...] = getattr(weight, "shape", ())
    if len(shape) != axes.count(",") + 1:
        raise wrong_shape(layer, "weight", weight, axes)
    return shape


def wrong_shape(layer: str, name: str, given: object, shape: str) -> LayerError:
    """Make the error about a tensor of the wrong shape, or about what is no tensor."""
    got = given.shape if isinstance(given, Tensor) else type(given).__name__
    return unexpected(layer, f"{name} of shape {shape}", got, suggest(given, "tensor"))


def check_like(layer: str, name: str, given: Tensor, like: Tensor | Like) -> None:
    """Check that a tensor has another's dtype and device."""
    if given.dtype is not like.dtype:
        if not isinstance(like, Tensor | Like):  # a numpy array has a dtype, too
            mend = suggest(like, "tensor")
            raise unexpected(layer, "params of tensors", type(like).__name__, mend)
        is_input = name == "x" and like.dtype.is_floating_point and given.is_floating_point()
        mend = f"convert it by x.to({like.dtype})" if is_input else ""
        raise unexpected(layer, f"{name} of dtype {like.dtype}", given.dtype, mend)
    if given.device != like.device:
        raise unexpected(layer, f"{name} on {like.device}", given.device)


def check_cotangent(layer: str, g: object, cached: object, shape: Sizes | None = None) -> None:
    """Check that g has the output's shape, dtype and device, as the cache has them."""
    if not isinstance(cached, Tensor | Like):
        raise unexpected(layer, "the cache of its own forward", format_briefly(cached))
    if not isinstance(g, Tensor):
        raise unexpected(layer, "g to be a tensor", type(g).__name__)
    check_like(layer, "g", g, cached)
    expected = cached.shape if shape is None else shape
    if g.shape != expected:
        raise wrong_shape(layer, "g", g, f"{tuple(expected)}")


def check_cache(layer: str, cache: object, expected: type) -> None:
    """Check that a cache belongs to the layer."""
    if type(cache) is not expected:
        raise unexpected(layer, "the cache of its own forward", format_briefly(cache))


def check_axis(layer: str, x: Tensor, dim: int, *, scalar: bool = False) -> None:
    """Check that a tensor has an axis; with `scalar`, one without axes has one, of size 1."""
    ndim = max(x.ndim, 1) if scalar else x.ndim
    if not -ndim <= dim < ndim:
        raise unexpected(layer, f"x to have an axis dim={dim}", f"shape {tuple(x.shape)}")
