"""Frozen records of tensors, and the marker for those that are carried but not trained.

Parameters, caches and states are all records: attrs classes that cannot be changed after they are
made. `record` also registers the class with optree and torch, so that a record can be mapped over,
saved, compiled and exported like a tuple.

optree sees each record in two views, which are namespaces of its registry:

- `TRAINED`: the leaves that an optimizer updates. A `State` has none here, and stays unchanged.
- `EVERYTHING`: every tensor, including those inside a `State`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import singledispatch
from html import escape
from importlib import import_module
from importlib.util import find_spec
from operator import attrgetter
from typing import Any, Final, TypeVar

import attrs
import optree
import torch.utils._pytree as torch_pytree
from typing_extensions import dataclass_transform

from lincoln_fn.errors.descriptions import format_briefly

TRAINED: Final = "lincoln_fn.trained"
EVERYTHING: Final = "lincoln_fn.everything"

T = TypeVar("T")


class State:
    """Marks a record whose tensors are carried from step to step but not trained.

    Running statistics and keys are states: `tree.map` passes them through unchanged, checkpoints
    save them, and only `advance` makes new ones.
    """

    __slots__ = ()


# Any: the default may have any type, and the result has the field's type.
def static(**options: Any) -> Any:
    """Declare a field that is part of a record's structure and not a leaf: a number, a name.

    The options are those of `attrs.field`, such as `default`.

    Example:
        >>> @record
        ... class Cache:
        ...     x: Tensor
        ...     dim: int = static(default=-1)
        >>> optree.tree_leaves(Cache(7, dim=0), namespace=TRAINED)
        [7]
    """
    return attrs.field(metadata={"static": True}, **options)


@dataclass_transform(frozen_default=True, eq_default=False, field_specifiers=(static, attrs.field))
def record(cls: type[T]) -> type[T]:
    """Make a class a frozen record that optree and torch know as a tree.

    Two records are equal only if they are the same object, because comparing tensors gives no
    single answer. Printing a record shows each tensor's dtype and shape, not its numbers.

    Example:
        >>> @record
        ... class Params:
        ...     weight: Tensor
        >>> Params(torch.zeros(2, 3))
        Params(weight=float32[2, 3])
    """
    frozen: Any = attrs.frozen(cls, eq=False, repr=False)  # Any: attrs makes a new class
    frozen.__repr__ = _repr
    if not hasattr(frozen, "_repr_html_"):
        frozen._repr_html_ = shown
    fields = attrs.fields(frozen)
    children = tuple(a.name for a in fields if not a.metadata.get("static"))
    constants = tuple(a.name for a in fields if a.metadata.get("static"))

    read, read_constants = _reader(children), _reader(constants)
    frozen.__tree_children__ = staticmethod(read)  # for `tree.children`
    # For `recording`, which makes a record from its children by these.
    frozen.__tree_setters__ = None if constants else _setters(frozen, children)
    make = _maker(frozen, children + constants)

    def flatten(tree: T) -> tuple[tuple[object, ...], tuple[object, ...], tuple[str, ...]]:
        return read(tree), read_constants(tree), children

    def unflatten(context: Any, values: Any) -> T:  # Any: leaves and constants of any kind
        made: T = make(*values, *context)
        return made

    is_state = issubclass(cls, State)
    in_training: tuple[Any, Any] = (_hold, _release) if is_state else (flatten, unflatten)
    # Any: optree's types know only its own collections.
    register: Any = optree.register_pytree_node
    register(frozen, flatten, unflatten, namespace=EVERYTHING)
    register(frozen, *in_training, namespace=TRAINED)
    _register_with_torch(frozen, children, constants, make)
    result: type[T] = frozen
    return result


def is_record(kind: type | None) -> bool:
    """Return whether a class is that of records, which know their parts."""
    return hasattr(kind, "__tree_children__")


# Any: each field has a type of its own.
def evolve(tree: T, **changes: Any) -> T:
    """Make a record like another, with some fields changed.

    It is `attrs.evolve` with types that any type checker accepts for records.

    Example:
        >>> @record
        ... class Params:
        ...     weight: Tensor
        ...     bias: Tensor | None
        >>> evolve(Params(torch.zeros(2, 3), torch.zeros(3)), bias=None)
        Params(weight=float32[2, 3], bias=None)
    """
    kind: Any = tree  # Any: of a class that attrs has made
    changed: T = attrs.evolve(kind, **changes)
    return changed


def _reader(names: tuple[str, ...]) -> Callable[[object], tuple[object, ...]]:
    if not names:
        return lambda tree: ()
    read = attrgetter(*names)
    return read if len(names) > 1 else lambda tree: (read(tree),)


# Any: a record class, and the values of its fields.
def _setters(cls: Any, names: tuple[str, ...]) -> tuple[Callable[[object, Any], None], ...]:
    return tuple(getattr(cls, name).__set__ for name in names)


def _maker(cls: Any, names: tuple[str, ...]) -> Callable[..., Any]:  # Any: as above
    # Not by the class's constructor, which may refuse values that a tree contains temporarily, such
    # as shapes or names.
    write = _setters(cls, names)

    def make(*values: object) -> Any:  # Any: as above
        made = object.__new__(cls)
        for set_field, value in zip(write, values, strict=True):
            set_field(made, value)
        return made

    return make


def _register_with_torch(
    cls: Any,  # Any: a record class
    children: tuple[str, ...],
    constants: tuple[str, ...],
    make: Callable[..., object],
) -> None:
    """Register a record with torch's pytree; fields that are None are structure, not leaves."""

    def flatten(tree: object) -> tuple[list[object], tuple[Any, ...]]:
        present = tuple(name for name in children if getattr(tree, name) is not None)
        values = [getattr(tree, name) for name in present]
        return values, (present, tuple(getattr(tree, name) for name in constants))

    def unflatten(values: Any, context: Any) -> object:  # Any: leaves and constants of any kind
        present, held = context
        given = dict(zip(present, values, strict=True))
        return make(*map(given.get, children), *held)

    def flatten_with_keys(tree: object) -> tuple[list[Any], tuple[Any, ...]]:
        values, context = flatten(tree)
        return list(zip(map(torch_pytree.GetAttrKey, context[0]), values, strict=True)), context

    torch_pytree.register_pytree_node(
        cls,
        flatten,
        unflatten,
        serialized_type_name=f"{cls.__module__}.{cls.__qualname__}",
        # JSON has only lists.
        to_dumpable_context=list,
        from_dumpable_context=_as_tuples,
        flatten_with_keys_fn=flatten_with_keys,
    )


def _as_tuples(value: object) -> object:
    return tuple(map(_as_tuples, value)) if isinstance(value, list | tuple) else value


@attrs.frozen(eq=False)
class _Held:
    """A state as structure: all are equal, so that params and dparams have the same structure."""

    state: State

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Held) and type(self.state) is type(other.state)

    def __hash__(self) -> int:
        return hash(type(self.state))


def _hold(state: State) -> tuple[tuple[()], _Held, tuple[()]]:
    return (), _Held(state), ()


def _release(held: _Held, _: object) -> State:
    return held.state


def _repr(self: attrs.AttrsInstance) -> str:
    shown = (f"{a.name}={format_briefly(getattr(self, a.name))}" for a in attrs.fields(type(self)))
    return f"{type(self).__name__}({', '.join(shown)})"


@singledispatch
def html(value: object) -> str:
    """Return the HTML of a value that a notebook shows: its repr, without a view for its class."""
    return f"<pre>{escape(repr(value))}</pre>"


def shown(value: object) -> str:
    """Return the HTML of a value, by the views of `notebook` where its rooms are there."""
    if find_spec("lincoln_fn.notebook") and find_spec("lincoln_fn.inspect"):
        import_module("lincoln_fn.notebook.views")
    return html(value)
