"""Trees of tensors as flat lists, and back, as a compiled step needs at every call."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeAlias

import optree
from torch import Tensor

from lincoln_fn.core import EVERYTHING, Arrays

# Any: optree's class, whose constructor no type checker knows.
Structure: TypeAlias = Any
Layouts: TypeAlias = tuple[Hashable, ...]


def flatten(given: Arrays) -> tuple[list[Tensor], Structure]:
    """List every tensor of a tree, from left to right."""
    return optree.tree_flatten(given, namespace=EVERYTHING)


def layouts(leaves: Sequence[Tensor]) -> Layouts:
    """Return the memory layout of tensors, which a compiled graph depends on."""
    try:
        return tuple([(leaf.shape, strides(leaf), leaf.dtype, leaf.device) for leaf in leaves])
    except (AttributeError, RuntimeError):
        return ()


def strides(x: Tensor) -> tuple[int, ...]:
    """Return a tensor's strides, 0 for an axis of one entry, whose stride does not matter."""
    shape, stride = x.shape, x.stride()
    if 1 not in shape:
        return stride
    return tuple([0 if n == 1 else s for n, s in zip(shape, stride, strict=True)])


def make_builder(
    structure: Structure,
) -> Callable[[Sequence[Tensor]], Any]:  # Any: a tree of its kind
    """Generate the code of a function that builds a tree of its leaves."""
    # It takes two fifths of the time of optree, which has to handle any tree, and it makes records
    # without a call of their constructors. The difference is measurable in small networks.
    known: dict[str, Any] = {"new": object.__new__}  # Any: whatever the function calls
    leaves = [f"leaf_{i}" for i in range(structure.num_leaves)]
    rest = iter(leaves)
    lines = [f"({''.join(f'{leaf}, ' for leaf in leaves)}) = leaves"]

    def name_value(value: object) -> str:
        known[name := f"known_{len(known)}"] = value
        return name

    def code_of(part: Structure) -> str:
        if part.is_leaf():
            return next(rest)
        entries = [code_of(child) for child in part.children()]
        listed = f"({''.join(f'{entry}, ' for entry in entries)})"
        made = f"made_{len(lines)}"
        setters = getattr(part.type, "__tree_setters__", None)
        if part.type is tuple:
            lines.append(f"{made} = {listed}")
        elif setters is None:
            lines.append(f"{made} = {name_value(part.one_level().unflatten)}({listed})")
        else:
            lines.append(f"{made} = new({name_value(part.type)})")
            for setter, entry in zip(setters, entries, strict=True):
                lines.append(f"{name_value(setter)}({made}, {entry})")
        return made

    lines.append(f"return {code_of(structure)}")
    exec("def build(leaves):\n    " + "\n    ".join(lines), known)
    built: Callable[[Sequence[Tensor]], Any] = known["build"]
    return built
