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
from typing import Final, NoReturn

import attrs
from torch import Tensor

from lincoln_fn.combine import _torch_names
from lincoln_fn.combine._torch_layers import constant
from lincoln_fn.combine._torch_names import Arg, Row
from lincoln_fn.core import Layer, LayerError, called, check_argument, describe, unexpected


def _first(name: str) -> Callable[..., Arg]:
    """Make the method of an operator whose first operand is the value."""
    return lambda self, *others: call(name, self, *others)


def _second(name: str) -> Callable[..., Arg]:
    return lambda self, other: call(name, other, self)


# Operators that also have a value as their second operand, and others.
_OF_TWO: Final = "add sub mul truediv floordiv mod matmul pow and or xor"
_OF_THE_VALUE: Final = "eq ne lt gt le ge neg abs invert getitem setitem"


# Two values are never compared inside: `==` makes a value, and the hash is the identity's.
@attrs.frozen(eq=False, repr=False)
class Value:
    """What a layer computes of other values; or an argument, by its name."""

    layer: Layer | None
    inputs: tuple[Value, ...] = ()
    name: str = ""
    entries: int = 0  # of a tuple whose length is known

    __array_ufunc__ = None  # numpy leaves operators to a value

    def apply(self, layer: Layer, *others: Value | Tensor) -> Value:
        """Apply any layer to this value, or to a tuple of values."""
        check_argument("graph", "layer", Layer, layer)
        inputs = tuple(_constant(each) if isinstance(each, Tensor) else each for each in others)
        for given in inputs:
            if not isinstance(given, Value):
                expected = "values of the graph and numbers"
                raise unexpected(f"graph: {called(layer.name)}", expected, describe(given))
        return Value(layer, (self, *inputs))

    def of_entries(self, n: int) -> Value:
        """Return a value that is a tuple of n."""
        return attrs.evolve(self, entries=n)

    def __getattr__(self, name: str) -> Arg:  # a method, or a value for `h.T`
        if name.startswith("_"):
            raise AttributeError(name)
        if name in _torch_names.ATTRIBUTES:
            return _torch_names.ATTRIBUTES[name](self)
        row = _torch_names.method(name) or partial(_of_library, _torch_names.constructor(name))
        return partial(_call, name, row, self)

    @classmethod
    def __torch_function__(
        cls,
        of_torch: Callable[..., object],
        types: object,
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> Value:
        name = getattr(of_torch, "__name__", "")
        name = name.strip("_") if name.startswith("__") else name.lstrip("_")
        return call(name, *args, **(kwargs or {}))

    def __iter__(self) -> Iterator[Value]:
        if not self.entries:
            mend = "write v[0], v[1] for the entries of a tuple, or split by chunk(n, dim)"
            raise _no_numbers(f"iterated over; {mend}")
        return (call("getitem", self, i) for i in range(self.entries))

    def __bool__(self) -> NoReturn:
        raise _no_numbers("true or false; write torch.where(condition, a, b), and & | ~ for logic")


for _name in _OF_TWO.split():
    setattr(Value, f"__{_name}__", _first(_name))
    setattr(Value, f"__r{_name}__", _second(_name))
for _name in _OF_THE_VALUE.split():
    setattr(Value, f"__{_name}__", _first(_name))


def call(name: str, *args: object, **options: object) -> Value:
    """Apply what a function of torch, or an operator, means."""
    return _call(name, _torch_names.function(name), *args, **options)


def _call(name: str, row: Row, *args: object, **options: object) -> Value:
    if args and not isinstance(args[0], Value | Tensor | Real | list | tuple | str):
        raise unexpected(f"graph: {name}", "values of the graph and numbers", describe(args[0]))
    named = {key: _as_value(given) for key, given in options.items()}
    value: Value = _torch_names.bound(name, row, [*map(_as_value, args)], named)()
    return value


def _of_library(make: Callable[..., Layer], *args: Arg, **options: Arg) -> Value:
    """Apply the layer that a constructor makes of all other arguments to the values among them."""
    every = [each for arg in args for each in (arg if _holds_values(arg) else (arg,))]
    values = [each for each in (*every, *options.values()) if isinstance(each, Value)]
    rest = [each for each in every if not isinstance(each, Value)]
    named = {key: given for key, given in options.items() if not isinstance(given, Value)}
    return Value(make(*rest, **named), tuple(values))


def _holds_values(arg: Arg) -> bool:
    return isinstance(arg, list | tuple) and any(isinstance(each, Value | Tensor) for each in arg)


def _as_value(arg: Arg) -> Arg:
    """Make a value of a tensor, and of each in a list; a tensor without axes is a number."""
    if isinstance(arg, Tensor):
        return arg.item() if arg.ndim == 0 and not arg.requires_grad else _constant(arg)
    return tuple(map(_as_value, arg)) if _holds_values(arg) else arg


def _constant(tensor: Tensor) -> Value:
    if tensor.requires_grad:
        expected = "a tensor that is not trained"
        mend = "make it a keyword-only argument, which init makes"
        raise unexpected("graph", expected, "one that requires a gradient", mend)
    return Value(constant(tensor))


def _no_numbers(doing: str) -> LayerError:
    return LayerError("graph", f"a value has no numbers before the layer runs, and is not {doing}")
