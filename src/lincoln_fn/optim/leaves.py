"""Apply an update rule to the leaves of parameters, gradients and a state, one leaf at a time.

What a state keeps of a parameter is a tensor of the parameter's shape, or a `LeafState`: a record
of tensors of other shapes. Its trees have one entry for each parameter.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias, TypeVar

import optree
import torch
from torch import Tensor

from lincoln_fn.core import TRAINED, LayerError, Params, State, describe, tree, unexpected
from lincoln_fn.optim.optimizer import OptimizerState

S = TypeVar("S")


class LeafState:
    """What a state keeps of one parameter, where that is not of the parameter's shape."""

    def fits(self, p: Tensor) -> bool:
        """Return whether this belongs to a parameter of p's shape."""
        raise NotImplementedError


Entry: TypeAlias = Any  # a leaf, None for one of a tree that is not used, or a `LeafState`
# From a leaf of each tree to as many new leaves.
Rule: TypeAlias = Callable[..., tuple[Entry, ...]]
Lists: TypeAlias = list[list[Entry]]  # one list for each tree


def update_leaves(
    name: str, rule: Rule, params: Params, grads: Params, *kept: Params
) -> tuple[Params, ...]:
    """Apply a rule to every leaf; the results have the dtypes of the old leaves."""
    return update_lists(name, partial(each_leaf, rule), params, grads, *kept)


def is_leaf_state(node: object) -> bool:
    """Return whether a node of a kept tree is what a state keeps of one parameter."""
    return isinstance(node, LeafState)


def update_lists(
    name: str,
    rule: Callable[[Lists], Lists],
    params: Params,
    grads: Params,
    *kept: Params,
) -> tuple[Params, ...]:
    """Apply a rule to all leaves at once: [[p, ...], [dp, ...], ...] -> [[p, ...], ...]."""
    # The rule returns no list for the gradients.
    leaves, gradients, structure = flatten_with_gradients(name, params, grads)
    lists, structures = [leaves, gradients], [structure]
    for mirror in kept:
        of_mirror, structure = optree.tree_flatten(mirror, is_leaf=is_leaf_state, namespace=TRAINED)
        of_mirror = [None] * len(leaves) if mirror is None else of_mirror
        if len(of_mirror) != len(leaves):
            expected = f"a state with trees of {len(leaves)} tensors, one a parameter"
            raise unexpected(name, expected, len(of_mirror))
        for i, (p, other) in enumerate(zip(leaves, of_mirror, strict=True)):
            fits = other.fits(p) if isinstance(other, LeafState) else _is_like(other, p)
            if mirror is not None and not fits:
                raise _wrong_shape(name, "a state", params, i, p, other)
        lists.append(of_mirror)
        structures.append(structure)
    return tuple(
        None if old is None else structure.unflatten(new)
        for old, structure, new in zip((params, *kept), structures, rule(lists), strict=True)
    )


def _is_like(given: object, p: Tensor) -> bool:
    return isinstance(given, Tensor) and p.shape == given.shape


def flatten_with_gradients(
    name: str, params: Params, grads: Params
) -> tuple[list[Entry], list[Entry], optree.PyTreeSpec]:
    """List parameters and gradients; each gradient has to have its parameter's shape and dtype."""
    leaves, structure = optree.tree_flatten(params, namespace=TRAINED)
    try:
        gradients = structure.flatten_up_to(grads)
    except ValueError as error:
        problem = f"expected gradients of the parameters' structure; {error}"
        raise LayerError(name, problem) from error
    for i, (p, dp) in enumerate(zip(leaves, gradients, strict=True)):
        if not _is_like(dp, p):
            raise _wrong_shape(name, "a gradient", params, i, p, dp)
        if p.dtype is not dp.dtype:
            expected = f"a gradient of its parameter's dtype {p.dtype}{_place(params, i)}"
            raise unexpected(name, expected, dp.dtype)
    return leaves, gradients, structure


