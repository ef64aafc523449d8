"""The values that the function of a graph is called with, in the place of tensors.

A value says which layer computes it, of which other values. Operators and methods make new values,
and change nothing:

    x @ w           matmul() of (x, w)
    h.sum(1)        sum(dim=1) of h: each constructor of a layer is a method
    torch.exp(h)    h.exp()
    2 * h + 1       numbers become scale(2.0) and shift(1.0)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from difflib import get_close_matches
from functools import partial
from typing import Final, NoReturn

import attrs
from torch import Tensor

from lincoln_fn.combine.context import select
from lincoln_fn.core.layer import Layer
from lincoln_fn.errors.arguments import check_argument
from lincoln_fn.errors.descriptions import describe
from lincoln_fn.errors.errors import LayerError
from lincoln_fn.layers.common.constructors import ours

# torch's short names, and ours.
ALIASES: Final = {
    "abs": "absolute", "cat": "concatenate", "div": "divide", "expand": "broadcast_to",
    "max": "amax", "mul": "multiply", "pow": "power", "sub": "subtract", "truediv": "divide",
    "var": "variance",
}  # fmt: skip


@attrs.frozen(eq=False, repr=False)
class Value:
    """What a layer computes of other values; or an argument, by its name."""

    layer: Layer | None
    inputs: tuple[Value, ...] = ()
    name: str = ""

    def apply(self, layer: Layer, *others: Value) -> Value:
        """Apply any layer to this value, or to a tuple of values."""
        check_argument("graph", "layer", Layer, layer)
        return Value(layer, (self, *others))

    def __getattr__(self, name: str) -> Callable[..., Value]:
        if name.startswith("_"):
            raise AttributeError(name)
        _constructor(name)
        return partial(call, name, self)

    @classmethod
    def __torch_function__(
        cls,
        function: Callable[..., object],
        types: object,
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> Value:
        """Make a value of a function of torch, as of the method with its name."""
        return call(getattr(function, "__name__", "").strip("_"), *args, **(kwargs or {}))

    def __add__(self, other: object) -> Value:
        return call("add", self, other)

    def __radd__(self, other: object) -> Value:
        return call("add", other, self)

    def __sub__(self, other: object) -> Value:
        return call("subtract", self, other)

    def __rsub__(self, other: object) -> Value:
        return call("subtract", other, self)

    def __mul__(self, other: object) -> Value:
        return call("multiply", self, other)

    def __rmul__(self, other: object) -> Value:
        return call("multiply", other, self)

    def __truediv__(self, other: object) -> Value:
        return call("divide", self, other)

    def __rtruediv__(self, other: object) -> Value:
        return call("divide", other, self)

    def __matmul__(self, other: object) -> Value:
        return call("matmul", self, other)

    def __pow__(self, exponent: object) -> Value:
        return call("power", self, exponent)

    def __neg__(self) -> Value:
        return call("scale", self, -1.0)

    def __abs__(self) -> Value:
        return call("absolute", self)

    def __getitem__(self, index: object) -> Value:
        if isinstance(index, Value):
            return call("index_select", self, index)
        if isinstance(index, int):
            return self.apply(select(index))
        problem = "expected an index that is a value of the graph, or the position in a tuple"
        raise LayerError(
            "graph", f"{problem}, got {describe(index)}; split, take and gather read x"
        )

    def __iter__(self) -> Iterator[Value]:
        raise _no_numbers("iterated over; write v[0], v[1] for the entries of a tuple")

    def __bool__(self) -> NoReturn:
        raise _no_numbers("true or false; select by where()")


def call(name: str, *args: object, **options: object) -> Value:
    """Apply the layer that a constructor makes of all other arguments to the values among them."""
    own = ALIASES.get(name, name)
    pair = _with_numbers(own, args)
    if pair is not None:
        return pair
    every = [each for arg in args for each in _entries(arg)]
    values = [each for each in every if isinstance(each, Value)]
    rest = [each for each in every if not isinstance(each, Value)]
    named = {key: given for key, given in options.items() if isinstance(given, Value)}
    options = {key: given for key, given in options.items() if key not in named}
    for given in (*rest, *options.values()):
        if isinstance(given, Tensor) or own in _OPERATORS:
            problem = f"expected values of the graph and numbers, got {describe(given)}"
            mend = "; make it an argument of the function" if isinstance(given, Tensor) else ""
            raise LayerError(f"graph: {own}", f"{problem}{mend}")
    return Value(_constructor(name)(*rest, **options), (*values, *named.values()))


def _entries(arg: object) -> tuple[object, ...]:
    """List the entries of a list of values, as `torch.stack` takes it; any other argument alone."""
    if isinstance(arg, list | tuple) and any(isinstance(each, Value) for each in arg):
        return tuple(arg)
    return (arg,)


def _constructor(name: str) -> Callable[..., Layer]:
    """Find the constructor of a layer by its name, or by torch's."""
    own = ALIASES.get(name, name)
    known = dir(ours)
    if own in known:
        made: Callable[..., Layer] = getattr(ours, own)
        return made
    close = get_close_matches(name, [*known, *ALIASES], 1)
    mend = f"; did you mean {close[0]}?" if close else "; v.apply(layer) takes a layer of your own"
    raise LayerError("graph", f"expected an operation that is a layer, got {name!r}{mend}")


# A value v and a number c.
_NUMBER_LAST: Final[dict[str, Callable[[Value, float], Value]]] = {
    "add": lambda v, c: call("shift", v, c),
    "subtract": lambda v, c: call("shift", v, -c),
    "multiply": lambda v, c: call("scale", v, c),
    "divide": lambda v, c: call("scale", v, 1 / c),
}
_NUMBER_FIRST: Final[dict[str, Callable[[Value, float], Value]]] = {
    "add": _NUMBER_LAST["add"],
    "subtract": lambda v, c: call("shift", -v, c),
    "multiply": _NUMBER_LAST["multiply"],
    "divide": lambda v, c: call("scale", call("reciprocal", v), c),
}


_OPERATORS: Final = (*_NUMBER_LAST, "matmul")


def _with_numbers(name: str, args: tuple[object, ...]) -> Value | None:
    """Apply an operator to a value and a number; None if the arguments are others."""
    match args:
        case Value() as v, int() | float() as c if name in _NUMBER_LAST:
            return _NUMBER_LAST[name](v, float(c))
        case int() | float() as c, Value() as v if name in _NUMBER_FIRST:
            return _NUMBER_FIRST[name](v, float(c))
    return None


def _no_numbers(doing: str) -> LayerError:
    return LayerError("graph", f"a value has no numbers before the layer runs, and is not {doing}")
