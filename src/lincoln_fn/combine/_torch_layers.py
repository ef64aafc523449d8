"""Layers of a graph for functions of torch that no constructor of the library makes.

Derivation of what moves elements, such as `transpose` and slices. Each element of y is one of x,
at the position i(j). So dx adds g up where an element was read. The same function of the positions
says where that is; `BACK` has shorter ways:

    y_j = x_(i(j))
    dx_k = sum_(j: i(j) = k) g_j

Derivation of `flat`. A comparison, or an index, stays as it is where x changes a little: dx = 0.
`converted` has dx = g in the dtype of x, or 0 if one of the dtypes has no floats.

Derivation of `einsum`. With the letters a and b of two inputs and c of y,

    y_c = sum A_a B_b    over the letters that are not in c
    dA_a = sum g_c B_b    over the letters that are not in a

Along a letter that only A has, dA repeats. More inputs are more factors.

Cache: stand-ins for the inputs, and the indices; the inputs of `einsum`.
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
from lincoln_fn.core import Arrays, Cache, Layer, Params, declare, stand_in, tree, unexpected
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
            raise core.LayerError(self.name, problem) from error


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


def flat(name: str, *args: object, **options: object) -> Layer:
    """Make the layer of a function of torch whose derivative is 0, such as "gt"."""
    call = Call(name, args, options)
    return Layer(str(call), partial(_jump, call=call), _stay)


def _jump(params: tuple[()], x: Arrays, *, call: Call) -> tuple[Tensor, Cache]:
    y = call(*(x if type(x) is tuple else (x,)))
    return y.detach(), tree.map(stand_in, x)


declare(_jump, kind="other")


def _stay(params: tuple[()], cache: Cache, g: Arrays) -> tuple[Arrays, tuple[()]]:
    return tree.map(zero, cache), ()


def converted(dtype: torch.dtype) -> Layer:
    """Make the layer of x.to(dtype)."""
    return Layer(f"to({dtype})", partial(_convert, dtype=dtype), _convert_back)


def _convert(params: tuple[()], x: Tensor, *, dtype: torch.dtype) -> tuple[Tensor, Cache]:
    return x.to(dtype), stand_in(x)


declare(_convert, kind="moving", mask="position")


def _convert_back(params: tuple[()], x: Tensor, g: Tensor | None) -> tuple[Arrays, tuple[()]]:
    is_floating = g is not None and g.is_floating_point() and x.is_floating_point()
    return g.to(x.dtype) if g is not None and is_floating else zero(x), ()


def constant(tensor: Tensor) -> Layer:
    """Make a layer without inputs, of a tensor that is not trained."""
    return Layer(
        f"constant({core.format_briefly(tensor)})", partial(_give, tensor=tensor.clone()), _take
    )


def _give(params: tuple[()], x: tuple[()], *, tensor: Tensor) -> tuple[Tensor, tuple[()]]:
    return tensor, ()


declare(_give, kind="embedding")


def _take(params: tuple[()], cache: tuple[()], g: Tensor) -> tuple[tuple[()], tuple[()]]:
    return (), ()


@core.constructor
def einsum(equation: str) -> Layer:
    """Make the layer of `torch.einsum`, whose equation has letters alone."""
    inputs, arrow, output = equation.replace(" ", "").partition("->")
    terms = tuple(inputs.split(","))
    if not arrow:
        output = "".join(sorted(each for each in {*inputs} - {","} if inputs.count(each) == 1))
    if "." in equation or any(len({*term}) < len(term) for term in (*terms, output)):
        expected = "an equation with a letter for each axis, each once in an input"
        raise unexpected("graph: einsum", expected, f"{equation!r}")
    there, back = (partial(f, terms=terms, output=output) for f in (contract, _contract_back))
    return core.bare(Layer, there, back)


def contract(
    params: tuple[()], x: Arrays, *, terms: tuple[str, ...], output: str
) -> tuple[Tensor, Cache]:
    """Compute y_c = sum A_a B_b."""
    x = x if type(x) is tuple else (x,)
    return Call("einsum")(f"{','.join(terms)}->{output}", *x), x


declare(contract, kind="product", along="rows")


def _contract_back(
    params: tuple[()], x: tuple[Tensor, ...], g: Tensor, *, terms: tuple[str, ...], output: str
) -> tuple[Arrays, tuple[()]]:
    """Compute dA_a = sum g_c B_b."""
    dxs = []
    for i, (term, x_i) in enumerate(zip(terms, x, strict=True)):
        behind = (output, *terms[:i], *terms[i + 1 :])
        letters = "".join(each for each in term if any(each in other for other in behind))
        dx = torch.einsum(f"{','.join(behind)}->{letters}", g, *x[:i], *x[i + 1 :])
        axes = [(each in letters, n) for each, n in zip(term, x_i.shape, strict=True)]
        dx = summed_to(dx, tuple(n for is_found, n in axes if is_found))
        dx = dx.reshape([n if is_found else 1 for is_found, n in axes])
        dxs.append(dx.expand(x_i.shape))
    return tuple(dxs) if len(dxs) != 1 else dxs[0], ()


def without_params(layer: Layer, params: Params) -> Layer:
    """Make a layer that has its params in itself, for a norm without weights."""
    there, back = (partial(f, layer=layer, own=params) for f in (_run_own, _run_back))
    return Layer(layer.name, there, back)


def _run_own(params: tuple[()], x: Tensor, *, layer: Layer, own: Params) -> tuple[Tensor, Cache]:
    y, cache = layer.forward(own, x)
    return y, cache


declare(_run_own, kind="norm")


def _run_back(
    params: tuple[()], cache: Cache, g: Tensor, *, layer: Layer, own: Params
) -> tuple[Tensor, tuple[()]]:
    return layer.backward(own, cache, g)[0], ()
