"""What is judged: a function of tensors with what it is called with, and one run of it.

At the end stand the sentences on what `backward` raised, and the line of it to look at.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Final, TypeAlias

import attrs
import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from lincoln_fn.core import Key, is_floating, keys, tree
from lincoln_fn.testing.diagnosis import GradientError
from lincoln_fn.testing.sample import not_dense

# The function of Python that computes the gradients of all inputs, if there is one.
Backward: TypeAlias = Callable[..., object] | None
_INVALID: Final = re.compile(
    r"an invalid gradient at index (\d+) - got \[(.*?)\] but expected shape .*? \[(.*?)\]"
)


_POSITIONAL: Final = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class RefusedError(Exception):
    """Raised if a forward refuses, by any error, what it is called with."""


@attrs.frozen(eq=False)
class Run:
    """One call: its inputs, those that get gradients, and the outputs that have one.

    Functions that draw, such as dropout, draw the same in each run.
    """

    f: Function
    inputs: tuple[object, ...]
    leaves: tuple[Tensor, ...]
    y: tuple[Tensor, ...]

    def cotangent(self, key: Key) -> tuple[Tensor, ...]:
        """Draw a g for each output, the same in every dtype."""

        def drawn(i: int, y: Tensor) -> Tensor:
            g = keys.normal(key.fold_in(i).near(y), tuple(y.shape), dtype=torch.float64)
            # One number near 1 would hide that it is forgotten.
            return (g if y.numel() > 1 else g + 2 * g.sign()).to(y)

        return tuple(drawn(i, y) for i, y in enumerate(self.y))

    def backward(self, g: Sequence[Tensor]) -> list[Tensor | None]:
        """Run the backward pass; of an error, a `GradientError` says what is raised."""
        f, pairs = self.f, [(y, c) for y, c in zip(self.y, g, strict=True) if y.requires_grad]
        if not pairs:
            return [None] * len(self.leaves)
        y, of_y = zip(*pairs, strict=True)
        options: Any = {"retain_graph": True, "allow_unused": True}
        with drawing(self.leaves):
            try:
                grads: list[Tensor | None] = [*torch.autograd.grad(y, self.leaves, of_y, **options)]
            except Exception as error:  # of any kind: the code is the user's
                raise GradientError(raised(error, f.names, f.backward)) from error
        if told := not_dense(dict(zip(f.leaves, grads, strict=True))):
            raise GradientError(told)
        return grads

    def gradients(self, g: Sequence[Tensor]) -> list[Tensor]:
        """Run the backward pass on a copy of g, and copy what it returns; a None is 0."""
        both = zip(self.leaves, self.backward([copied(each) for each in g]), strict=True)
        return [torch.zeros_like(leaf) if grad is None else grad.clone() for leaf, grad in both]


@attrs.frozen(eq=False)
class Function:
    """A function, and what it is called with."""

    name: str
    call: Callable[..., object]
    inputs: tuple[object, ...]
    names: tuple[str, ...]
    which: tuple[int, ...]  # the inputs that get a gradient
    # So many inputs are the caller's; the others are parameters of a module.
    of_caller: int
    # Those of the floating outputs that have a gradient; None takes all.
    outputs: tuple[int, ...] | None = None
    backward: Backward = None
    # Its forward alone, if that is known: autograd may follow it.
    forward: Callable[..., object] | None = None

    @property
    def leaves(self) -> tuple[str, ...]:
        """The names of the gradients."""
        return tuple(gradient_of(self.names[i]) for i in self.which)

    def placed(self, values: Sequence[Tensor]) -> tuple[object, ...]:
        """Replace the inputs that get gradients."""
        inputs = list(self.inputs)
        for i, value in zip(self.which, values, strict=True):
            inputs[i] = value
        return tuple(inputs)

    def at(self, inputs: Sequence[object]) -> Function:
        """Call it with other inputs."""
        return attrs.evolve(self, inputs=tuple(inputs))

    def in_dtype(self, dtype: torch.dtype) -> Function:
        """Convert the floating inputs."""
        return self.at([_cast(value, dtype) for value in self.inputs])

    def outputs_of(self, inputs: Sequence[object], seed: int = 0) -> tuple[Tensor, ...]:
        """Call it, and list the outputs that have a gradient."""
        with drawing(inputs, seed):
            y = self.call(*inputs)
        found = list(filter(is_floating, tree.leaves(y)))
        return tuple(found if self.outputs is None else (found[i] for i in self.outputs))

    def run(self, *, seed: int = 0) -> Run:
        """Call it with copies of its inputs."""
        copies = [copied(value) for value in self.inputs]
        # Any: each is a tensor.
        leaves: Any = tuple(copies[i] for i in self.which)
        with torch.enable_grad():
            for leaf in leaves:
                leaf.requires_grad_()
            try:
                y = self._outputs_of_leaves(copies, seed)
            except Exception as error:  # of any kind: the code is the user's
                raise RefusedError(f"{type(error).__name__}: {error}") from error
        return Run(self, tuple(copies), leaves, y)

    def _outputs_of_leaves(self, leaves: Sequence[object], seed: int) -> tuple[Tensor, ...]:
        try:
            return self.outputs_of(leaves, seed)
        except RuntimeError as error:
            if "a leaf Variable that requires grad" not in str(error):
                raise
            # It works in place by design.
            copies = [t.clone() if isinstance(t, Tensor) else t for t in leaves]
            return self.outputs_of(copies, seed)

    def look(self, n: int) -> str:
        """Say which line of backward returns the n-th gradient; "" if it has no source."""
        return line_of_value(self.backward, self.which[n])

    @property
    def line_of_write(self) -> str:
        """The first line of backward that changes a tensor in place; "" if none is seen."""
        for node, line in _lines(self.backward):
            is_call = isinstance(node, ast.Expr) and re.search(r"[a-z]_\(", ast.unparse(node))
            is_part = isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Subscript)
            if isinstance(node, ast.AugAssign) or is_call or is_part:
                return line
        return ""


def function_of(f: Callable[..., Any] | type[torch.autograd.Function], inputs: Any) -> Function:
    """Make the function of what is given to `check_function`."""
    owner = getattr(f, "__self__", None)
    of = owner if isinstance(owner, type) and issubclass(owner, torch.autograd.Function) else f
    if isinstance(of, nn.Module):
        return _of_module(of, tuple(inputs))
    which = _differentiable(inputs)
    if isinstance(of, type) and issubclass(of, torch.autograd.Function):
        has_context = of.setup_context is torch.autograd.Function.setup_context
        names = names_of(of.forward, len(inputs), skipped=int(has_context))
        made = Function(of.__name__, of.apply, tuple(inputs), names, which, len(inputs))
        alone = partial(_forward_of, of) if has_context else of.forward
        return attrs.evolve(made, backward=of.backward, forward=alone)
    name = getattr(of, "__name__", None) or getattr(of, "_qualname", None) or type(of).__name__
    forward = getattr(of, "_init_fn", None)  # of an operator
    names = names_of(forward or of, len(inputs))
    return Function(str(name), of, tuple(inputs), names, which, len(inputs), forward=forward)


def _forward_of(of: type[torch.autograd.Function], *inputs: object) -> object:
    ctx: Any = FunctionCtx()
    ctx.needs_input_grad = [isinstance(t, Tensor) and t.requires_grad for t in inputs]
    return of.forward(ctx, *inputs)


def _of_module(module: nn.Module, inputs: tuple[object, ...]) -> Function:
    parameters = dict(module.named_parameters())
    buffers = dict(module.named_buffers())

    def call(*given: Any) -> object:  # Any: as the module takes it
        own = dict(zip(parameters, given[len(inputs) :], strict=True))
        dtype = next((t.dtype for t in (*own.values(), *given) if is_floating(t)), None)
        # It may change its buffers.
        state = own | {name: _cast(copied(each), dtype) for name, each in buffers.items()}
        return torch.func.functional_call(module, state, given[: len(inputs)])

    names = (*names_of(module.forward, len(inputs)), *parameters)
    values = (*inputs, *(p.detach() for p in parameters.values()))
    trained = [len(inputs) + n for n, p in enumerate(parameters.values()) if p.requires_grad]
    which = (*_differentiable(inputs), *trained)
    return Function(type(module).__name__, call, values, names, which, len(inputs))


def copied(value: object) -> Any:  # Any: of the same kind
    """Copy a tensor with its strides; what is no tensor stays."""
    if not isinstance(value, Tensor):
        return value
    value = value.detach()
    if value.is_contiguous() or value.is_sparse:
        return value.clone()
    new = torch.empty_like(value, memory_format=torch.contiguous_format)
    storage: Any = value.untyped_storage()  # Any: its methods have no types
    return new.set_(storage.clone(), value.storage_offset(), value.shape, value.stride())


@contextmanager
def drawing(inputs: Sequence[object], seed: int = 0) -> Iterator[None]:
    """Let torch's generators begin at a seed, and put them back at the end."""
    devices = {t.device.index for t in inputs if isinstance(t, Tensor) and t.is_cuda}
    with torch.random.fork_rng(devices=list(devices)):
        # torch.manual_seed also visits every other device.
        generators = [torch.default_generator, *(torch.cuda.default_generators[i] for i in devices)]
        for generator in generators:
            generator.manual_seed(seed)
        yield


