"""Relevance through compositions whose own loops add values up, without a layer `add()` for it.

The loops back of most compositions hand on relevance as they hand on gradients. In `reversible` and
`ode`, g goes on to every term of a sum, undivided. So their loops of relevance are these. Each sum
shares its relevance as the composite's rule for `add()` says:

    reversible:    y_2 = x_2 + h(y_1)                 R of y_2 is shared by x_2 and h(y_1)
    ode:           z' = z + h sum_i b_i k_i           R of z' is shared by z and all k_i
                   u_i = z + h sum_(j<i) a_ij k_j     so is R of u_i, which stage i returns

In `fixed_point`, z is a function of itself, and its relevance would go round without end. The
continuous adjoint of `ode` does not go back along the steps that were taken. These are refused.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final, TypeAlias

import attrs
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.attribution.rules import Rule, Use
from lincoln_fn.combine import Times, coupling, fixed_point, ode, reversible
from lincoln_fn.combine.reversible import back as reversible_back
from lincoln_fn.core import Arrays, Cache, Layer, LayerError, Params, add_trees, bind_like, tree
from lincoln_fn.layers.add import add
from lincoln_fn.walk import Composition, VisitBack, VisitThere
from lincoln_fn.walk.internal import Back, Record, There, Wants, composition_of

# Of a sum: its terms and the relevance of it, to the relevance of each term.
Shares: TypeAlias = Callable[[tuple[Arrays, ...], Arrays], tuple[Arrays, ...]]
Loops: TypeAlias = tuple[There, Back]
_ADD: Final = add()


def loops_of(layer: Layer, path: str, rule_of: Callable[[Layer], Rule]) -> Loops:
    """Return a composition's loops, there and back, for relevance; refuse one that has none."""
    composed = composition_of(layer)
    assert composed is not None, "a single layer has no loops"
    of = core.constructor_of(layer)
    is_continuous = of is ode and layer.spec is not None and layer.spec["adjoint"] == "continuous"
    refused = _CONTINUOUS if is_continuous else _REFUSED.get(of)
    if refused:
        where = " ".join(filter(None, ("lrp:", path, layer.name)))
        raise LayerError(where, refused)
    if of not in _LOOPS:
        return composed.there, composed.back
    return _LOOPS[of](composed, partial(_shares, rule_of(_ADD)))


def _shares(rule: Rule, terms: tuple[Arrays, ...], relevance: Arrays) -> tuple[Arrays, ...]:
    """Share the relevance of a sum, by the rule for `add()`."""
    if isinstance(relevance, Tensor):
        total, cache = _ADD.forward((), terms)
        shared: tuple[Tensor, ...] = rule.propagate(Use(_ADD, (), terms, total, cache), relevance)
        return shared
    entries = zip(zip(*terms, strict=True), relevance, strict=True)
    return tuple(zip(*(_shares(rule, *entry) for entry in entries), strict=True))


def _of_reversible(made: Composition, shares: Shares) -> Loops:
    return made.there, bind_like(partial(reversible_back, sum_back=shares), made.back)


def _of_ode(made: Composition, shares: Shares) -> Loops:
    def there(visit: VisitThere, params: Params, x: Arrays) -> tuple[Arrays, Record]:
        """Take all steps, and keep the values of each stage."""
        walk = visit.walk

        def stage(
            part: Layer, path: str, params: Params, x: Arrays, wants: Wants
        ) -> tuple[Arrays, _Stage]:
            k, record = walk.visit(part, path, params, x, wants)
            return k, _Stage(x, k, record)

        def advance(part: Layer, params: Params, stage: _Stage) -> Params:
            return walk.advance(part, params, stage.record)

        staged = attrs.evolve(walk, visit=stage, advance=advance)
        return made.there(attrs.evolve(visit, walk=staged), params, x)

    return there, bind_like(partial(_ode_back, shares=shares), made.back)


@attrs.frozen(eq=False)
class _Stage:
    """One evaluation of the field: what it got, what it returned, and the visitor's record."""

    x: Arrays
    k: Arrays
    record: Record


def _ode_back(
    visit: VisitBack, params: Params, cache: Cache, relevance: Arrays,
    *, times: Times, shares: Shares,
) -> tuple[Arrays, Record]:  # fmt: skip
    """Go through each step, from the last to the first."""
    for stages in reversed(cache):
        relevance = _through_step(visit, params, stages, relevance, times, shares)
    return relevance, ()


def _through_step(
    visit: VisitBack,
    params: Params,
    stages: tuple[_Stage, ...],
    relevance: Arrays,
    times: Times,
    shares: Shares,
) -> Arrays:
    """Compute the relevance of z from that of z' = z + h sum_i b_i k_i."""
    z = times.through(stages[0].x)
    of_z: Arrays = tree.map(lambda leaf: leaf.new_zeros(leaf.shape), z)
    of_k: list[Arrays] = [of_z] * len(stages)

    def share(weights: tuple[float, ...], of_sum: Arrays) -> None:
        """Share the relevance of z + h sum_j w_j k_j."""
        nonlocal of_z
        used = [j for j, w in enumerate(weights) if w]
        terms = [tree.map(lambda leaf, w=weights[j]: times.h * w * leaf, stages[j].k) for j in used]
        first, *rest = shares((z, *terms), of_sum) if used else (of_sum,)
        of_z = add_trees(of_z, first)
        for j, of_term in zip(used, rest, strict=True):
            of_k[j] = add_trees(of_k[j], of_term)

    share(times.tableau.b, relevance)
    for i in reversed(range(len(stages))):
        of_x, _ = visit(0, params, stages[i].record, of_k[i])
        share(times.tableau.a[i], times.through(of_x))
    return of_z


# By constructor.
_LOOPS: Final[dict[Callable[..., object] | None, Callable[[Composition, Shares], Loops]]] = {
    reversible: _of_reversible,
    ode: _of_ode,
}
_REFUSED: Final[dict[Callable[..., object] | None, str]] = {
    coupling: "one half of x scales the other, and a density has no relevance; use"
    " lf.attribution.integrated_gradients, which needs only its gradient",
    fixed_point: "z is a function of itself, so its relevance would go round without end; use"
    " lf.attribution.integrated_gradients, which needs only its gradient",
}
_CONTINUOUS: Final = (
    "the continuous adjoint does not go back along the steps that were taken; use"
    " adjoint='discrete', which has the same params"
)
