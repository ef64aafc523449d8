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

from collections.abc import Callable, Iterable
from typing import Any, Final, TypeAlias

import attrs
import torch
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import Arrays, Cache, Gather, Layer, LayerError, Outer, Params, tree
from lincoln_fn.optim import OptimizerState
from lincoln_fn.optim.internal import Pieces, transforms
from lincoln_fn.training.bare_step import Update
from lincoln_fn.walk import Composition, Site, grads_at, is_trained
from lincoln_fn.walk.internal import BACKWARD, DPARAMS, Wants, composition_of, inside, walk_back

_MEND: Final = 'leave out update="walk"'
# The path of a visit, and the place among the leaves of the layer's params.
Visit: TypeAlias = tuple[str, int]
Group: TypeAlias = frozenset[str]  # the paths of some visits
Found: TypeAlias = Any  # a gradient, or the term of one
Later: TypeAlias = tuple[Params, Cache, Arrays]  # a gradient that is not computed yet


@attrs.frozen(eq=False)
class Use(core.Addable):
    """The gradient of a parameter, as a function of the gradients of some visits."""

    visits: tuple[Visit, ...]
    value: Callable[[Callable[[Visit], Found]], Tensor]

    def joined(self, other: Use) -> Use:
        """Add two gradients."""
        both = self.visits + other.visits
        return Use(both, lambda of: _sum(self.value(of), other.value(of)))

    def to(self, dtype: torch.dtype) -> Use:
        """Cast a gradient."""
        return Use(self.visits, lambda of: self.value(of).to(dtype))


def _uses(layer: Layer, path: str, params: Params, whole: set[Composition]) -> Params:
    """Return the use of each parameter; note the compositions that are visited as one layer."""
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
        found: list[Found] = tree.leaves(uses)
        is_single = any(len(each.visits) == 1 for each in found if isinstance(each, Use))
        if tree.same_structure(uses, params) and (is_single or not found):
            return uses
        whole.add(made)
    return tree.map(use, params)


def with_later(net: Layer) -> Layer:
    """Make the network whose `grads` leaves the walk back to `update_in_walk`."""
    return net.replace(grads=lambda *given: given, composition=net.composition, spec=net.spec)


def update_in_walk(
    net: Layer, update: Update, max_norm: float | None, params: Params, given: Later,
    state: OptimizerState,
) -> tuple[Params, OptimizerState]:  # fmt: skip
    """Walk back, and update each parameter; with a largest norm, after the walk."""
    before, cache, g = given
    whole = set[Composition]()
    uses: list[Use | Tensor] = [*tree.leaves(_uses(net, "", before, whole))]
    walk = _Walk(Pieces(update, params, state), uses, max_norm is not None)
    # Where two parameters are one tensor, the second of those that are updated in place is a copy.
    own = tree.map(lambda _, new: new, before, params)
    walk_back(
        walk.visit, net, own, cache, g, DPARAMS, skip=lambda *_: None,
        enters=lambda made: made not in whole,
    )  # fmt: skip
    for path in frozenset[str]().union(*walk.waiting) - walk.sites.keys():
        raise LayerError("make_step", f"expected a visit of part {path} on the way back; {_MEND}")
    groups, factor = sorted(walk.waiting, key=len), None  # those of several visits last
    if max_norm is not None and groups:
        norms = [norm for group in groups for norm in walk.norms(group)]
        norm = torch.linalg.vector_norm(torch.stack(norms))
        factor = transforms.clip(torch.ones_like(norm), norm, max_norm)
    walk.take(reversed(groups), factor)
    return walk.pieces.end()


