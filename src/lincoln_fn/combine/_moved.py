"""Layers of a graph for functions of torch that move elements, such as `transpose` and slices.

Derivation. Each element of y is one of x, at the position i(j). So dx adds g up where an element
was read. The same function of the positions says where that is; `BACK` has shorter ways:

    y_j = x_(i(j))
    dx_k = sum_(j: i(j) = k) g_j

Cache: stand-ins for the inputs, and the indices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from types import EllipsisType
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

from lincoln_fn.core import Arrays, Cache, Layer, LayerError, declare, format_briefly, tree
from lincoln_fn.layers.broadcast import summed_to
from lincoln_fn.layers.common.stand_in import stand_in
from lincoln_fn.layers.stop_gradient import zero

# Any: arguments of torch's functions.
Args: TypeAlias = tuple[Any, ...]
Index: TypeAlias = Any  # a number, a slice, None, ..., a name of an input, or a tuple of them
# dx of g, x, which has a shape alone, and the arguments.
Back: TypeAlias = Callable[..., Tensor]


def _reshaped(g: Tensor, x: Tensor, *args: object) -> Tensor:
    return g.reshape(x.shape)


def _joined(g: tuple[Tensor, ...], x: Tensor, size: object, dim: int) -> Tensor:
    return torch.cat(g, dim)


# The functions that `moved` takes, and dx; None is by positions.
BACK: Final[dict[str, Back | None]] = {
    **dict.fromkeys(("flatten", "reshape", "squeeze", "unflatten", "unsqueeze", "view"), _reshaped),
    **dict.fromkeys(("diagonal", "narrow", "repeat", "repeat_interleave", "select", "tile"), None),
    "chunk": _joined,
    "expand": lambda g, x, *sizes: summed_to(g, tuple(x.shape)),
    "flip": lambda g, x, dims: g.flip(dims),
    "movedim": lambda g, x, source, destination: g.movedim(destination, source),
    "pad": lambda g, x, pad, mode, value: functional.pad(g, [-n for n in pad]),
    "permute": lambda g, x, dims: g.permute(sorted(range(g.ndim), key=lambda k: dims[k] % g.ndim)),
    "roll": lambda g, x, shifts, dims: g.roll([-n for n in shifts], dims),
    "split": _joined,
    "t": lambda g, x: g.t(),
    "transpose": lambda g, x, dim0, dim1: g.transpose(dim0, dim1),
    "tril": lambda g, x, diagonal: g.tril(diagonal),
    "triu": lambda g, x, diagonal: g.triu(diagonal),
    "unbind": lambda g, x, dim: torch.stack(g, dim),
}


def moved(name: str, *args: object) -> Layer:
    """Make the layer of a function of torch that moves elements, such as "transpose"."""
    move, back = (partial(each, name=name, args=args) for each in (_move, _move_back))
    return Layer(written(name, args), move, back)


def _move(params: tuple[()], x: Tensor, *, name: str, args: Args) -> tuple[Arrays, Cache]:
    """Compute y_j = x_i(j)."""
    return run(name, args, x), stand_in(x)


declare(_move, kind="moving")


def _move_back(
    params: tuple[()], x: Tensor, g: Arrays, *, name: str, args: Args
) -> tuple[Tensor | None, tuple[()]]:
    """Compute dx_k = sum of g_j over all j with i(j) = k."""
    back = BACK[name]
    if not x.is_floating_point():
        return None, ()
    return back(g, x, *args) if back else _by_positions(g, x, partial(run, name, args)), ()


def _by_positions(g: Tensor, x: Tensor, move: Callable[[Tensor], Tensor]) -> Tensor:
    at = move(torch.arange(x.numel(), device=x.device).reshape(x.shape)).reshape(-1)
    return g.new_zeros(x.numel()).index_add(0, at, g.reshape(-1)).reshape(x.shape)


def run(name: str, args: Args, *x: Arrays) -> Arrays:
    """Call a function of torch by its name; its error names the shapes."""
    homes = (torch, functional, Tensor)
    function = next(getattr(home, name) for home in homes if hasattr(home, name))
    try:
        return function(*x, *args)
    except (IndexError, RuntimeError, TypeError) as error:
        reason = str(error).partition("\n")[0]
        problem = f"torch refuses {format_briefly(x[0] if len(x) == 1 else x)}: {reason}"
        raise LayerError(name, problem) from error


# In an index, the place of the next input.
INPUT: Final = "input"


def item(index: Index) -> Layer:
    """Make the layer of x[index], whose entries may be inputs after x; of a tuple, of its entry."""
    read, back = partial(_read, index=index), partial(_read_back, index=index)
    return Layer(f"item({_sliced(index)})", read, back)


def _read(params: tuple[()], x: Arrays, *, index: Index) -> tuple[Arrays, Cache]:
    """Read x at the index."""
    if type(x) is tuple and type(index) is int:
        if not -len(x) <= index < len(x):
            raise LayerError(
                "item", f"expected a tuple with an entry {index}, got {len(x)} entries"
            )
        return x[index], (tree.map(stand_in, x), ())
    x, *inputs = x if type(x) is tuple else (x,)
    try:
        return x[_filled(index, inputs)], (stand_in(x), tuple(inputs))
    except (IndexError, TypeError) as error:
        problem = f"expected x with [{_sliced(index)}], got {format_briefly(x)}: {error}"
        raise LayerError("item", problem) from error


declare(_read, kind="moving")


def _read_back(
    params: tuple[()], cache: Cache, g: Arrays, *, index: Index
) -> tuple[Arrays, tuple[()]]:
    """Put g where x was read, and 0 elsewhere."""
    x, inputs = cache
    if type(x) is tuple:
        read = index % len(x)
        return tuple(g if i == read else tree.map(zero, x_i) for i, x_i in enumerate(x)), ()
    at = _filled(index, inputs)
    if not x.is_floating_point():
        dx = None
    elif all(each is None or isinstance(each, int | slice | EllipsisType) for each in _entries(at)):
        dx = x.new_zeros(x.shape)
        dx[at] = g
    else:
        dx = _by_positions(g, x, lambda positions: positions[at])
    return (dx, *(None for _ in inputs)) if inputs else dx, ()


def _entries(index: Index) -> tuple[Index, ...]:
    return index if type(index) is tuple else (index,)


def _filled(index: Index, inputs: Iterable[Tensor]) -> Index:
    rest = iter(inputs)
    entries = tuple(next(rest) if type(each) is str else each for each in _entries(index))
    return entries if type(index) is tuple else entries[0]


def _sliced(index: Index) -> str:
    """Write an index as between brackets."""
    if type(index) is tuple:
        return ", ".join(map(_sliced, index))
    if not isinstance(index, slice):
        return "..." if index is ... else str(index)
    ends = (index.start, index.stop, *([] if index.step is None else [index.step]))
    return ":".join("" if end is None else str(end) for end in ends)


def written(name: str, args: Args) -> str:
    """Write a call."""
    shown = args[0] if len(args) == 1 and type(args[0]) is tuple else args
    return f"{name}({', '.join(map(repr, shown))})"
