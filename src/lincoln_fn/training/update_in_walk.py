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
each layer's gradient again, and its update; a sum of several visits is kept. What is smaller is
kept of a visit: its g, or its gradient.
"""

from __future__ import annotations

from collections.abc import Callable
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
from lincoln_fn.walk import internal as walks

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
    made, places = walks.composition_of(layer), iter(range(len(tree.leaves(params))))

    def visit(i: int, entry: Params, _: object) -> Params:
        return _uses(layer.parts[i], walks.inside(path, i), entry, whole)

    def use(_: Tensor) -> Use:
        at = path, next(places)
        return Use((at,), lambda of: of(at))

    if made is not None and made not in whole:
        try:  # more records than parts: a part that is used several times shows it
            uses = made.gather(visit, params, (object(),) * (len(made.parts) + 2))
        except walks.ERRORS:  # of a gather that reads the records
            uses = None
        found: list[Found] = tree.leaves(uses)
        visits = [each.visits for each in found if isinstance(each, Use)]
        if tree.same_structure(uses, params) and all(len({*at}) == len(at) for at in visits):
            return uses
        whole.add(made)
    return tree.map(use, params)


def _as_use(found: Found) -> Use:
    return found if isinstance(found, Use) else Use((), lambda _: found)


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
    uses = [*map(_as_use, tree.leaves(_uses(net, "", before, whole)))]
    walk = _Walk(Pieces(update, params, state), uses, max_norm is not None)
    # Where two parameters are one tensor, the second of those that are updated in place is a copy.
    own = tree.map(lambda _, new: new, before, params)
    walks.walk_back(
        walk.visit, net, own, cache, g, walks.DPARAMS, skip=lambda *_: None,
        enters=lambda made: made not in whole,
    )  # fmt: skip
    for path in frozenset[str]().union(*walk.waiting) - walk.sites.keys():
        raise core.unexpected("make_step", f"a visit of part {path} on the way back", "none", _MEND)
    factor = None
    if max_norm is not None and uses:
        norms = [norm for group in walk.waiting for norm in walk.norms(group)]
        norm = torch.linalg.vector_norm(torch.stack(norms))
        factor = transforms.clip(torch.ones_like(norm), norm, max_norm)
    for group in [*walk.waiting]:
        walk.take(group, factor)
    return walk.pieces.end()


class _Walk:
    """The visits of a walk back, and the parameters whose gradients have visits still to come."""

    # It belongs to one step, and ends with it.

    def __init__(self, pieces: Pieces, uses: list[Use], waits: bool) -> None:
        self.pieces, self._uses, self._waits = pieces, uses, waits
        self.sites, self._sums = dict[str, Site](), dict[Group, list[Tensor]]()
        self.waiting = dict[Group, list[int]]()  # the places of parameters, by their visits' paths
        for i, use in enumerate(self._uses):
            self.waiting.setdefault(frozenset(path for path, _ in use.visits), []).append(i)

    def visit(
        self, layer: Layer, path: str, params: Params, cache: Cache, g: Arrays, wants: walks.Wants
    ) -> tuple[Arrays, None]:
        """Compute dx, and update what has no other visit to come."""
        if not (wants.dparams and is_trained(params)):
            return walks.BACKWARD.visit(layer, path, params, cache, g, wants)[0], None
        groups = [group for group in self.waiting if path in group]
        if not groups or path in self.sites:
            raise core.unexpected(layer.name, "one visit on the way back", "another", _MEND)
        waits = self._waits or any(len(group) > 1 for group in groups)
        if waits and _is_kept(layer, params, g, wants):
            dx = layer.input_grad(params, cache, g) if wants.dx else None
            self.sites[path] = Site(layer, path, params, cache, g, None)
        else:
            dx, dparams = walks.BACKWARD.visit(layer, path, params, cache, g, wants)
            self.sites[path] = Site(layer, path, params, None, None, dparams)
        for group in groups:
            if not self._waits and group <= self.sites.keys():
                self.take(group)
        return dx, None

    def take(self, group: Group, factor: Tensor | None = None) -> None:
        """Update some parameters, and free what their gradients are computed from."""
        grads = self._sums.pop(group, None) or self._gradients(group)
        if factor is not None:
            grads = [(dp * factor).to(dp.dtype) for dp in grads]
        paths = [self.pieces.paths[i] for i in self.waiting.pop(group)]
        self.pieces.take(dict(zip(paths, grads, strict=True)))
        for path in group:
            if not any(path in other for other in self.waiting):
                del self.sites[path]

    def _gradients(self, group: Group) -> list[Tensor]:
        sites = [self.sites[path] for path in group]
        kinds = {core.kind_of(site.layer) for site in sites}
        dtypes = {leaf.dtype for site in sites for leaf in tree.leaves(site.params)}
        # In half precision, an embedding's gradient is not the sum of its terms.
        is_tied = kinds == {"embedding", "scores"} and len(group) == 2
        in_rows = is_tied and dtypes in ({torch.float32}, {torch.float64})
        found = {site.path: _gradients(site, in_rows=in_rows) for site in sites}
        uses = [self._uses[i] for i in self.waiting[group]]
        return [use.value(lambda visit: found[visit[0]][visit[1]]) for use in uses]

    def norms(self, group: Group) -> list[Tensor]:
        visits = [self._uses[i].visits for i in self.waiting[group]]
        is_sum = any(len(at) != 1 for at in visits)
        terms = [] if is_sum else _terms(self.sites[visits[0][0][0]])
        found = [_norm_of_sum(terms[at[0][1]]) for at in visits] if terms else [None]
        norms = [norm for norm in found if norm is not None]
        if len(norms) < len(found):
            grads = self._gradients(group)
            norms = [torch.linalg.vector_norm(transforms.widened(dp)) for dp in grads]
            if is_sum:
                self._sums[group] = grads
        return norms


def _is_kept(layer: Layer, params: Params, g: Arrays, wants: walks.Wants) -> bool:
    """Return whether to keep g in place of the gradient: it is smaller, and dx is not shared."""
    shares = core.is_derived(layer, "grads") or core.is_derived(layer, "input_grad")
    of_g, of_params = (sum(leaf.numel() for leaf in tree.leaves(each)) for each in (g, params))
    return layer.composition is None and not (shares and wants.dx) and of_g < of_params


def _terms(site: Site) -> list[Found]:
    """Return the terms of a gradient that is not computed yet, if the layer has some for its x."""
    terms = core.gradients_of(site.layer).terms
    if terms is None or site.dparams is not None:
        return []
    try:
        return tree.leaves(terms(site.params, site.cache, site.g))
    except LayerError:  # of an x without examples
        return []


def _gradients(site: Site, *, in_rows: bool) -> list[Found]:
    """Compute the gradients of a visit; those of an embedding as rows, beside scores."""
    is_by_rows = in_rows and core.kind_of(site.layer) == "embedding" and core.is_plain(site.g)
    terms = _terms(site) if is_by_rows else []
    return terms or tree.leaves(grads_at(site.layer, site.params, site))


def _norm_of_sum(term: Found) -> Tensor | None:
    """Compute the norm of a sum over examples, if it costs less than the sum."""
    if isinstance(term, core.Explicit):
        of_sum: Tensor = torch.linalg.vector_norm(transforms.widened(term.values).sum(0))
        return of_sum
    if isinstance(term, Outer):
        x, g = (transforms.widened(rows.flatten(0, 1)) for rows in (term.x, term.g))
        if len(x) * (x.shape[1] + g.shape[1]) < x.shape[1] * g.shape[1]:
            norm: Tensor = ((x @ x.mT) * (g @ g.mT)).sum().clamp(min=0).sqrt()
            return norm
    return None


def _sum(first: Found, second: Found) -> Tensor:
    """Add two gradients; rows are added to a product in its own memory."""
    rows, total = (first, second) if isinstance(first, Gather) else (second, first)
    if not isinstance(rows, Gather):
        return torch.add(first, second)
    index, g = rows.index.flatten(), rows.g.flatten(0, 1)
    # The rows of each index are summed first, in their order, as in a table of zeros.
    ordered = index.sort().values
    sums = torch.zeros_like(g).index_add_(0, torch.searchsorted(ordered, index), g)
    table: Tensor = total.add_(0.0)  # -0 becomes 0, as in any sum
    return table.index_add_(0, ordered, sums)
