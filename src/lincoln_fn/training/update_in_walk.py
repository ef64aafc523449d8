"""The update in the walk: each layer's gradient is computed, used and freed as the walk goes back.

An optimizer that updates leaf by leaf needs no gradient but that of its leaf. So the gradients that
are alive at once are those of one layer, and not those of all.

The plan says which visits a parameter's gradient is the sum of. Each composition's own `gather` is
given names in place of gradients, and adds them up: most parameters have one visit, the matrix of
`tied` has two. A parameter is updated after its last visit. A composition that uses all its params
several times, as `scan` does, or whose `gather` does more than add and cast, is visited as one
layer.

A global norm is known only at the end of a walk, so with it the walk keeps each visit's g. For a
sum of outer products over the rows t, with X and G their matrices of rows,

    ||X^T G||^2 = sum_(ts) (X X^T)_(ts) (G G^T)_(ts)

which costs less than X^T G if there are few rows. Else X^T G is computed, and freed. Then comes
each layer's gradient again, and its update. What is smaller is kept of a visit: its g, or its
gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, TypeAlias

import attrs
import optree
import torch
from torch import Tensor

from lincoln_fn import core, optim
from lincoln_fn.core import TRAINED, Arrays, Cache, Layer, LayerError, Outer, Params, tree
from lincoln_fn.losses import Loss
from lincoln_fn.optim import Optimizer, OptimizerState
from lincoln_fn.optim.internal import Patterns, is_leaf_state, transforms
from lincoln_fn.optim.leafwise import update as of_leaves
from lincoln_fn.training.bare_step import Update, forward_and_g
from lincoln_fn.training.data import Batch
from lincoln_fn.training.donation import unshare
from lincoln_fn.training.train import StepFunction, TrainState
from lincoln_fn.walk import Composition, Site, forward_to_train, grads_at
from lincoln_fn.walk.internal import BACKWARD, DPARAMS, Wants, composition_of, inside, walk_back

# Transforms that change each leaf by itself. What they keep once, all leaves share.
_BY_LEAF: Final = (
    optim.accumulate, optim.clip_by_value, optim.ema, optim.galore, optim.schedule_free,
    optim.weight_decay,
)  # fmt: skip
_MEND: Final = "or leave out update, for which it gets all gradients at once"

# The path of a visit, and the place among the leaves of the layer's params.
Visit: TypeAlias = tuple[str, int]
ByPath: TypeAlias = dict[str, Any]  # Any: what an optimizer keeps of a parameter


@attrs.frozen(eq=False)
class Use(core.Addable):
    """The gradient of a parameter, as a function of the gradients of some visits."""

    visits: tuple[Visit, ...]
    value: Callable[[Callable[[Visit], Tensor]], Tensor]

    def joined(self, other: Use) -> Use:
        """Add two gradients."""
        both = self.visits + other.visits
        return Use(both, lambda of: torch.add(self.value(of), other.value(of)))

    def to(self, dtype: torch.dtype) -> Use:
        """Cast a gradient."""
        return Use(self.visits, lambda of: self.value(of).to(dtype))


def uses_of(net: Layer, params: Params) -> tuple[list[Use | Tensor], set[Composition]]:
    """Return the gradient of each parameter, and the compositions that are visited as one layer."""
    whole: set[Composition] = set()
    while True:  # until each composition is visited in one way wherever it stands
        before = len(whole)
        uses = tree.leaves(_uses(net, "", params, whole))
        if len(whole) == before:
            return uses, whole


def _uses(layer: Layer, path: str, params: Params, whole: set[Composition]) -> Params:
    made, places = composition_of(layer), iter(range(len(tree.leaves(params))))

    def visit(i: int, entry: Params, _: None) -> Params:
        return _uses(layer.parts[i], inside(path, i), entry, whole)

    def use(_: Tensor) -> Use:
        at = path, next(places)
        return Use((at,), lambda of: of(at))

    if made is not None and made not in whole:
        try:  # more records than parts: a part that is used several times shows it
            uses = made.gather(visit, params, (None,) * (len(made.parts) + 2))
        except Exception:  # of a gather that reads the records
            uses = None
        found = tree.leaves(uses)
        is_single = any(len(each.visits) == 1 for each in found if isinstance(each, Use))
        if tree.same_structure(uses, params) and (is_single or not found):
            return uses
        whole.add(made)
    return tree.map(use, params)


Flat: TypeAlias = tuple[dict[str, Any], optree.PyTreeSpec]


def _flat(tree: Params) -> Flat:
    """Return what a tree has for each parameter, by path, and its structure."""
    paths, found, structure = optree.tree_flatten_with_path(
        tree, is_leaf=is_leaf_state, namespace=TRAINED
    )
    return {".".join(map(str, path)): leaf for path, leaf in zip(paths, found)}, structure


class _Pieces:
    """An optimizer's update, of some parameters at a time, each a leaf by its path.

    Of a state, a piece has the entries of its parameters in each tree that mirrors the params. All
    else, such as a count of steps, each piece has, and moves alike.
    """

    # It belongs to one step, and ends with it.

    def __init__(self, update: Update, params: Params, state: OptimizerState) -> None:
        self._update, self._params, self._new = update, params, dict[str, Tensor]()
        self._old, _ = _flat(params)
        self.paths = [*self._old]
        kept, self._form = optree.tree_flatten(
            state, is_leaf=lambda node: is_leaf_state(node) or self._mirrors(node),
            namespace=TRAINED,
        )  # fmt: skip
        self._kept = [_flat(each) if self._mirrors(each) else each for each in kept]
        self._moved = [{} if isinstance(each, tuple) else each for each in self._kept]
        if not isinstance(params, Tensor):
            self.take({})  # which looks at the state, before anything is updated

    def _mirrors(self, node: Params) -> bool:
        if isinstance(node, Tensor) or type(node) is not type(self._params):
            return False
        paths = _flat(node)[0].keys()
        return bool(paths) and paths <= self._old.keys()

    def take(self, grads: dict[str, Tensor]) -> None:
        """Update the parameters that have a gradient here."""
        piece = [
            {path: each[0][path] for path in grads if path in each[0]}
            if isinstance(each, tuple) else each
            for each in self._kept
        ]  # fmt: skip
        params = {path: self._old[path] for path in grads}
        params, state = self._update(params, grads, self._form.unflatten(piece))
        self._new |= params
        moved = zip(self._moved, self._form.flatten_up_to(state), strict=True)
        self._moved = [old | new if isinstance(new, dict) else new for old, new in moved]

    def whole(self) -> tuple[Params, OptimizerState]:
        """Return all new parameters, and the new state."""
        missing = [path for path in self.paths if path not in self._new]
        if missing:
            problem = f"expected the walk back to visit each part with params, but not {missing[0]}"
            raise LayerError("make_step", f"{problem}; {_MEND}")
        state = [
            each[1].unflatten([new[path] for path in each[0]]) if isinstance(each, tuple) else new
            for each, new in zip(self._kept, self._moved, strict=True)
        ]
        new = iter([self._new[path] for path in self.paths])
        return tree.map(lambda _: next(new), self._params), self._form.unflatten(state)


def update_in_walk(
    net: Layer, update: Update, max_norm: float | None, params: Params, advanced: Params,
    state: OptimizerState, cache: Cache, g: Arrays,
) -> tuple[Params, OptimizerState]:  # fmt: skip
    """Walk back, and update each parameter; with a largest norm, after the walk."""
    (uses, whole), pieces = uses_of(net, params), _Pieces(update, advanced, state)
    sites: dict[str, Site] = {}
    groups: dict[frozenset[str], list[int]] = {}  # the parameters, by the paths of their visits
    for i, use in enumerate(uses):
        paths = frozenset(at for at, _ in use.visits) if isinstance(use, Use) else frozenset()
        groups.setdefault(paths, []).append(i)
    left = {path: [group for group in groups if path in group] for path in frozenset().union(*groups)}

    def gradients(group: frozenset[str]) -> dict[str, Tensor]:
        found = {at: tree.leaves(grads_at(sites[at].layer, sites[at].params, sites[at])) for at in group}

        def of(visit: Visit) -> Tensor:
            return found[visit[0]][visit[1]]

        return {
            pieces.paths[i]: use.value(of) if isinstance(use := uses[i], Use) else use
            for i in groups[group]
        }

    def take(group: frozenset[str], norm: Tensor | None = None) -> None:
        grads = gradients(group)
        pieces.take(grads if norm is None else transforms.clip(grads, norm, max_norm))
        for path in group:
            left[path].remove(group)
            if not left[path]:
                del sites[path]

    def leaf(
        layer: Layer, path: str, params: Params, cache: Cache, g: Arrays, wants: Wants
    ) -> tuple[Arrays, None]:
        if not wants.dparams or path not in left:
            return BACKWARD.visit(layer, path, params, cache, g, wants)[0], None
        if not left[path] or path in sites:
            raise LayerError(layer.name, f"expected one visit on the way back; {_MEND}")
        waits = max_norm is not None or any(len(group) > 1 for group in left[path])
        if waits and _is_smaller(layer, params, g):
            dx = layer.input_grad(params, cache, g) if wants.dx else None
            sites[path] = Site(layer, path, params, cache, g, None)
        else:
            dx, dparams = BACKWARD.visit(layer, path, params, cache, g, wants)
            sites[path] = Site(layer, path, params, None, None, dparams)
        for group in [] if max_norm is not None else [*left[path]]:
            if group <= sites.keys():
                take(group)
        return dx, None

    walk_back(
        leaf, net, params, cache, g, DPARAMS, skip=lambda *_: None,
        enters=lambda made: made not in whole,
    )  # fmt: skip
    norm = None
    if max_norm is not None:
        norms = [norm for group in groups for norm in _norms(group, sites, gradients)]
        norm = torch.linalg.vector_norm(torch.stack(norms)) if norms else None
    for group in [*groups]:
        if group <= sites.keys():
            take(group, norm)
    return pieces.whole()


def _is_smaller(layer: Layer, params: Params, g: Arrays) -> bool:
    """Return whether to keep g in place of a gradient, which alone can be computed later."""
    shares = core.is_derived(layer, "grads") or core.is_derived(layer, "input_grad")
    sizes = [sum(leaf.numel() for leaf in tree.leaves(each)) for each in (g, params)]
    return layer.composition is None and not shares and sizes[0] < sizes[1]


def _norms(
    group: frozenset[str], sites: Mapping[str, Site],
    gradients: Callable[[frozenset[str]], dict[str, Tensor]],
) -> list[Tensor]:  # fmt: skip
    """Compute the norms of some parameters' gradients, by products of rows if they cost less."""
    site = sites[next(iter(group))] if len(group) == 1 else None
    declared = None if site is None or site.dparams is not None else core.gradients_of(site.layer)
    if declared is not None and declared.terms is not None and site.g.ndim > 1:
        terms = tree.leaves(declared.terms(site.params, site.cache, site.g))
        norms = [_norm_of_sum(term) for term in terms]
        if all(norm is not None for norm in norms):
            return norms
    each = gradients(group).values()
    return [torch.linalg.vector_norm(transforms.widened(dp)) for dp in each]


