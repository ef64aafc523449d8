"""Layer-wise relevance propagation: an output is shared out, layer by layer, down to the input.

The relevance of the explained output is the output itself, and that of all other outputs is 0. Each
layer passes the relevance of its y on to its x by a rule (`rules`), which a composite chooses
(`composites`). So the relevance of x says how much each of its elements accounts for of the output.

The walk back is that of the backward pass, with a rule at each layer in place of `input_grad`. A
rule conserves relevance if the sum over x is the sum over y. Biases, stabilizers and the linearised
softmax of attention do not.

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
from lincoln_fn.attribution.composites import Composite, epsilon_plus
from lincoln_fn.attribution.gradient import Target, explained_output
from lincoln_fn.attribution.rules import Rule, Use
from lincoln_fn.combine import Times, coupling, fixed_point, inference, ode, reversible
from lincoln_fn.combine.reversible import back as reversible_back
from lincoln_fn.core import Arrays, Cache, Layer, Params, checked, format_briefly, tree, unexpected
from lincoln_fn.inspect.internal import table
from lincoln_fn.layers.add import add
from lincoln_fn.rules.internal import with_true_gradient
from lincoln_fn.walk import Composition, VisitBack, VisitThere
from lincoln_fn.walk.internal import Back, Record, There, Wants, composition_of, map_paths
from lincoln_fn.walk.walks import back

# Of a sum: its terms and the relevance of it, to the relevance of each term.
Shares: TypeAlias = Callable[[tuple[Arrays, ...], Arrays], tuple[Arrays, ...]]
Loops: TypeAlias = tuple[There, Back]
_ADD: Final = add()


@attrs.frozen(eq=False)
class LayerRelevance:
    """The relevance of a layer's output and input.

    Args:
        path: the layer's or the composition's; "" is the network's.
        y: the relevance of its output.
        x: that of its input; None for one that has none, such as indices.
    """

    path: str
    name: str
    y: Arrays = attrs.field(repr=format_briefly)
    x: Arrays = attrs.field(repr=format_briefly)


@attrs.frozen(eq=False)
class Relevance:
    """The relevance of a network's input, and of every layer's input and output.

    Args:
        x: that of the network's input.
        layers: that of each use of each layer and each composition, from the network's output to
            its input; a composition comes after its parts.
    """

    x: Arrays = attrs.field(repr=format_briefly)
    layers: tuple[LayerRelevance, ...] = attrs.field(repr=False)

    def __getitem__(self, path: str) -> LayerRelevance:
        """Return the relevance at a path; of several uses, that of the last one."""
        for layer in self.layers:
            if layer.path == path:
                return layer
        raise KeyError(path)


@checked
def lrp(
    net: Layer,
    params: Params,
    x: Arrays,
    target: Target = None,
    *,
    rules: Composite | None = None,
) -> Relevance:
    """Share the explained output out to the input and to all layers.

    Args:
        net: the network, which is explained as it is after training. It should end with scores, not
            with log-probabilities.
        x: its input, with the batch first. For indices, the result has their embedding's relevance.
        target: as `gradient` takes it. The relevance of the output is y times 1 or the weight.
        rules: the composite that chooses a rule for each layer; None is `epsilon_plus()`.

    Raises:
        LayerError: if a layer has no rule; for `fixed_point` and an `ode` with the continuous
            adjoint, where relevance is not defined.

    Source:
        Bach and others, "On Pixel-Wise Explanations for Non-Linear Classifier Decisions by
        Layer-Wise Relevance Propagation", 2015.

    Example:
        >>> net, x = lf.residual(lf.tanh()), torch.tensor([[0.5, 1.0]])
        >>> relevance = lrp(net, net.init(lf.Key(0), x), x, 0)  # y_0 = 0.5 + tanh(0.5)
        >>> relevance.x, relevance["1"].x
        (tensor([[0.9621, 0.0000]]), tensor([[0.5000, 0.0000]]))
    """
    composite = epsilon_plus() if rules is None else rules
    if not isinstance(composite, Composite):
        raise unexpected("lrp", "rules to be a Composite", format_briefly(rules))
    net = with_true_gradient(inference(net))
    chosen = composite.rules_of(net)
    relevances: list[LayerRelevance] = []
    recorded = map_paths(partial(_recorded, relevances, composite.rule_of), net)
    y, cache = recorded.forward(params, x)

    def visit(layer: Layer, path: str, params: Params, use: Use, y: Arrays) -> tuple[Arrays, None]:
        x = chosen[path].propagate(use, y)
        relevances.append(LayerRelevance(path, layer.name, y, x))
        return x, None

    of_x, _ = back(visit, recorded, params, cache, y * explained_output("lrp", y, target))
    return Relevance(of_x, tuple(relevances))


def _recorded(
    found: list[LayerRelevance], rule_of: Callable[[Layer], Rule], layer: Layer, path: str
) -> Layer:
    """Let a single layer keep its use as its cache, and a composition note its relevance."""
    if layer.composition is None:
        return layer.replace(forward=partial(_forward, layer))
    there, loop_back = loops_of(layer, path, rule_of)

    def noted(visit: VisitBack, params: Params, cache: Cache, y: Arrays) -> tuple[Arrays, Record]:
        x, records = loop_back(visit, params, cache, y)
        found.append(LayerRelevance(path, layer.name, y, x))
        return x, records

    return layer.rebuild(layer.parts, there=there, back=noted)


def _forward(layer: Layer, params: Params, x: Arrays) -> tuple[Arrays, Use]:
    y, cache = layer.forward(params, x)
    return y, Use(layer, params, x, y, cache)


@attrs.frozen
class LayerSums:
    """The sums of a `LayerRelevance`, with its path and name; x is None if the input has none."""

    path: str
    name: str
    y: float
    x: float | None

    @property
    def lost(self) -> float:
        """How much the layer lost: y - x. It is 0 if x has no relevance, which ends there."""
        return 0.0 if self.x is None else self.y - self.x


class Conservation(tuple[LayerSums, ...]):
    """The sums of all layers, from the network's output to its input; its str is a table."""

    __slots__ = ()

    @property
    def lost(self) -> float:
        """How much the network lost: the sum over its single layers."""
        whole = {layer.path.rpartition(".")[0] for layer in self if layer.path}
        return sum(layer.lost for layer in self if layer.path not in whole)

    def __str__(self) -> str:
        headings = ("path", "layer", "sum over y", "sum over x", "lost")
        rows = []
        for layer in self:
            of_x = "-" if layer.x is None else f"{layer.x:.6g}"
            sums = f"{layer.y:.6g}", of_x, f"{layer.lost:.3g}"
            rows.append((layer.path, core.called(layer.name), *sums))
        return table(headings, rows, left=2)


