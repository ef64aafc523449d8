"""A function of values as a plan: which layer computes what of which values, in which order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial, reduce
from inspect import Parameter, signature
from types import ModuleType
from typing import Final, TypeAlias

import attrs
import torch
from torch import Tensor

from lincoln_fn import core, layers
from lincoln_fn.combine import _torch_layers
from lincoln_fn.combine._values import Value
from lincoln_fn.combine._wiring import Wiring
from lincoln_fn.core import Arrays, Layer, LayerError, Params, called, declare, describe, record
from lincoln_fn.layers.broadcast import repeated, summed_to
from lincoln_fn.walk import Arrangement

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


@record
class Before:
    """The form of each input of the nodes that repeat or convert them; () for the others."""

    inputs: tuple[tuple[Form, ...], ...] = core.static()


@attrs.frozen(kw_only=True)
class Plan(Wiring):
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
            raise core.unexpected(label, expected, core.describe_non_tuple(x))
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
        raise core.unexpected("graph", f"params {expected}", describe(params))
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
    """Return the parameter: v = W."""
    return params, ()


def _take_back(params: Tensor, cache: tuple[()], g: Tensor) -> tuple[tuple[()], Tensor]:
    """Return dW = g."""
    return (), g


declare(_give, kind="embedding")  # like a table, it keeps the relevance that it gets


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
        raise core.unexpected("graph", "every argument to be used", ", ".join(unused))
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
    raise core.unexpected("graph", "the function to return values of the graph", describe(returned))


def _arguments_of(function: Callable[..., object]) -> tuple[list[str], list[str]]:
    positional: list[str] = []
    keyword: list[str] = []
    for name, parameter in signature(function).parameters.items():
        if parameter.kind in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD):
            raise core.unexpected("graph", "arguments with names", parameter)
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
            stem = name = called(value.layer.name)
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
