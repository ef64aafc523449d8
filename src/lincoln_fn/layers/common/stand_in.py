"""Stand-ins, and what the layers share that change x's shape and keep the order of its elements.

A stand-in is an expanded zero with a tensor's shape, dtype and device, and the memory of one
number. It is the cache of a layer whose backward needs no values.
"""

from __future__ import annotations

from math import prod

from torch import Tensor

from lincoln_fn.core import check_cache, check_cotangent, record, require
from lincoln_fn.layers.common.shapes import Elements, Moved


@record
class StandIns:
    """Stand-ins for a layer's input and output."""

    x: Elements
    y: Moved


def stand_in(x: Tensor) -> Tensor:
    """Make an expanded zero with x's shape, dtype and device, and the memory of one number.

    Example:
        >>> stand_in(torch.ones(2, 3))
        tensor([[0., 0., 0.],
                [0., 0., 0.]])
    """
    return x.new_zeros(()).expand(x.shape)


def stand_ins(x: Elements, y: Moved) -> StandIns:
    """Make stand-ins for a layer's input and output, of one dtype and device.

    Args:
        x: the input.
        y: the output.

    Returns:
        Both stand-ins.

    Example:
        >>> stand_ins(torch.ones(2, 3), torch.ones(6))
        StandIns(x=float32[2, 3], y=float32[6])
    """
    zero = x.new_zeros(())
    return StandIns(zero.expand(x.shape), zero.expand(y.shape))


def reshaped_back(layer: str, cache: StandIns, g: Moved) -> Elements:
    """Give g the shape of x, after the checks.

    Args:
        cache: what its `forward` returned.
        g: dL/dy.

    Returns:
        dx.

    Raises:
        LayerError: if g does not mirror y, or the cache is another layer's.

    Example:
        >>> x, y = torch.ones(2, 3), torch.ones(6)
        >>> reshaped_back("flatten", stand_ins(x, y), y).shape
        torch.Size([2, 3])
    """
    check_cache(layer, cache, StandIns)
    check_cotangent(layer, g, cache.y)
    return g.reshape(cache.x.shape)


def open_sizes(layer: str, what: str, sizes: tuple[int, ...]) -> tuple[int, ...]:
    """Check that at most one size of a shape is left open with -1.

    Args:
        what: the argument's name.
        sizes: the sizes.

    Raises:
        LayerError: if several are.

    Example:
        >>> open_sizes("reshape", "shape", (2, -1))
        (2, -1)
    """
    require(sizes.count(-1) < 2, layer, f"{what} with at most one -1", sizes)
    return sizes


def filled(sizes: tuple[int, ...], count: int) -> tuple[int, ...] | None:
    """Find the size that was left open with -1.

    Args:
        sizes: of a shape, at most one of them -1.
        count: the number of elements.

    Returns:
        The sizes of a shape of that many elements; None if there is no such shape.

    Example:
        >>> filled((2, -1), 6), filled((2, 3), 6), filled((4, -1), 6), filled((2, 2), 6)
        ((2, 3), (2, 3), None, None)
    """
    known = prod(size for size in sizes if size != -1)
    open_size = count // max(known, 1)
    sizes = tuple(open_size if size == -1 else size for size in sizes)
    return sizes if prod(sizes) == count else None