def _cast(value: object, dtype: torch.dtype | None) -> Any:  # Any: of the same kind
    return value.to(dtype) if is_floating(value) else value


def _differentiable(inputs: Sequence[object]) -> tuple[int, ...]:
    """List the inputs that require grad; if none does, all floating ones."""
    floating = {i: t for i, t in enumerate(inputs) if is_floating(t)}
    return tuple([i for i, t in floating.items() if t.requires_grad] or floating)


def names_of(of: Callable[..., object], count: int, *, skipped: int = 0) -> tuple[str, ...]:
    """Name the inputs of a call by the parameters of a function, but the first `skipped`."""
    schema = getattr(getattr(of, "default", of), "_schema", None)
    if schema is not None:  # of an operator
        found = [argument.name for argument in schema.arguments]
    else:
        try:
            parameters = [*inspect.signature(of).parameters.values()][skipped:]
        except (TypeError, ValueError):  # of a built-in function
            parameters = []
        found = [p.name for p in parameters if p.kind in _POSITIONAL]
    return tuple(found[i] if i < len(found) else f"x{i}" for i in range(count))


def gradient_of(name: str) -> str:
    """Name the gradient of an input."""
    return f"d{name}" if name.isidentifier() else f"the gradient of {name}"


def raised(error: Exception, names: Sequence[str], backward: Backward) -> str:
    """Say what backward raised; of a gradient of another shape, which."""
    if isinstance(error, GradientError):
        return str(error)
    told = str(error).strip().partition("\n")[0].rstrip(".")
    if (found := _INVALID.search(told)) and backward is not None:
        i = int(found[1])
        got, expected = (tuple(map(int, re.findall(r"\d+", text))) for text in found.groups()[1:])
        name = names[i] if i < len(names) else f"input {i}"
        return f"{gradient_of(name)} {shape_told(got, expected)}{line_of_value(backward, i)}"
    return f"backward raised {type(error).__name__}: {told}"


