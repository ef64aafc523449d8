"""One call of a function of torch, which can be repeated with other inputs."""

from __future__ import annotations

import linecache
from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from types import CodeType
from typing import Any, TypeAlias

import attrs
import optree
import torch
from torch import Tensor

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

    @property
    def code(self) -> str:
        """The call as forward has it, such as "x * w"; "" if it is long or the library's."""
        own = ((c, offset) for c, offset in self.position if not c.co_filename.startswith(_TORCH))
        code, offset = next(own, (None, 0))
        if code is None or code.co_filename.startswith(_LIBRARY):
            return ""
        return _source(code, offset)

    def arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:  # Any: of any function
        """Return the arguments as they were given."""
        given: Any = optree.tree_unflatten(self.spec, self.leaves)
        args, kwargs = given
        return tuple(args), dict(kwargs)

    @property
    def inputs(self) -> list[Tensor]:
        """The tensors that depend on the arrays, as they are part of autograd's graph."""
        return [self.leaves[i] for i in self.tracked]

    @cached_property
    def _again(self) -> tuple[list[Tensor], list[Tensor]]:
        inputs = [u.detach().clone().requires_grad_() for u in self.inputs]
        return inputs, self.run(inputs)

    def run(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Call the function of other inputs, and return its floating outputs."""
        leaves = list(self.leaves)
        for i, u in zip(self.tracked, inputs, strict=True):
            leaves[i] = u
        args, kwargs = optree.tree_unflatten(self.spec, leaves)
        with torch.enable_grad():
            return floats(self.function(*args, **kwargs))

    def vjp(self, gs: Sequence[Tensor], at: Sequence[Tensor] | None = None) -> list[Tensor]:
        """Compute the gradient of the inputs from that of the outputs, here or at other inputs."""
        if at is None:
            inputs, outputs = self._again
        else:
            inputs = [u.detach().clone().requires_grad_() for u in at]
            outputs = self.run(inputs)
        return list(
            torch.autograd.grad(
                outputs, inputs, list(gs), retain_graph=True, materialize_grads=True
            )
        )


def _source(code: CodeType, offset: int) -> str:
    """Return the expression at an offset of compiled code, if it is short."""
    lines = next(islice(code.co_positions(), offset // 2, None), (None,) * 4)
    first, last, start, end = lines
    if first is None or first != last or start is None or end is None:
        return ""
    line = linecache.getline(code.co_filename, first).encode()[start:end].decode()
    return line if len(line) <= LONGEST_CODE else ""


def floats(result: Any) -> list[Tensor]:
    """List the floating tensors in what a function returned."""
    leaves: list[Any] = optree.tree_leaves(result)  # Any: of any function of torch
    return [leaf for leaf in leaves if isinstance(leaf, Tensor) and leaf.is_floating_point()]
