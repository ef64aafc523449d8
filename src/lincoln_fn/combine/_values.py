"""The values that the function of a graph is called with, in the place of tensors.

A value says which layer computes it, of which other values. Operators, methods and functions of
torch make new values, and change nothing:

    x @ w              matmul() of (x, w)
    torch.exp(h)       exp() of h
    2 * h + 1          numbers become scale(2.0) and shift(1.0)
    h + torch.ones(3)  a tensor is a layer without inputs
    h.dense(10)        each constructor of a layer is a method
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from numbers import Real
from typing import Any, NoReturn

import attrs
from torch import Tensor

from lincoln_fn.combine._torch_layers import constant
from lincoln_fn.combine._torch_names import (
    ATTRIBUTES,
    bound,
    constructor,
    function,
    method,
)
from lincoln_fn.combine._torch_rows import Row
from lincoln_fn.core.layer import Layer
from lincoln_fn.core.spec import called
from lincoln_fn.errors.arguments import check_argument
from lincoln_fn.errors.descriptions import describe
from lincoln_fn.errors.errors import LayerError


def _first(name: str) -> Callable[..., Any]:
    """Make the method of an operator whose first operand is the value."""
    return lambda self, *others: call(name, self, *others)


def _second(name: str) -> Callable[..., Any]:
    return lambda self, other: call(name, other, self)


# Two values are never compared inside: `==` makes a value, and the hash is the identity's.
@attrs.frozen(eq=False, repr=False)
class Value:
    """What a layer computes of other values; or an argument, by its name."""

    layer: Layer | None
    inputs: tuple[Value, ...] = ()
    name: str = ""
    entries: int = 0  # of a tuple whose length is known

    __hash__ = object.__hash__
    __array_ufunc__ = None  # numpy leaves operators to a value
    __add__, __radd__ = _first("add"), _second("add")
    __sub__, __rsub__ = _first("sub"), _second("sub")
    __mul__, __rmul__ = _first("mul"), _second("mul")
    __truediv__, __rtruediv__ = _first("div"), _second("div")
    __floordiv__, __rfloordiv__ = _first("floordiv"), _second("floordiv")
    __mod__, __rmod__ = _first("mod"), _second("mod")
    __matmul__, __rmatmul__ = _first("matmul"), _second("matmul")
    __pow__, __rpow__ = _first("pow"), _second("pow")
    __and__, __rand__ = _first("and"), _second("and")
    __or__, __ror__ = _first("or"), _second("or")
    __xor__, __rxor__ = _first("xor"), _second("xor")
    __eq__, __ne__ = _first("eq"), _first("ne")
    __lt__, __gt__ = _first("lt"), _first("gt")
    __le__, __ge__ = _first("le"), _first("ge")
    __neg__, __abs__, __invert__ = _first("neg"), _first("abs"), _first("invert")
    __getitem__, __setitem__ = _first("getitem"), _first("setitem")

    def apply(self, layer: Layer, *others: Value | Tensor) -> Value:
        """Apply any layer to this value, or to a tuple of values."""
        check_argument("graph", "layer", Layer, layer)
        inputs = tuple(_constant(each) if isinstance(each, Tensor) else each for each in others)
        for given in inputs:
            if not isinstance(given, Value):
                problem = f"expected values of the graph and numbers, got {describe(given)}"
                raise LayerError(f"graph: {called(layer.name)}", problem)
        return Value(layer, (self, *inputs))

    def of_entries(self, n: int) -> Value:
        """Return a value that is a tuple of n."""
        return attrs.evolve(self, entries=n)

    def __getattr__(self, name: str) -> Any:  # Any: a method, or a value for `h.T`
        if name.startswith("_"):
            raise AttributeError(name)
        if name in ATTRIBUTES:
            return ATTRIBUTES[name](self)
        row = method(name) or partial(_of_library, constructor(name))
        return partial(_call, name, row, self)

    @classmethod
    def __torch_function__(
        cls,
        of_torch: Callable[..., object],
        types: object,
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> Value:
        """Make a value of a function of torch, or of an operator of a tensor and a value."""
        name = getattr(of_torch, "__name__", "")
        name = name.strip("_") if name.startswith("__") else name.lstrip("_")
        return call(name, *args, **(kwargs or {}))

    def __iter__(self) -> Iterator[Value]:
        if not self.entries:
            mend = "write v[0], v[1] for the entries of a tuple, or split by chunk(n, dim)"
            raise _no_numbers(f"iterated over; {mend}")
        return (self[i] for i in range(self.entries))

    def __bool__(self) -> NoReturn:
        raise _no_numbers("true or false; write torch.where(condition, a, b), and & | ~ for logic")


def call(name: str, *args: object, **options: object) -> Value:
    """Apply what a function of torch, or an operator, means."""
    return _call(name, function(name), *args, **options)


def _call(name: str, row: Row, *args: object, **options: object) -> Value:
    if args and not isinstance(args[0], Value | Tensor | Real | list | tuple | str):
        problem = f"expected values of the graph and numbers, got {describe(args[0])}"
        raise LayerError(f"graph: {name}", problem)
    named = {key: _as_value(given) for key, given in options.items()}
    made: Value = bound(name, row, [*map(_as_value, args)], named)()
    return made


def _of_library(make: Callable[..., Layer], *args: Any, **options: Any) -> Value:
    """Apply the layer that a constructor makes of all other arguments to the values among them."""
    every = [each for arg in args for each in (arg if _holds_values(arg) else (arg,))]
    values = [each for each in (*every, *options.values()) if isinstance(each, Value)]
    rest = [each for each in every if not isinstance(each, Value)]
    named = {key: given for key, given in options.items() if not isinstance(given, Value)}
    return Value(make(*rest, **named), tuple(values))


def _holds_values(arg: Any) -> bool:
    return isinstance(arg, list | tuple) and any(isinstance(each, Value | Tensor) for each in arg)


def _as_value(arg: Any) -> Any:
    """Make a value of a tensor, and of each in a list; a tensor without axes is a number."""
    if isinstance(arg, Tensor):
        return arg.item() if arg.ndim == 0 and not arg.requires_grad else _constant(arg)
    return tuple(map(_as_value, arg)) if _holds_values(arg) else arg


def _constant(tensor: Tensor) -> Value:
    if tensor.requires_grad:
        problem = "expected a tensor that is not trained, got one that requires a gradient"
        raise LayerError("graph", f"{problem}; make it a keyword-only argument, which init makes")
    return Value(constant(tensor))


def _no_numbers(doing: str) -> LayerError:
    return LayerError("graph", f"a value has no numbers before the layer runs, and is not {doing}")