def shape_told(got: Sequence[int], expected: Sequence[int]) -> str:
    """Say how a gradient's shape differs from that of its input."""
    got, expected = tuple(got), tuple(expected)
    shapes = f"shape {got}, expected {expected}"
    more = len(got) - len(expected)
    aligned = (*(1,) * more, *expected)
    over = [axis for axis, (a, b) in enumerate(zip(got, aligned, strict=False)) if a != b]
    if more >= 0 and over and all(aligned[axis] == 1 for axis in over):
        axes = ", ".join(map(str, over))
        kind = "axis" if len(over) == 1 else "axes"
        return f"is not summed over {kind} {axes}, which its input has not: {shapes}"
    for axis in range(len(expected)):
        if got == (*expected[:axis], *expected[axis + 1 :]):
            return f"is summed over axis {axis}, which it should keep: {shapes}"
    return f"is transposed: {shapes}" if sorted(got) == sorted(expected) else f"has {shapes}"


def line_of_value(backward: Backward, i: int) -> str:
    """Find the line that makes the i-th value that backward returns; "" if it has no source."""
    lines = _lines(backward)
    returned = [(node.value, line) for node, line in lines if isinstance(node, ast.Return)]
    value, found = returned[-1] if returned else (None, "")
    if isinstance(value, ast.Tuple) and i < len(value.elts):
        value = value.elts[i]
    name = value.id if isinstance(value, ast.Name) else None
    return next((line for node, line in reversed(lines) if name in _assigned(node)), found)


def _lines(function: Backward) -> list[tuple[ast.stmt, str]]:
    """List the statements of a function of Python, and where they are; [] if it has no source."""
    try:
        lines, first = inspect.getsourcelines(function)  # type: ignore[arg-type]  # None has none
        body = ast.parse(textwrap.dedent("".join(lines))).body[0]
    except (OSError, SyntaxError, TypeError, IndexError):
        return []
    # The source of a lambda is the statement that it stands in.
    is_it = getattr(body, "name", "") == getattr(function, "__name__", None)
    nodes = [node for node in ast.walk(body) if isinstance(node, ast.stmt)] if is_it else []
    nodes.sort(key=lambda node: node.lineno)
    where = " (line {}: {})"
    return [(n, where.format(first + n.lineno - 1, lines[n.lineno - 1].strip())) for n in nodes]


def _assigned(node: ast.stmt) -> set[str]:
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    parts = [each for target in targets if target for each in ast.walk(target)]
    return {each.id for each in parts if isinstance(each, ast.Name)}
