"""An expression as a layer: each operation is a layer, and the backward pass is theirs, reversed.

Derivation: that of any wiring (`_wiring.py`). The gradient of a value that is repeated to fit a
shape is the sum over its copies, as `broadcast` derives it. A parameter W is a node with dW = g.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import attrs
from torch import Tensor

from lincoln_fn.combine import _wiring
from lincoln_fn.combine._plan import Plan, trace
from lincoln_fn.combine._torch_names import ALIASES as ALIASES
from lincoln_fn.core import Arrays, Cache, Key, Layer, Params, Spec, checked, unexpected
from lincoln_fn.walk.internal import BACKWARD, VisitBack, Wants, composition_of, on_meta


def _init(
    parts: tuple[Layer, ...],
    key: Key,
    x: Arrays,
    *,
    plan: Plan,
    given: Callable[..., Mapping[str, Tensor]] | None,
) -> Params:
    """Make the trained arguments by the user's function, and the params of layers by their own."""
    tensors: dict[str, Params] = dict(given(key, x)) if given is not None else {}
    own = plan.parameters
    if tensors.keys() != {*own}:
        expected = f"init to return a dict of {', '.join(own) or 'nothing'}"
        raise unexpected("graph", expected, f"one of {', '.join(tensors) or 'nothing'}")
    if len(own) == sum(node.has_params for node in plan.nodes):
        return tensors or ()
    drawn = {i: tensors[node.name] for i, node in enumerate(plan.nodes) if node.name in tensors}
    return _wiring.init(parts, key, on_meta(x), label="graph", wiring=plan, given=drawn)


@checked
def graph(
    function: Callable[..., object],
    *,
    init: Callable[..., Mapping[str, Tensor]] | None = None,
) -> Layer:
    """Make a layer of an expression, whose backward is that of its operations in reverse order.

    The function is called once, with values that stand for tensors. It is written as for torch:
    operators, comparisons and slices, methods of tensors (`h.sum(1, keepdim=True)`), functions of
    torch (`torch.cat([a, b])`, `F.softmax(h, -1)`), and tensors as constants. Each means what it
    means in torch, or raises an error that says what to write. Any other method is a constructor of
    a layer: `h.dense(10)` is a layer with params, and `h.apply(layer)` applies any layer. Inputs of
    `+ - * /`, `maximum` and `where` are repeated to one shape, as torch does it. A value that is
    used twice gets the sum of its gradients, and a comparison has none.

    Args:
        function: from values to a value, or a tuple of values. Its positional arguments are x: a
            tensor for one, a tuple for several. Its keyword-only arguments are parameters, which
            are trained. To name the values, let it return (y, names), where names is a dict of
            values; `return y, locals()` gives each the name of its variable.
        init: (key, x) -> a dict with a tensor for each keyword-only argument, if there are some.

    Returns:
        The layer. Its params are a dict: each keyword-only argument's tensor, and by the name of
        its value the params of each layer that has some; () if there are none. Its parts are the
        operations, named "h = matmul()".

    Raises:
        LayerError: if an operation is not known, an argument is not used, or the function returns
            something else.

    Example:
        >>> net = graph(lambda x, *, w: (x @ w).exp().sum(-1).log(), init=lambda key, x: {
        ...     "w": lf.keys.normal(key, (x.shape[-1], 4))})
        >>> [part.name for part in net.parts]
        ['w = parameter()', 'matmul = matmul()', 'exp = exp()', 'sum = sum(dim=-1)', 'log = log()']
        >>> x = torch.ones(2, 3)
        >>> net.predict(net.init(lf.Key(0), x), x).shape
        torch.Size([2])
    """
    plan, parts = trace(function)
    name = f"graph({getattr(function, '__name__', type(function).__name__)})"
    # A function that is not in a module cannot be pickled; its plan can.
    call = Spec(graph, {"function": plan, "init": init}, name)
    return _wiring.wired(
        graph, parts, plan, init=partial(_init, plan=plan, given=init), call=call,
        names=tuple(node.name for node in plan.nodes),
    )  # fmt: skip


def plan_of(function: str, net: Layer) -> Plan:
    """Return how the nodes of a graph are connected; an error names the `function` that asks."""
    if net.spec is None or net.spec.of is not graph:
        raise unexpected(function, "net to be made by lf.graph", net.name)
    plan: Plan = net.spec["function"]
    return plan


@checked
def gradients_by_name(net: Layer, params: Params, cache: Cache, g: Arrays) -> dict[str, Arrays]:
    """Compute the gradient of every value of a graph: arguments, parameters and what is between.

    Returns:
        dL/dv by the name of v, in order; None for an argument without a gradient, such as indices.

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

    dx, _ = made.back(VisitBack(made, attrs.evolve(BACKWARD, visit=noted)), params, cache, g)
    dinputs = dx if len(plan.arguments) != 1 else (dx,)
    return {
        **dict(zip(plan.arguments, dinputs, strict=True)),
        **{node.name: seen[str(i)] for i, node in enumerate(plan.nodes)},
    }