def _wrong_shape(
    name: str, what: str, params: Params, i: int, p: Tensor, given: object
) -> LayerError:
    got = tuple(given.shape) if isinstance(given, Tensor) else type(given).__name__
    expected = f"{what} of its parameter's shape {tuple(p.shape)}{_place(params, i)}"
    return unexpected(name, expected, got)


def _place(params: Params, i: int) -> str:
    """Name the path of leaf i: " at 0.weight"; "" for a parameter that is the whole tree."""
    path = tree.paths(params)[i]
    return f" at {path}" if path else ""


def check_state(
    name: str, state: OptimizerState, expected: type[OptimizerState] | None, **kept: bool
) -> None:
    """Check that a state belongs to the optimizer, and has the fields that its update needs."""
    is_right = type(state) is expected if expected else type(state) is tuple and not state
    wanted = expected.__name__ if expected else "()"
    wrong = (f for f, is_kept in kept.items() if (getattr(state, f) is not None) is not is_kept)
    if expected and is_right and (field := next(wrong, None)):
        is_right, wanted = False, f"{wanted} {'with' if kept[field] else 'without'} {field}"
    if not is_right:
        raise unexpected(name, f"state {wanted}", describe(state), "init(params) makes one")


def states_in(state: OptimizerState, kind: type[S]) -> list[S]:
    """List the records of a kind in an optimizer's state, at any depth."""
    found = list[S]()

    def visit(node: object) -> bool:
        if isinstance(node, kind):
            found.append(node)
        return False  # another one may be inside

    optree.tree_leaves(state, is_leaf=visit, namespace=TRAINED)
    return found


def find_state(name: str, state: OptimizerState, kind: type[S], what: str) -> S:
    """Find the one record of a kind in an optimizer's state, at any depth."""
    found = states_in(state, kind)
    if len(found) != 1:
        raise unexpected(name, f"a state with one {what}", len(found))
    return found[0]


def each_leaf(rule: Rule, lists: Lists) -> Lists:
    """Apply a rule to the leaves one after the other, and keep their dtypes."""
    rows = [rule(*row) for row in zip(*lists, strict=True)]
    return [
        [_as(row[i], leaf) for row, leaf in zip(rows, old, strict=True)]
        for i, old in enumerate([lists[0], *lists[2:]])
    ]


def _as(new: Entry, old: Entry) -> Entry:
    """Keep a leaf's dtype: one without axes would take that of a float64 learning rate."""
    if isinstance(new, LeafState):
        return tree.map(_as, new, old)
    return new if new is None or new.dtype is old.dtype else new.to(old.dtype)


def state_tree(f: Callable[[Tensor], Tensor | LeafState], params: Params) -> Params:
    """Make a tree for an optimizer's state, which mirrors the params; a `State` becomes None."""

    def is_state(node: object) -> bool:
        return isinstance(node, State)

    def make(leaf: Entry) -> Tensor | LeafState | None:
        return None if is_state(leaf) else f(leaf)

    return optree.tree_map(make, params, is_leaf=is_state, namespace=TRAINED)


def fill_like(params: Params, value: float = 0.0) -> Params:
    """Make a tree for an optimizer's state, filled with one number."""
    return state_tree(lambda p: torch.full_like(p, value), params)


def check_whole(name: str, params: Params) -> None:
    """Refuse parameters of which this process has a slice: the update needs all their numbers."""

    def is_slice(node: object) -> bool:
        return bool(getattr(type(node), "is_slice", False) and tree.leaves(node))

    nodes = optree.tree_leaves(params, is_leaf=is_slice, namespace=TRAINED)
    if any(map(is_slice, nodes)):
        mend = "an optimizer that updates each number by itself, such as adamw, serves them"
        raise unexpected(name, "whole parameters", "slices of fully_sharded", mend)


def no_steps(params: Params) -> Tensor:
    """Make the count of steps before the first, 0, on the parameters' device."""
    leaves = tree.leaves(params, states=True)  # all may be frozen
    return torch.zeros((), dtype=torch.int64, device=leaves[0].device if leaves else None)
