"""The calls of torch's functions in a forward, and the gradient if one of them had a mistake.

A wrong backward is often the right one with a mistake at one operation: the derivative of one tanh
is missing, or one mean is treated as a constant. `Tape` records the operations of `forward`. It
then computes what a gradient would be if one of them had another derivative.
"""

from __future__ import annotations

import linecache
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import cache, cached_property
from itertools import compress, count, islice
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, TypeAlias

import attrs
import optree
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from lincoln_fn.core import Arrays, tree
from lincoln_fn.testing.from_numpy import Forward, outputs

# Any: of every function of torch.
Function: TypeAlias = Callable[..., Any]
# Code and the place in it, the innermost first.
Position: TypeAlias = tuple[tuple[CodeType, int], ...]
# A longer piece of code is not quoted.
LONGEST_CODE = 40
_TORCH = str(Path(torch.__file__).parent)
_LIBRARY = str(Path(__file__).parent.parent)
_OPERATORS = {
    "truediv": "div", "rsub": "sub", "rpow": "pow", "rdiv": "div", "rtruediv": "div",
    "rmul": "mul", "radd": "add", "rmatmul": "matmul", "mm": "matmul", "bmm": "matmul",
    "multiply": "mul", "subtract": "sub", "divide": "div", "true_divide": "div",
}  # fmt: skip