@checked
def conservation(relevance: Relevance) -> Conservation:
    """Compare the sums of relevance before and behind every layer and composition.

    Example:
        >>> net, x = lf.serial(lf.tanh(), lf.residual(lf.relu())), torch.ones(1, 2)
        >>> found = lf.attribution.lrp(net, net.init(lf.Key(0), x), x, 0)
        >>> abs(conservation(found).lost) < 1e-5
        True
    """
    return Conservation(
        LayerSums(layer.path, layer.name, _sum(layer.y) or 0.0, _sum(layer.x))
        for layer in relevance.layers
    )


def _sum(arrays: Arrays) -> float | None:
    leaves = tree.leaves(arrays)
    return sum(leaf.double().sum().item() for leaf in leaves) if leaves else None


def loops_of(layer: Layer, path: str, rule_of: Callable[[Layer], Rule]) -> Loops:
    """Return a composition's loops, there and back, for relevance; refuse one that has none."""
    composed = composition_of(layer)
    assert composed is not None, "a single layer has no loops"
    of = core.constructor_of(layer)
    is_continuous = of is ode and layer.spec is not None and layer.spec["adjoint"] == "continuous"
    refused = _CONTINUOUS if is_continuous else _REFUSED.get(of)
    if refused:
        raise core.LayerError(" ".join(filter(None, ("lrp:", path, layer.name))), refused)
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
    return made.there, core.bind_like(partial(reversible_back, sum_back=shares), made.back)


def _of_ode(made: Composition, shares: Shares) -> Loops:
    def there(visit: VisitThere, params: Params, x: Arrays) -> tuple[Arrays, Record]:
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

    return there, core.bind_like(partial(_ode_back, shares=shares), made.back)


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
        of_z = core.add_trees(of_z, first)
        for j, of_term in zip(used, rest, strict=True):
            of_k[j] = core.add_trees(of_k[j], of_term)

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
