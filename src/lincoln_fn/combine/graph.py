"""An expression as a layer: each operation is a layer, and the backward pass is theirs, reversed.

Derivation. Let v_1, ..., v_n be the values in the order in which they are computed, the arguments
first, and let node i compute v_i of its inputs. The loss depends on v_j only through the nodes that
read it, so by the chain rule

    g_j = sum_(i "reads" j) ((dv_i)/(dv_j))^T g_i

Node i's own `backward` computes its term from g_i. From the last node to the first, each g_i is
whole before it is read, because every node that reads v_i comes after node i. A value that is
repeated to fit the shape of another has the sum over its copies, as `broadcast` derives it.

A parameter is a node without inputs: v = W and dW = g.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from torch import Tensor

from lincoln_fn.combine._plan import Form, Plan, trace
from lincoln_fn.combine._torch_names import ALIASES as ALIASES
from lincoln_fn.core.keys import Key
from lincoln_fn.core.layer import Arrays, Cache, Layer, Params
from lincoln_fn.core.record import record, static
from lincoln_fn.core.spec import Spec
from lincoln_fn.core.sums import add_trees
from lincoln_fn.errors.arguments import checked
from lincoln_fn.errors.descriptions import describe, describe_non_tuple
from lincoln_fn.errors.errors import LayerError
from lincoln_fn.layers.broadcast import summed_to
from lincoln_fn.walk.arrangement import Arrangement
from lincoln_fn.walk.composition import VisitRecord, composition
from lincoln_fn.walk.init import on_meta, output_of
from lincoln_fn.walk.parts import check_entries, is_trained
from lincoln_fn.walk.visits import Record, VisitBack, VisitThere


@record
class Before:
    """The form of each input of the nodes that repeat or convert them; () for the others."""

    inputs: tuple[tuple[Form, ...], ...] = static()


def _there(visit: VisitThere, params: Params, x: Arrays, *, plan: Plan) -> tuple[Arrays, Record]:
    """Compute the value of each node from those before it."""
    _check_params(plan, params)
    values = list(_arguments(plan, x))
    records: list[Record] = []
    before: list[tuple[Form, ...]] = []
    for i, node in enumerate(plan.nodes):
        inputs = plan.inputs_of(i, visit.parts[i].name, values)
        before.append(plan.forms_of(i, values))
        y, record = visit(i, plan.params_of(i, params), inputs if len(inputs) != 1 else inputs[0])
        values.append(y)
        records.append(record)
    y = tuple(values[j] for j in plan.outputs)
    return y if plan.is_tuple else y[0], (*records, Before(tuple(before)))


def _check_params(plan: Plan, params: Params) -> None:
    names = plan.with_params
    if not (type(params) is dict and params.keys() == {*names} if names else params == ()):
        expected = f"a dict of {', '.join(names)}" if names else "()"
        raise LayerError("graph", f"expected params {expected}, got {describe(params)}")


def _arguments(plan: Plan, x: Arrays) -> tuple[Arrays, ...]:
    """Return an entry of x for each argument of the function."""
    n = len(plan.arguments)
    given = (x,) if n == 1 else x
    if type(given) is not tuple or len(given) != n:
        problem = f"expected x to be ({', '.join(plan.arguments)})"
        raise LayerError("graph", f"{problem}, got {describe_non_tuple(x)}")
    return given


def _back(
    visit: VisitBack, params: Params, cache: Cache, g: Arrays, *, plan: Plan
) -> tuple[Arrays, Record]:
    """Give each node its g, from the last to the first, and add up the dx of each value."""
    n, first = len(plan.nodes), len(plan.arguments)
    _check_params(plan, params)
    check_entries(visit.label, "the cache", cache, n + 1)
    check_entries(visit.label, "g", g if plan.is_tuple else (g,), len(plan.outputs))
    before = cache[n].inputs
    gs: list[Arrays] = [None] * (first + n)
    for j, g_j in zip(plan.outputs, g if plan.is_tuple else (g,), strict=True):
        gs[j] = _sum(gs[j], g_j)
    records: list[Record] = [None] * n
    for i in reversed(range(n)):
        node = plan.nodes[i]
        dx, records[i] = visit(i, plan.params_of(i, params), cache[i], gs[first + i])
        gs[first + i] = None
        if dx is None:
            continue
        dinputs = dx if len(node.inputs) != 1 else (dx,)
        for k, (j, d) in enumerate(zip(node.inputs, dinputs, strict=True)):
            gs[j] = _sum(gs[j], _as_before(d, before[i][k]) if before[i] else d)
    return tuple(gs[:first]) if first != 1 else gs[0], tuple(records)


def _as_before(d: Arrays, form: Form) -> Arrays:
    """Give the gradient of an input that was repeated and converted its shape and dtype."""
    shape, dtype = form
    return None if d is None or not dtype.is_floating_point else summed_to(d, shape).to(dtype)


def _sum(so_far: Arrays, d: Arrays) -> Arrays:
    return so_far if d is None else d if so_far is None else add_trees(so_far, d)


def _gather(visit: VisitRecord, params: Params, records: Record, *, plan: Plan) -> Params:
    pairs = enumerate(zip(plan.nodes, records, strict=True))
    made = {
        node.name: visit(i, params[node.name], each) for i, (node, each) in pairs if node.has_params
    }
    return made or ()


def _advance(visit: VisitThere, params: Params, cache: Cache, *, plan: Plan) -> Params:
    return {
        node.name: visit.advance(i, params[node.name], cache[i])
        for i, node in enumerate(plan.nodes)
        if node.has_params
    } or ()


def _init(
    parts: tuple[Layer, ...],
    key: Key,
    x: Arrays,
    *,
    plan: Plan,
    given: Callable[..., Mapping[str, Tensor]] | None,
) -> Params:
    """Make the trained arguments by the user's function, and the params of layers by their own."""
    made: dict[str, Params] = dict(given(key, x)) if given is not None else {}
    own = plan.parameters
    if made.keys() != {*own}:
        expected = f"expected init to return a dict of {', '.join(own) or 'nothing'}"
        raise LayerError("graph", f"{expected}, got one of {', '.join(made) or 'nothing'}")
    if len(own) == len(plan.with_params):
        return made or ()
    values = list(_arguments(plan, on_meta(x)))
    for i, node in enumerate(plan.nodes):
        inputs = plan.inputs_of(i, parts[i].name, values)
        of_part = inputs if len(inputs) != 1 else inputs[0]
        if node.has_params and node.name not in made:
            made[node.name] = parts[i].init(key.fold_in(i), of_part)
        values.append(on_meta(output_of(parts[i], plan.params_of(i, made), of_part)))
    return made