@attrs.frozen(eq=False, slots=False)
class Call:
    """One call of a function of torch."""

    function: Function
    # Its arguments, flat, and their structure.
    leaves: list[Any]
    spec: Any  # Any: optree's
    # The places in `leaves` of the tensors that depend on the arrays.
    tracked: list[int]
    # The floating tensors that it returned.
    outputs: list[Tensor]
    position: Position

    @property
    def name(self) -> str:
        """The function's name: "mul" for `a * b`."""
        name = getattr(self.function, "__name__", "")
        if name == "__get__":
            name = self.function.__self__.__name__  # type: ignore[attr-defined]  # of a property
        name = name.strip("_")
        return _OPERATORS.get(name, name.removesuffix("_with_indices"))

    @cached_property
    def _place(self) -> tuple[int, str]:
        """The line and the text of the call in code of a user; 0 and "" if it is the library's."""
        own = ((c, offset) for c, offset in self.position if not c.co_filename.startswith(_TORCH))
        code, offset = next(own, (None, 0))
        if code is None or code.co_filename.startswith(_LIBRARY):
            return 0, ""
        first, last, start, end = next(islice(code.co_positions(), offset // 2, None), (None,) * 4)
        if first is None or first != last or end is None:  # -X no_debug_ranges has no columns
            return first or 0, ""
        text = linecache.getline(code.co_filename, first).encode()[start:end].decode()
        return first, text if len(text) <= LONGEST_CODE else ""

    @property
    def line(self) -> int:
        """The line of forward that it is in; 0 if it is the library's."""
        return self._place[0]

    @property
    def code(self) -> str:
        """The call as forward has it, such as "x * w"; "" if it is long or the library's."""
        return self._place[1]

    @property
    def short(self) -> str:
        """The code, or else what it calls."""
        return f"`{self.code}`" if self.code else f"{self.name}()"

    @property
    def inputs(self) -> list[Tensor]:
        """The tensors that depend on the arrays, as they are part of autograd's graph."""
        return [self.leaves[i] for i in self.tracked]

    @cached_property
    def _again(self) -> tuple[list[Tensor], list[Tensor]]:
        inputs, leaves = [u.detach().clone().requires_grad_() for u in self.inputs], [*self.leaves]
        for i, u in zip(self.tracked, inputs, strict=True):
            leaves[i] = u
        args, kwargs = optree.tree_unflatten(self.spec, leaves)
        with torch.enable_grad():
            return inputs, floats(self.function(*args, **kwargs))

    def vjp(self, gs: Sequence[Tensor]) -> list[Tensor]:
        """Compute the gradient of the inputs from that of the outputs."""
        inputs, outputs = self._again
        return _grad(outputs, inputs, gs)


def describe(call: Call) -> str:
    """Name an operation, with the code that calls it."""
    return f"{call.name}(){f' (in `{call.code}`)' if call.code else ''}"


def floats(result: Any) -> list[Tensor]:
    """List the floating tensors in what a function returned."""
    leaves: list[Any] = optree.tree_leaves(result)  # Any: of any function of torch
    return [leaf for leaf in leaves if isinstance(leaf, Tensor) and leaf.is_floating_point()]


# For one input of a call, from the gradient of its output and the right one, a wrong one.
WrongDerivative: TypeAlias = Callable[[Call, int, Tensor, Tensor], Tensor | None]

# Of a longer loop, the rounds count as independent, and of a much longer one none is looked at.
MOST_IN_CHAIN, MOST_ROUNDS = 16, 400
MOST_SITES = 60
# So many frames tell one place of the code from another.
DEEPEST = 8
_TIMES = (torch.Tensor.mul, torch.Tensor.__mul__, torch.mul)
_COPIES = ("clone", "to", "contiguous")
# A mistake in a mean is said to be there, not in what is averaged.
_FIRST = ("mean", "sum", "var", "std", "norm", "max", "amax")


class Tape(TorchFunctionMode):
    """A recording of a forward."""

    def __init__(self, forward: Forward, arrays: Sequence[Tensor], g: Arrays) -> None:
        super().__init__()
        self.calls: list[Call] = []
        with torch.enable_grad():
            self.arrays = [array.detach().clone().requires_grad_() for array in arrays]
            with self:
                y = outputs(forward, self.arrays)
        # The output may be an input, or not depend on any.
        self.depends_on_arrays = [leaf.requires_grad for leaf in y]
        self.outputs = [leaf for leaf in y if leaf.requires_grad]
        self.cotangents = self.cotangents_of(g)
        # The right gradients of a call's inputs, as far as they go through it.
        self.passed = cache(lambda call: call.vjp(self.arrived(call)))

    @cached_property
    def sites(self) -> dict[Position, list[Call]]:
        """The calls by their place in the code: those of a loop together."""
        found: dict[Position, list[Call]] = {}
        for call in self.calls:
            found.setdefault(call.position, []).append(call)
        return found

    # Any: of every function of torch.
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        made = [out for out in floats(result) if out.requires_grad]
        if made:
            # d * d has one operand, used twice: two tracked ones would have a path each.
            if func in _TIMES and len(args) == 2 and args[0] is args[1]:
                func, args = torch.square, args[:1]
            given: Any = (args, kwargs)
            leaves, spec = optree.tree_flatten(given, none_is_leaf=True)
            is_tracked = [isinstance(leaf, Tensor) and leaf.requires_grad for leaf in leaves]
            tracked = [*compress(count(), is_tracked)]
            if tracked and not any(leaves[i] is out for i in tracked for out in made):
                self.calls.append(Call(func, leaves, spec, tracked, made, _position()))
        return result

    def cotangents_of(self, g: Arrays) -> list[Tensor]:
        """List the parts of g for the outputs."""
        return [*compress(tree.leaves(g), self.depends_on_arrays)]

    @cached_property
    def _arrived(self) -> dict[int, Tensor]:
        outputs = [out for call in self.calls for out in call.outputs]
        found = self.flow(self.outputs, self.cotangents, outputs)
        return dict(zip(map(id, outputs), found, strict=True))

    def uses(self, tensor: Tensor) -> list[tuple[Call, int]]:
        """List the calls that take a tensor, with its number among their inputs."""
        return [(call, k) for call in self.calls for k, u in enumerate(call.inputs) if u is tensor]

    def arrived(self, call: Call) -> list[Tensor]:
        """Return the right gradients of a call's outputs."""
        return [self._arrived[id(out)] for out in call.outputs]

    def changes_if(self, mistake: WrongDerivative, to: Tensor) -> Iterator[tuple[Call, Tensor]]:
        """Compute what the gradient of a tensor changes if an operation, one at a time, has it."""
        sites = [c for c in self.sites.values() if c[0].name not in _COPIES]
        sites = [c for c in sites if len(c) <= MOST_ROUNDS][:MOST_SITES]
        for calls in sorted(sites, key=lambda calls: calls[0].name not in _FIRST):
            for place in sorted({place for call in calls for place in call.tracked}):
                with suppress(RuntimeError, TypeError, ValueError, IndexError):  # of any function
                    yield calls[0], self._change(calls, place, mistake, to)

    def _change(self, calls: list[Call], place: int, of: WrongDerivative, to: Tensor) -> Tensor:
        sources, more = list[Tensor](), list[Tensor]()
        for call in reversed(calls):
            if place not in call.tracked or len(call.outputs) != 1:
                continue
            (g,), k = self.arrived(call), call.tracked.index(place)
            right = self.passed(call)[k]
            if sources and len(calls) <= MOST_IN_CHAIN:
                # A backward pass is linear: only what the mistakes add flows again.
                g = g + self.flow(sources, more, call.outputs)[0]
                right = call.vjp([g])[k]
            if (wrong := of(call, k, g, right)) is not None:
                sources.append(call.inputs[k])
                more.append(wrong - right)
        return self.flow(sources, more, [to])[0]

    def flow(
        self, sources: list[Tensor], cotangents: list[Tensor], to: Sequence[Tensor]
    ) -> list[Tensor]:
        """Compute the gradients of some tensors from those of others."""
        if not (sources and to):
            return [torch.zeros_like(leaf) for leaf in to]
        return _grad(sources, to, cotangents)


def _grad(y: Sequence[Tensor], x: Sequence[Tensor], g: Sequence[Tensor]) -> list[Tensor]:
    options: Any = {"retain_graph": True, "materialize_grads": True}
    return [*torch.autograd.grad([*y], [*x], [*g], **options)]


def _position() -> Position:
    """Return where the call stands: the same in each round of a loop."""
    frame: FrameType | None = sys._getframe(2)
    found: list[tuple[CodeType, int]] = []
    while frame is not None and len(found) < DEEPEST:
        if frame.f_code.co_name != "__torch_function__":
            found.append((frame.f_code, frame.f_lasti))
        frame = frame.f_back
    return tuple(found)
