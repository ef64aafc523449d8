"""The gradient of every value of a graph, by its name."""

from __future__ import annotations

import attrs

from lincoln_fn.combine.graph import plan_of
from lincoln_fn.core import Arrays, Cache, Layer, Params, checked
from lincoln_fn.walk import VisitBack
from lincoln_fn.walk.internal import BACKWARD, Wants, composition_of


@checked
def gradients_by_name(net: Layer, params: Params, cache: Cache, g: Arrays) -> dict[str, Arrays]:
    """Compute the gradient of every value of a graph: arguments, parameters and what is between.

    Args:
        net: made by `graph`.

    Returns:
        dL/dv by the name of v, in the order of the computation. None for an argument that has no
        gradient, such as indices.

    Raises:
        LayerError: if net is not made by `graph`; else as `backward` does.

    Example:
        >>> net = lf.graph(lambda a, b: ((a * b).exp().sum(), locals()))
        >>> x = torch.tensor([1.0, 2.0]), torch.tensor([0.0, 1.0])
        >>> gradients_by_name(net, (), net.forward((), x)[1], torch.tensor(1.0))["multiply"]
        tensor([1.0000, 7.3891])
    """
    plan, made = plan_of("gradients_by_name", net), composition_of(net)
    assert made is not None, "`plan_of` has looked"
    seen: dict[str, Arrays] = {}

    def noted(
        part: Layer, path: str, params: Params, cache: Cache, g: Arrays, wants: Wants
    ) -> tuple[Arrays, Params]:
        seen[path] = g
        return BACKWARD.visit(part, path, params, cache, g, wants)

    visit = VisitBack(made, attrs.evolve(BACKWARD, visit=noted))
    dx, _ = made.back(visit, params, cache, g)
    dinputs = dx if len(plan.arguments) != 1 else (dx,)
    return {
        **dict(zip(plan.arguments, dinputs, strict=True)),
        **{node.name: seen[str(i)] for i, node in enumerate(plan.nodes)},
    }
