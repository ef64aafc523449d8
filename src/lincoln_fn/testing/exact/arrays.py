"""Numpy's arrays of exact numbers, on which code of numpy runs unchanged.

An array holds the rows of its numbers in a table. Functions that move elements run on the rows, as
do views and what is written into them; the others compute by a rule. `numpy_for` makes the numpy
whose new arrays are exact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any, Final

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from lincoln_fn.testing.exact.field import READ, Array, MissingError
from lincoln_fn.testing.exact.numbers import Numbers, Table, constant
from lincoln_fn.testing.exact.rules import FUNCTIONS, bilinear

MADE_BEFORE: Final = "exact numbers are written into an array that was made before"
# The methods of ufuncs that are functions, too.
_REDUCED: Final = {
    ("add", "reduce"): "sum", ("multiply", "reduce"): "prod", ("maximum", "reduce"): "max",
    ("minimum", "reduce"): "min", ("add", "accumulate"): "cumsum",
    ("multiply", "accumulate"): "cumprod",
}  # fmt: skip
_PROPERTIES: Final = "shape ndim size T mT"
_VIEWS: Final = "copy diagonal flatten ravel repeat reshape squeeze swapaxes take transpose"
_METHODS: Final = """
    all any argmax argmin argsort astype clip cumprod cumsum dot item max mean min nonzero prod
    round std sum tolist trace var
"""


class NoAttributeError(MissingError, AttributeError):
    """A method of numpy's arrays that exact ones have not."""


# Any: in this file, what functions of numpy take and return.
class ExactArray(NDArrayOperatorsMixin):
    """An array of exact numbers: for each, the number of its row in a table."""

    __slots__ = ("rows", "table")
    dtype: Final = np.dtype(float)

    def __init__(self, table: Table, rows: Array) -> None:
        self.table, self.rows = table, np.asarray(rows)

    @property
    def numbers(self) -> Numbers:
        """The numbers."""
        return self.table.read(self.rows)

    def __getattr__(self, name: str) -> Any:
        if name in _PROPERTIES.split():
            return _exact(self.table, getattr(self.rows, name))
        if name in _VIEWS.split():
            return lambda *how, **more: _exact(self.table, getattr(self.rows, name)(*how, **more))
        if name in _METHODS.split():
            return partial(_function(name), self.table, self)
        raise NoAttributeError(f"an array of exact numbers has no {name}")

    def __array_ufunc__(
        self, ufunc: np.ufunc, method: str, *given: Any, out: Any = None, **how: Any
    ) -> Any:
        name, table = ufunc.__name__, self.table
        if (name, method) == ("add", "at"):
            return _add_at(table, *given)
        kinds = (ExactArray, np.ndarray, np.generic, float, int)
        if not all(isinstance(each, kinds) for each in given):
            return NotImplemented
        rule = FUNCTIONS.get(name if method == "__call__" else _REDUCED.get((name, method), ""))
        if rule is None or how.pop("where", True) is not True:
            raise MissingError(f"np.{name} has no rule for exact numbers, as it is called")
        how.pop("dtype", None)
        if method != "__call__":
            how.setdefault("axis", 0)
        made = _stored(table, rule(*(_numbers(table, each) for each in given), **how))
        # What numpy takes out of an array as a number is no part of it.
        if out is None or not out[0].ndim:
            return made
        if not isinstance(out[0], ExactArray):
            raise MissingError(MADE_BEFORE)
        out[0][...] = made
        return out[0]

    def __array_function__(self, function: Any, types: Any, args: Any, options: Any) -> Any:
        return _function(function.__name__)(self.table, *args, **options)

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise MissingError(MADE_BEFORE)

    def __getitem__(self, key: Any) -> ExactArray:
        return ExactArray(self.table, self.rows[key])

    def __setitem__(self, key: Any, value: Any) -> None:
        self.rows[key] = rows_of(self.table, value)

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[ExactArray]:
        return (self[i] for i in range(len(self)))

    def __float__(self) -> float:
        return float(_read(self.table, self))

    def __bool__(self) -> bool:
        return bool(_read(self.table, self))

    def __deepcopy__(self, memo: object) -> ExactArray:
        return ExactArray(self.table, self.rows.copy())


def has_exact(given: Any) -> bool:
    """Return whether it is an array of exact numbers, or a list that holds one."""
    if isinstance(given, list | tuple):
        return any(map(has_exact, given))
    return isinstance(given, ExactArray)


def rows_of(table: Table, given: Any) -> Array:
    """Return the rows of numbers, exact or plain, or of lists of them."""
    if isinstance(given, ExactArray):
        return given.rows
    if has_exact(given):
        return np.array([rows_of(table, each) for each in given])
    return table.write(constant(table.field, given))


def _numbers(table: Table, given: Any) -> Numbers:
    return given.numbers if isinstance(given, ExactArray) else constant(table.field, given)


def _stored(table: Table, made: Any) -> Any:
    return ExactArray(table, table.write(made)) if isinstance(made, Numbers) else made


def _exact(table: Table, rows: Any) -> Any:
    if isinstance(rows, list | tuple):
        return type(rows)(_exact(table, each) for each in rows)
    return ExactArray(table, rows) if is_floating(rows) else rows


def is_floating(array: Any) -> bool:
    """Return whether it is an array of floats, or one of them."""
    return hasattr(array, "dtype") and array.dtype.kind == "f"


def _function(name: str) -> Callable[..., Any]:
    """Find what runs a function of numpy; it takes the table first."""
    for names, run in ((_MOVES, _moved), (_BILINEAR, _multiplied)):
        if name in names.split():
            return partial(run, getattr(np, name))
    if name not in _ALONE and name not in FUNCTIONS:
        raise MissingError(f"np.{name} has no rule for exact numbers")
    return _ALONE.get(name) or partial(_computed, FUNCTIONS[name])


