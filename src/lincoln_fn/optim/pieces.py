"""An optimizer's update of some parameters at a time, for optimizers that update leaf by leaf."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final, TypeAlias

import optree
from torch import Tensor

from lincoln_fn.core import TRAINED, Params, made_by, unexpected
from lincoln_fn.optim.accumulate import accumulate
from lincoln_fn.optim.by_path import Patterns
from lincoln_fn.optim.ema import ema
from lincoln_fn.optim.galore import galore
from lincoln_fn.optim.leafwise import update as of_leaves
from lincoln_fn.optim.leaves import Entry, is_leaf_state
from lincoln_fn.optim.lookahead import lookahead
from lincoln_fn.optim.optimizer import Optimizer, OptimizerState
from lincoln_fn.optim.reduce_on_plateau import reduce_on_plateau
from lincoln_fn.optim.schedule_free import schedule_free
from lincoln_fn.optim.transforms import chain, clip_by_global_norm, clip_by_value, weight_decay

Update: TypeAlias = Callable[[Params, Params, OptimizerState], tuple[Params, OptimizerState]]
# Transforms that change each leaf by itself. What they keep once, all leaves share.
_BY_LEAF: Final = (
    *(accumulate, clip_by_value, ema, galore, lookahead, reduce_on_plateau, schedule_free),
    weight_decay,
)


def split_clip(optimizer: Optimizer) -> tuple[float | None, Optimizer]:
    """Divide an optimizer into its clip by the global norm, if it begins with one, and the rest.

    Raises:
        LayerError: if the rest needs the gradients of several parameters at a time.
    """
    max_norm = None
    if optimizer.spec is not None and optimizer.spec.of is chain:
        first, *others = optimizer.spec["parts"]
        if made_by(first, clip_by_global_norm):
            max_norm, optimizer = first.spec["max_norm"], chain(*others)
    for part in _parts(optimizer):
        own = part.update if isinstance(part, Optimizer) else None
        is_leafwise = isinstance(own, partial) and own.func is of_leaves
        if not is_leafwise and not made_by(part, *_BY_LEAF):
            mend = 'leave out update="walk"'
            if made_by(part, clip_by_global_norm):
                mend = "put it first: chain(clip_by_global_norm(1.0), adamw())"
            expected = "an optimizer that updates leaf by leaf"
            raise unexpected('make_step: update="walk"', expected, part, mend)
    return max_norm, optimizer


def _parts(optimizer: Any) -> list[Any]:  # Any: a transform or an optimizer
    own, parts = getattr(optimizer, "update", None), [optimizer]
    if made_by(optimizer, chain):
        parts = optimizer.spec["parts"]
    elif isinstance(own, partial) and own.args and isinstance(own.args[0], Patterns):
        parts = own.args[1]
    whole = parts[0] is optimizer
    return parts if whole else [each for part in parts for each in _parts(part)]


def _flat(mirror: Params) -> dict[str, Entry]:
    """Return what a tree that mirrors the params has for each of them, by its path."""
    paths, found, _ = optree.tree_flatten_with_path(
        mirror, is_leaf=is_leaf_state, namespace=TRAINED
    )
    return {".".join(map(str, path)): leaf for path, leaf in zip(paths, found, strict=True)}


class Pieces:
    """An optimizer's update, of some parameters at a time, each a leaf by its path.

    Of a state, a piece has the entries of its parameters in each tree that mirrors the params. All
    else, such as a count of steps, each piece has, and moves alike.
    """

    # It belongs to one step, and ends with it.

    def __init__(self, update: Update, params: Params, state: OptimizerState) -> None:
        self._update, self._params, self._state, self._old = update, params, state, _flat(params)
        self.paths, self._new = [*self._old], dict[str, Tensor]()
        self._flat = self._moved = self._map(self._mirrors, _flat, state)
        if not isinstance(params, Tensor):
            self.take({})  # which looks at the state, before anything is updated

    def _map(self, ends: Callable[[Any], bool], f: Callable[..., Any], *states: Any) -> Any:
        def at(first: Any, *rest: Any) -> Any:
            return f(first, *rest) if ends(first) else (first, *rest)[-1]

        def is_leaf(node: object) -> bool:
            return is_leaf_state(node) or ends(node)

        return optree.tree_map(at, *states, is_leaf=is_leaf, namespace=TRAINED)

    def _mirrors(self, node: Any) -> bool:
        if isinstance(node, Tensor) or type(node) is not type(self._params):
            return False
        return bool(paths := _flat(node).keys()) and paths <= self._old.keys()

    def take(self, grads: dict[str, Tensor]) -> None:
        """Update the parameters that have a gradient here."""
        params = {path: self._old[path] for path in grads}
        piece = self._map(_is_dict, lambda of: {p: of[p] for p in grads if p in of}, self._flat)
        new, state = self._update(params, grads, piece)
        self._new |= new
        self._moved = self._map(_is_dict, lambda old, new: old | new, self._moved, state)

    def end(self) -> tuple[Params, OptimizerState]:
        """Return all new parameters, and the new state."""

        def placed(old: Params, new: dict[str, Any]) -> Params:
            each = iter([new[path] for path in _flat(old)])
            return optree.tree_map(
                lambda _: next(each), old, is_leaf=is_leaf_state, namespace=TRAINED
            )

        state = self._map(self._mirrors, placed, self._state, self._moved)
        return placed(self._params, self._new), state


def _is_dict(node: object) -> bool:
    return type(node) is dict