def _needs_dx(i: int, params: Params, *, plan: Plan) -> bool:
    """Return whether a node that node i depends on is trained."""
    return any(is_trained(params[name]) for name in plan.nodes[i].behind)


def _split(params: Params, *, plan: Plan) -> tuple[Params, ...]:
    return tuple(plan.params_of(i, params) for i in range(len(plan.nodes)))


def _join(parts: tuple[Params, ...], params: Params, *, plan: Plan) -> Params:
    pairs = zip(plan.nodes, parts, strict=True)
    return {node.name: part for node, part in pairs if node.has_params} or ()


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
        init: (key, x) -> a dict with a tensor for each keyword-only argument. None if there are
            none.

    Returns:
        The layer. Its params are a dict: each keyword-only argument's tensor, and by the name of
        its value the params of each layer that has some; () if there are none. Its parts are the
        operations, named "h = matmul()".

    Raises:
        LayerError: if an operation is not known, an argument is not used, or the function returns
            something else; from its functions, if an operation raises one, with its name.

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
    return composition(
        graph, parts, partial(_there, plan=plan), partial(_back, plan=plan),
        gather=partial(_gather, plan=plan), init=partial(_init, plan=plan, given=init),
        advance=partial(_advance, plan=plan), needs_dx=partial(_needs_dx, plan=plan), call=call,
        reads_once=True, arrange=Arrangement(partial(_split, plan=plan), partial(_join, plan=plan)),
        names=tuple(node.name for node in plan.nodes),
    )  # fmt: skip


def plan_of(function: str, net: Layer) -> Plan:
    """Return how the nodes of a graph are connected.

    Args:
        function: the name of the function that asks, for the error.
        net: the layer.

    Returns:
        The plan.

    Raises:
        LayerError: if it is not made by `graph`.

    Example:
        >>> plan_of("plots.graph", graph(lambda x, y: x - y)).arguments
        ('x', 'y')
    """
    if net.spec is None or net.spec.of is not graph:
        raise LayerError(function, f"expected net to be made by lf.graph, got {net.name}")
    plan: Plan = net.spec["function"]
    return plan