def _computed(
    rule: Callable[..., Any], table: Table, array: Any, *others: Any, dtype: Any = None, **how: Any
) -> Any:
    given = [each.numbers if isinstance(each, ExactArray) else each for each in others]
    return _stored(table, rule(ExactArray(table, rows_of(table, array)).numbers, *given, **how))


def _moved(function: Callable[..., Any], table: Table, *args: Any, **options: Any) -> Any:

    def rows(given: Any, is_number: bool = False) -> Any:
        if isinstance(given, list | tuple):
            return type(given)(rows(each, is_number or has_exact(given)) for each in given)
        is_float = isinstance(given, float) or is_floating(given)
        return rows_of(table, given) if is_float or is_number else given

    if not _COMPUTING.isdisjoint(each for each in (*args, *options.values()) if type(each) is str):
        raise MissingError(f"np.{function.__name__} that computes has no rule for exact numbers")
    if np.dtype(options.get("dtype", float)).kind == "f":
        options.pop("dtype", None)
    given = {key: rows(each, key == "constant_values") for key, each in options.items()}
    return _exact(table, function(*map(rows, args), **given))


def _multiplied(
    function: Callable[..., Any], table: Table, *args: Any, optimize: Any = None, **how: Any
) -> Any:
    """Run a function that is linear in each of two arrays."""
    before: tuple[Any, ...] = ()
    if isinstance(args[0], str):  # of einsum
        inner, arrow, outer = args[0].partition("->")
        if len(args) == 2:
            args = f"{inner},{arrow}{outer}", args[1], 1.0
        if len(args) > 3:
            raise MissingError("np.einsum of more than two arrays has no rule for exact numbers")
        before, args = args[:1], args[1:]

    def of(a: Array, b: Array) -> Array:
        return function(*before, a, b, *args[2:], **how)

    return _stored(table, bilinear(of, *(_numbers(table, each) for each in args[:2])))


def _add_at(table: Table, target: Any, at: Any, values: Any) -> None:
    if not isinstance(target, ExactArray):
        raise MissingError(MADE_BEFORE)
    columns = target.numbers.columns[:3]
    for mine, added in zip(columns, _numbers(table, values).columns, strict=False):
        np.add.at(mine, at, added)
    shadow, *rest = columns
    target[...] = _stored(table, Numbers(table.field, shadow, *map(table.field.reduce, rest)))


def _read(table: Table, array: ExactArray) -> Array:
    numbers = array.numbers
    if (numbers.tangent != 0).any():
        table.field.notes.add(READ)
    return numbers.shadow


def _converted(table: Table, array: ExactArray, dtype: Any = float, **_: Any) -> Any:
    is_float = np.dtype(dtype).kind == "f"
    return array.copy() if is_float else _read(table, array).astype(dtype)


def _where(table: Table, condition: Any, *pair: Any) -> Any:
    if isinstance(condition, ExactArray):
        condition = condition.numbers.shadow != 0
    if not pair:
        return np.nonzero(condition)
    return ExactArray(table, np.where(condition, *(rows_of(table, each) for each in pair)))


_MOVES: Final = """
    array_split atleast_1d atleast_2d atleast_3d block broadcast_arrays broadcast_to column_stack
    concatenate copy delete diag diagflat diagonal dstack expand_dims flip fliplr flipud hsplit
    hstack moveaxis ones_like pad ravel repeat reshape roll rollaxis rot90 split squeeze stack
    swapaxes take take_along_axis tile transpose tril triu vsplit vstack zeros_like
"""
# The modes of np.pad that do not move elements.
_COMPUTING: Final = {"linear_ramp", "maximum", "mean", "median", "minimum"}
_BILINEAR: Final = "convolve cross dot einsum inner kron outer tensordot vdot"
_ALONE: Final[dict[str, Callable[..., Any]]] = {
    "astype": _converted, "where": _where, "empty_like": partial(_moved, np.zeros_like),
    "full_like": lambda table, array, value: np.zeros_like(array) + value,
    "item": lambda table, array, *at: _read(table, array).item(*at),
    "tolist": lambda table, array: _read(table, array).tolist(),
}  # fmt: skip


MAKERS: Final = "zeros ones full eye identity zeros_like ones_like full_like copy"


# Any: what functions of numpy take and return.
def numpy_for(table: Table) -> SimpleNamespace:
    """Make the numpy whose new arrays are exact."""

    def made(function: Callable[..., Any], *how: Any, **options: Any) -> Any:
        array = function(*how, **options)
        is_plain = isinstance(array, np.ndarray) and is_floating(array)
        return ExactArray(table, rows_of(table, array)) if is_plain else array

    def array(values: Any, *how: Any, **options: Any) -> Any:
        if isinstance(values, ExactArray):
            return values.astype(*how, **options) if how or options else values.copy()
        if has_exact(values):
            return ExactArray(table, rows_of(table, values))
        return made(np.array, values, *how, **options)

    def as_array(values: Any, *how: Any, **options: Any) -> Any:
        return values if isinstance(values, ExactArray) else array(values, *how, **options)

    makers = {name: partial(made, getattr(np, name)) for name in MAKERS.split()}
    others = {
        "array": array, "empty": makers["zeros"], "empty_like": makers["zeros_like"],
        **dict.fromkeys(("asarray", "asanyarray", "ascontiguousarray"), as_array),
    }  # fmt: skip
    return SimpleNamespace(**{**vars(np), **makers, **others})