class _Walk:
    """The visits of a walk back, and the parameters whose gradients have visits still to come."""

    # It belongs to one step, and ends with it.

    def __init__(self, pieces: Pieces, uses: list[Use | Tensor], waits: bool) -> None:
        self.pieces, self._uses, self._waits = pieces, uses, waits
        self.sites, self._kept = dict[str, Site](), dict[Group, dict[str, Tensor]]()
        self.waiting = dict[Group, list[int]]()  # the places of parameters, by their visits' paths
        for i, use in enumerate(uses):
            visits = use.visits if isinstance(use, Use) else ()
            self.waiting.setdefault(frozenset(path for path, _ in visits), []).append(i)

    def visit(
        self, layer: Layer, path: str, params: Params, cache: Cache, g: Arrays, wants: Wants
    ) -> tuple[Arrays, None]:
        """Compute dx, and update what has no other visit to come."""
        if not (wants.dparams and is_trained(params)):
            return BACKWARD.visit(layer, path, params, cache, g, wants)[0], None
        groups = [group for group in self.waiting if path in group]
        if not groups or path in self.sites:
            raise LayerError(layer.name, f"expected one visit on the way back; {_MEND}")
        waits = self._waits or any(len(group) > 1 for group in groups)
        if waits and _is_kept(layer, params, g, wants):
            dx = layer.input_grad(params, cache, g) if wants.dx else None
            self.sites[path] = Site(layer, path, params, cache, g, None)
        else:
            dx, dparams = BACKWARD.visit(layer, path, params, cache, g, wants)
            self.sites[path] = Site(layer, path, params, None, None, dparams)
        if not self._waits:
            self.take(group for group in groups if group <= self.sites.keys())
        return dx, None

    def take(self, groups: Iterable[Group], factor: Tensor | None = None) -> None:
        """Update some parameters, and free what their gradients are computed from."""
        for group in groups:
            grads = self._kept.pop(group, None) or self._gradients(group)
            if factor is not None:
                grads = {path: (dp * factor).to(dp.dtype) for path, dp in grads.items()}
            self.pieces.take(grads)
            del self.waiting[group]
            for path in group:
                if not any(path in other for other in self.waiting):
                    del self.sites[path]

    def _gradients(self, group: Group) -> dict[str, Tensor]:
        sites = [self.sites[path] for path in group]
        has_scores = any(core.kind_of(site.layer) == "scores" for site in sites)
        found = {site.path: _gradients(site, in_rows=has_scores) for site in sites}

        def of(visit: Visit) -> Found:
            return found[visit[0]][visit[1]]

        uses = {self.pieces.paths[i]: self._uses[i] for i in self.waiting[group]}
        return {p: use.value(of) if isinstance(use, Use) else use for p, use in uses.items()}

    def norms(self, group: Group) -> list[Tensor]:
        """Compute the norms of some gradients, without these if that costs less."""
        site = self.sites[next(iter(group))] if len(group) == 1 else None
        found = [None] if site is None else list(map(_norm_of_sum, _terms(site) or [None]))
        if any(norm is None for norm in found):
            grads = self._gradients(group)
            self._kept = {} if site else {group: grads}  # the last, which are updated first
            found = [torch.linalg.vector_norm(transforms.widened(dp)) for dp in grads.values()]
        return [norm for norm in found if norm is not None]


def _is_kept(layer: Layer, params: Params, g: Arrays, wants: Wants) -> bool:
    """Return whether to keep g in place of the gradient: it is smaller, and dx is not shared."""
    shares = core.is_derived(layer, "grads") or core.is_derived(layer, "input_grad")
    of_g, of_params = (sum(leaf.numel() for leaf in tree.leaves(each)) for each in (g, params))
    return layer.composition is None and not (shares and wants.dx) and of_g < of_params


def _terms(site: Site) -> list[Found] | None:
    """Return the terms of a gradient that is not computed yet, if the layer declares some."""
    terms = core.gradients_of(site.layer).terms
    if terms is None or site.dparams is not None or site.g.ndim < 2:
        return None
    return tree.leaves(terms(site.params, site.cache, site.g))


def _gradients(site: Site, *, in_rows: bool) -> list[Found]:
    """Compute the gradients of a visit; those of an embedding as rows, beside scores."""
    if in_rows and core.kind_of(site.layer) == "embedding" and core.is_plain(site.g):
        terms = _terms(site) or []
        if terms and site.g.dtype.itemsize > 2:
            return terms
    return tree.leaves(grads_at(site.layer, site.params, site))


def _norm_of_sum(term: Found) -> Tensor | None:
    """Compute the norm of a sum over examples, if it costs less than the sum."""
    if isinstance(term, core.Explicit):
        of_sum: Tensor = torch.linalg.vector_norm(term.values.sum(0))
        return of_sum
    if isinstance(term, Outer):
        x, g = (rows.flatten(0, 1) for rows in (term.x, term.g))
        if len(x) * (x.shape[1] + g.shape[1]) < x.shape[1] * g.shape[1]:
            norm: Tensor = ((x @ x.mT) * (g @ g.mT)).sum().clamp(min=0).sqrt()
            return norm
    return None


def _sum(first: Found, second: Found) -> Tensor:
    """Add two gradients; to that of scores, a product, rows are added in its own memory."""
    if not isinstance(first, Gather):
        return torch.add(first, second)
    index, g = first.index.flatten(), first.g.flatten(0, 1)
    # The sum of each index's rows, in their order, as in a table of zeros; then its row.
    ordered, order = index.sort(stable=True)
    is_new = ordered.diff(prepend=ordered[:1]) != 0
    place = torch.empty_like(order).scatter_(0, order, is_new.cumsum(0))
    sums = torch.zeros_like(g).index_add_(0, place, g)
    rows = torch.zeros_like(index).scatter_(0, place, index)
    total: Tensor = second.add_(0.0).index_add_(0, rows, sums)  # -0 becomes 0, as in any sum
    return total
