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

import attrs
import torch
from torch import Tensor
from torch.nn import functional

from lincoln_fn import core
from lincoln_fn.core import Arrays, Cache, Layer, LayerError, declare, stand_in, tree, unexpected
from lincoln_fn.layers.broadcast import summed_to
from lincoln_fn.layers.stop_gradient import zero

Index: TypeAlias = Any  # Any: a number, a slice, None, ..., a name of an input, or a tuple of them
# dx of g, x, which has a shape alone, and the arguments.
Back: TypeAlias = Callable[..., Tensor]


def _reshaped(g: Tensor, x: Tensor, *args: object, **options: object) -> Tensor:
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
    "roll": lambda g, x, shifts, dims=(): g.roll([-n for n in entries(shifts)], dims),
    "split": _joined,
    "swapaxes": lambda g, x, axis0, axis1: g.swapaxes(axis0, axis1),
    "t": lambda g, x: g.t(),
    "transpose": lambda g, x, dim0, dim1: g.transpose(dim0, dim1),
    "tril": lambda g, x, diagonal=0: g.tril(diagonal),
    "triu": lambda g, x, diagonal=0: g.triu(diagonal),
    "unbind": lambda g, x, dim=0: torch.stack(g, dim),
}


@attrs.frozen(eq=False)
class Call:
    """A call of a function of torch, or of a method, by its name: what it gets beside tensors."""

    name: str
    args: tuple[object, ...] = ()
    options: dict[str, object] = attrs.Factory(dict)
    is_method: bool = False

    def __str__(self) -> str:
        args = self.args[0] if len(self.args) == 1 and type(self.args[0]) is tuple else self.args
        named = (f"{key}={given!r}" for key, given in self.options.items())
        return f"{self.name}({', '.join([*map(repr, args), *named])})"

    def __call__(self, *x: Arrays) -> Arrays:
        homes = (Tensor, functional) if self.is_method else (torch, functional, Tensor)
        function = next(getattr(home, self.name) for home in homes if hasattr(home, self.name))
        try:
            return function(*x, *self.args, **self.options)
        except (IndexError, RuntimeError, TypeError) as error:
            reason = str(error).partition("\n")[0]
            problem = f"torch refuses {core.format_briefly(x[0] if len(x) == 1 else x)}: {reason}"
            raise LayerError(self.name, problem) from error


def moved(name: str, *args: object, **options: object) -> Layer:
    """Make the layer of a method of tensors that moves elements, such as "transpose"."""
    call = Call(name, args, options, is_method=True)
    return Layer(str(call), partial(_move, call=call), partial(_move_back, call=call))


def _move(params: tuple[()], x: Tensor, *, call: Call) -> tuple[Arrays, Cache]:
    """Compute y_j = x_i(j)."""
    return call(x), stand_in(x)


declare(_move, kind="moving")


def _move_back(
    params: tuple[()], x: Tensor, g: Arrays, *, call: Call
) -> tuple[Tensor | None, tuple[()]]:
    """Compute dx_k = sum of g_j over all j with i(j) = k."""
    back = BACK[call.name]
    if not x.is_floating_point():
        return None, ()
    return back(g, x, *call.args, **call.options) if back else _by_positions(g, x, call), ()


def _by_positions(g: Tensor, x: Tensor, move: Callable[[Tensor], Tensor]) -> Tensor:
    at = move(torch.arange(x.numel(), device=x.device).reshape(x.shape)).reshape(-1)
    return g.new_zeros(x.numel()).index_add(0, at, g.reshape(-1)).reshape(x.shape)


# In an index, the place of the next input.
INPUT: Final = "input"


def item(index: Index) -> Layer:
    """Make the layer of x[index], whose entries may be inputs after x; of a tuple, of its entry."""
    read, back = partial(_read, index=index), partial(_read_back, index=index)
    return Layer(f"item({_sliced(index)})", read, back)


def _read(params: tuple[()], x: Arrays, *, index: Index) -> tuple[Arrays, Cache]:
    if type(x) is tuple and type(index) is int:
        if not -len(x) <= index < len(x):
            raise unexpected("item", f"a tuple with an entry {index}", f"{len(x)} entries")
        return x[index], (tree.map(stand_in, x), ())
    x, *inputs = x if type(x) is tuple else (x,)
    try:
        return x[_filled(index, inputs)], (stand_in(x), tuple(inputs))
    except (IndexError, TypeError) as error:
        expected = f"x with [{_sliced(index)}]"
        raise unexpected("item", expected, f"{core.format_briefly(x)}: {error}") from error


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
    elif all(each is None or isinstance(each, int | slice | EllipsisType) for each in entries(at)):
        dx = x.new_zeros(x.shape)
        dx[at] = g
    else:
        dx = _by_positions(g, x, lambda positions: positions[at])
    return (dx, *(None for _ in inputs)) if inputs else dx, ()


def entries(index: Index) -> tuple[Index, ...]:
    """Return the entries of an index, or of sizes."""
    return index if type(index) is tuple else (index,)


def _filled(index: Index, inputs: Iterable[Tensor]) -> Index:
    rest = iter(inputs)
    filled = tuple(next(rest) if type(each) is str else each for each in entries(index))
    return filled if type(index) is tuple else filled[0]


def _sliced(index: Index) -> str:
    if type(index) is tuple:
        return ", ".join(map(_sliced, index))
    if not isinstance(index, slice):
        return "..." if index is ... else str(index)
    ends = (index.start, index.stop, *([] if index.step is None else [index.step]))
    return ":".join("" if end is None else str(end) for end in ends)