def _norm_of_sum(term: Any) -> Tensor | None:  # Any: a term, or zeros
    """Compute the norm of a sum over examples, if it costs less than the sum."""
    if isinstance(term, core.Explicit):
        return torch.linalg.vector_norm(term.values.sum(0))
    if isinstance(term, Outer):
        x, g = (rows.flatten(0, 1) for rows in (term.x, term.g))
        if len(x) * (x.shape[1] + g.shape[1]) < x.shape[1] * g.shape[1]:
            return ((x @ x.mT) * (g @ g.mT)).sum().clamp(min=0).sqrt()
    return None


def split_clip(optimizer: Optimizer) -> tuple[float | None, Optimizer]:
    """Divide an optimizer into a clip by the global norm, if it begins with one, and the rest.

    Raises:
        LayerError: if the rest needs the gradients of several parameters at a time.
    """
    max_norm, rest = None, optimizer
    if core.made_by(optimizer, optim.chain):
        first, *others = optimizer.spec["parts"]
        if core.made_by(first, optim.clip_by_global_norm):
            max_norm, rest = first.spec["max_norm"], optim.chain(*others)
    _check_by_leaf(rest)
    return max_norm, rest


def _check_by_leaf(optimizer: Optimizer) -> None:
    own, problem = optimizer.update, "expected an optimizer that updates leaf by leaf"
    if core.made_by(optimizer, optim.chain):
        *changes, inner = optimizer.spec["parts"]
        for change in changes:
            if core.made_by(change, optim.clip_by_global_norm):
                mend = "put it first: chain(clip_by_global_norm(1.0), ..., adamw(1e-3))"
                raise LayerError('make_step: update="walk"', f"{problem}, got {change} within; {mend}")
            if not core.made_by(change, *_BY_LEAF):
                raise LayerError('make_step: update="walk"', f"{problem}, got {change}; {_MEND}")
        _check_by_leaf(inner)
    elif isinstance(own, partial) and own.args and isinstance(own.args[0], Patterns):
        for part in own.args[1]:
            _check_by_leaf(part)
    elif not (isinstance(own, partial) and own.func is of_leaves):
        mend = "take one such as adamw"
        raise LayerError('make_step: update="walk"', f"{problem}, got {optimizer}; {mend}, {_MEND}")


def walking_step(
    layer: Layer, loss: Loss, update: Update, state: TrainState, batch: Batch,
    *, max_norm: float | None, has_parts: bool, donate: bool,
) -> tuple[TrainState, Tensor]:  # fmt: skip
    """Take a bare step, with the update in the walk."""
    params, opt_state = state.params, state.opt_state
    forward = partial(forward_to_train, layer)
    value, g, cache = forward_and_g(forward, layer.name, loss, params, batch, has_parts)
    advanced = layer.advance(params, cache)
    if donate:
        reason, mend = "donate=True updates the state in place", "use a step without donate"
        core.check_not_transformed("step", reason, mend, (value, advanced, opt_state))
        total = value[0] if has_parts else value
        if not (total.ndim == 0 and core.is_finite(total)):
            return state, value  # the step refuses this loss, so the state must not be updated
        advanced, opt_state = unshare((advanced, opt_state))
        # What shares memory with a parameter before it is read after that one is updated.
        params = tree.map(lambda _, new: new, params, advanced)
    updated = update_in_walk(layer, update, max_norm, params, advanced, opt_state, cache, g)
    return TrainState(*updated, state.key, state.step + 1, state.gradient_state), value
