"""An expression as a layer: each operation is a layer, and the backward pass is theirs, reversed.

`trace` calls the function with values, and makes a plan: which layer computes what of which values,
in which order.

Derivation: that of any wiring (`_wiring.py`). The gradient of a value that is repeated to fit a
shape is the sum over its copies, as `broadcast` derives it. A parameter W is a node with dW = g.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial, reduce
from inspect import Parameter, signature
from types import ModuleType
from typing import Final, TypeAlias

import attrs
import torch
from torch import Tensor

from lincoln_fn import core, layers
from lincoln_fn.combine import _torch_layers, _wiring
from lincoln_fn.combine._values import Value
from lincoln_fn.core import Arrays, Cache, Layer, LayerError, Params, checked, describe, unexpected
from lincoln_fn.layers.broadcast import repeated, summed_to
from lincoln_fn.walk import Arrangement
from lincoln_fn.walk.internal import BACKWARD, VisitBack, Wants, composition_of, on_meta

# Layers whose inputs are repeated to one shape and converted to one dtype, and the first input of
# those that are; and layers whose floating inputs are converted.
_OF_ONE_SHAPE: Final[dict[ModuleType | None, int]] = {
    layers.add: 0, layers.multiply: 0, layers.pairwise: 0, layers.where: 1,
}  # fmt: skip
_OF_ONE_DTYPE: Final = (
    layers.concatenate, _torch_layers, layers.matmul, layers.scaled_dot_product_attention,
    layers.stack,
)  # fmt: skip

# A shape and a dtype.
Form: TypeAlias = tuple[tuple[int, ...], torch.dtype]


@attrs.frozen
class Node:
    """An operation: the name of its value, the numbers of its inputs, and what it needs."""

    name: str
    inputs: tuple[int, ...]
    broadcasts: bool  # whether its inputs are repeated to one shape
    numbers: int | None  # from which input on they get one dtype; None if they do not
    has_params: bool


@core.record
class Before:
    """The form of each input of the nodes that repeat or convert them; () for the others."""

    inputs: tuple[tuple[Form, ...], ...] = core.static()


@attrs.frozen(kw_only=True)
class Plan(_wiring.Wiring):
    """How the values of a graph follow from each other: the arguments come first, then the nodes.

    `arguments` are names of what x consists of, `parameters` of what is trained: nodes without
    inputs. There is a node for each part.
    """

    arguments: tuple[str, ...]
    parameters: tuple[str, ...]
    nodes: tuple[Node, ...]

    def values_of(self, label: str, x: Arrays) -> tuple[Arrays, ...]:
        """Return an entry of x for each argument of the function."""
        if self.entries is not None and (type(x) is not tuple or len(x) != self.entries):
            expected = f"x to be ({', '.join(self.arguments)})"
            raise unexpected(label, expected, core.describe_non_tuple(x))
        return (x,) if self.entries is None else x

    def inputs_of(self, i: int, parts: tuple[Layer, ...], values: Sequence[Arrays]) -> Arrays:
        """Return the inputs of part i, as torch repeats and converts them."""
        node = self.nodes[i]
        inputs = tuple(values[j] for j in node.inputs)
        if node.numbers is not None:
            inputs = (*inputs[: node.numbers], *_of_one_dtype(node, inputs[node.numbers :]))
        inputs = repeated(f"graph[{i}] {parts[i].name}", inputs) if node.broadcasts else inputs
        return inputs if len(inputs) != 1 else inputs[0]

    def notes_of(self, values: Sequence[Arrays]) -> tuple[Before]:
        """Return the shape and the dtype of each input that may be changed."""
        forms = []
        for node in self.nodes:
            inputs = [values[j] for j in node.inputs]
            is_changed = node.numbers is not None and all(isinstance(x, Tensor) for x in inputs)
            forms.append(tuple((tuple(x.shape), x.dtype) for x in inputs if is_changed))
        return (Before(tuple(forms)),)

    def dx_of(self, i: int, part: Layer, dx: Arrays, notes: tuple[Before, ...]) -> Arrays:
        """Give the gradient of each input that was repeated or converted its shape and dtype."""
        forms = notes[0].inputs[i]
        if len(forms) < 2:
            return _as_before(dx, *forms[0]) if forms else dx
        return tuple(_as_before(d, *form) for d, form in zip(dx, forms, strict=True))


def _as_before(d: Arrays, shape: tuple[int, ...], dtype: torch.dtype) -> Arrays:
    return None if d is None or not dtype.is_floating_point else summed_to(d, shape).to(dtype)


def _split(params: Params, *, nodes: tuple[Node, ...]) -> tuple[Params, ...]:
    names = [node.name for node in nodes if node.has_params]
    if not (type(params) is dict and params.keys() == {*names} if names else params == ()):
        expected = f"a dict of {', '.join(names)}" if names else "()"
        raise unexpected("graph", f"params {expected}", describe(params))
    return tuple(params[node.name] if node.has_params else () for node in nodes)


def _join(parts: tuple[Params, ...], params: Params, *, nodes: tuple[Node, ...]) -> Params:
    pairs = zip(nodes, parts, strict=True)
    return {node.name: part for node, part in pairs if node.has_params} or ()


def _of_one_dtype(node: Node, inputs: tuple[Arrays, ...]) -> tuple[Arrays, ...]:
    """Convert floating tensors to the widest dtype, and others if they are repeated, too."""
    floats = [x for x in inputs if isinstance(x, Tensor) and x.is_floating_point()]
    dtypes = {x.dtype for x in floats if x.ndim} or {x.dtype for x in floats}
    if not dtypes or (len(dtypes) == 1 and len(floats) == len(inputs)):
        return inputs
    dtype = reduce(torch.promote_types, dtypes)
    return tuple(
        x.to(dtype) if isinstance(x, Tensor) and (node.broadcasts or x.is_floating_point()) else x
        for x in inputs
    )


def _give(params: Tensor, x: tuple[()]) -> tuple[Tensor, tuple[()]]:
    return params, ()


def _take_back(params: Tensor, cache: tuple[()], g: Tensor) -> tuple[tuple[()], Tensor]:
    return (), g


core.declare(_give, kind="embedding")  # like a table, it keeps the relevance that it gets


def _draw(key: object, x: object) -> Tensor:
    raise LayerError("graph", "expected init, a function (key, x) -> dict of the parameters")


def trace(function: Callable[..., object]) -> tuple[Plan, tuple[Layer, ...]]:
    """Call a function with values, and read the plan and the layers from what it returns."""
    arguments, parameters = _arguments_of(function)
    parameter = Layer("parameter()", _give, _take_back, _draw)
    inputs = {name: Value(None, name=name) for name in arguments}
    trained = {name: Value(parameter, name=name) for name in parameters}
    y, found = function(*inputs.values(), **trained), dict[object, object]()
    if isinstance(y, tuple) and len(y) == 2 and isinstance(y[1], dict):
        y, found = y
    names = {v: str(key) for key, v in reversed(found.items()) if isinstance(v, Value)}
    outputs = tuple(map(_checked, y if isinstance(y, tuple) else (y,)))
    nodes = [value for value in _in_order(outputs) if value.layer is not None]
    used = {each for value in nodes for each in value.inputs}.union(outputs)
    unused = [name for name, value in {**inputs, **trained}.items() if value not in used]
    if unused:
        raise unexpected("graph", "every argument to be used", ", ".join(unused))
    named = _named(nodes, names, arguments)
    numbers = {value: i for i, value in enumerate((*inputs.values(), *named))}
    planned = _connect(named, numbers)
    returns = tuple(numbers[each] for each in outputs)
    plan = Plan(
        reads=tuple(n.inputs if len(n.inputs) != 1 else n.inputs[0] for n in planned),
        y=returns if isinstance(y, tuple) else returns[0],
        arrange=Arrangement(partial(_split, nodes=planned), partial(_join, nodes=planned)),
        bare=tuple(i for i, node in enumerate(planned) if not node.has_params),
        entries=len(inputs) if len(inputs) != 1 else None,
        notes=1, arguments=tuple(inputs), parameters=tuple(trained), nodes=planned,
    )  # fmt: skip
    return plan, tuple(
        value.layer.replace(name=f"{name} = {value.layer.name}")
        for value, name in named.items()
        if value.layer is not None
    )


def _checked(returned: object) -> Value:
    if isinstance(returned, Value):
        return returned
    raise unexpected("graph", "the function to return values of the graph", describe(returned))


def _arguments_of(function: Callable[..., object]) -> tuple[list[str], list[str]]:
    positional: list[str] = []
    keyword: list[str] = []
    for name, parameter in signature(function).parameters.items():
        if parameter.kind in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD):
            raise unexpected("graph", "arguments with names", parameter)
        (keyword if parameter.kind is Parameter.KEYWORD_ONLY else positional).append(name)
    if not positional:
        raise LayerError("graph", "expected a function with a positional argument, which is x")
    return positional, keyword


def _in_order(outputs: Iterable[Value]) -> list[Value]:
    order: list[Value] = []
    seen: set[Value] = set()
    stack = [(value, False) for value in reversed(tuple(outputs))]
    while stack:
        value, is_done = stack.pop()
        if is_done:
            order.append(value)
        elif value not in seen:
            seen.add(value)
            stack.append((value, True))
            stack += [(each, False) for each in reversed(value.inputs)]
    return order


def _named(nodes: list[Value], names: dict[Value, str], arguments: list[str]) -> dict[Value, str]:
    """Name each node: as a parameter or as the function says, or by its layer and a number."""
    counts = Counter(arguments)
    chosen = {value: value.name or names.get(value, "") for value in nodes}
    taken = {*arguments, *chosen.values()}
    for value, name in chosen.items():
        if not name and value.layer is not None:
            stem = name = core.called(value.layer.name)
            while name in taken:
                counts[stem] += 1
                name = f"{stem}_{counts[stem]}"
            taken.add(name)
            chosen[value] = name
    return chosen


def _connect(named: dict[Value, str], numbers: dict[Value, int]) -> tuple[Node, ...]:
    nodes = []
    for value, name in named.items():
        layer = value.layer
        assert layer is not None, "only an argument has no layer"
        of = core.file_of(layer)
        broadcasts = of in _OF_ONE_SHAPE
        first = _OF_ONE_SHAPE.get(of, 0 if of in _OF_ONE_DTYPE else None)
        inputs = tuple(numbers[each] for each in value.inputs)
        nodes.append(Node(name, inputs, broadcasts, first, not core.has_no_params(layer)))
    return tuple(nodes)


def _init(
    parts: tuple[Layer, ...],
    key: core.Key,
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
    call = core.Spec(graph, {"function": plan, "init": init}, name)
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
