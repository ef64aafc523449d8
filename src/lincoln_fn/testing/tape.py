"""The calls of torch's functions in a forward, and the gradient if one of them had a mistake.

A wrong backward is often the right one with a mistake at one operation: the derivative of one tanh
is missing, or one mean is treated as a constant. `Tape` records the operations of `forward`. It
then computes what all gradients would be if the derivative of some calls were another one.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from itertools import compress
from typing import Any, TypeAlias

import optree
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from lincoln_fn.core import Arrays, tree
from lincoln_fn.testing.call import Call, Function, Position, floats
from lincoln_fn.testing.follow import Forward, outputs

# For one call, the gradients of its outputs and the right ones of its inputs, the wrong ones of the
# inputs; None where they are right.
Mistake: TypeAlias = Callable[[Call, list[Tensor], list[Tensor]], Sequence[Tensor | None]]

MOST_IN_CHAIN = 16
_TIMES = (torch.Tensor.mul, torch.Tensor.__mul__, torch.mul)


class Tape(TorchFunctionMode):
    """A recording of a forward."""

    def __init__(
        self,
        forward: Forward,
        arrays: Sequence[Tensor],
        g: Arrays,
    ) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self._known: dict[int, list[Tensor]] = {}
        with torch.enable_grad():
            self.arrays = [array.detach().clone().requires_grad_() for array in arrays]
            with self:
                y = outputs(forward, self.arrays)
        # The output may be an input, or not depend on any.
        self.depends_on_arrays = [leaf.requires_grad for leaf in y]
        self.outputs = [leaf for leaf in y if leaf.requires_grad]
        self.cotangents = self.cotangents_of(g)

    @cached_property
    def sites(self) -> dict[Position, list[Call]]:
        """The calls by their place in the code: those of a loop together."""
        found: dict[Position, list[Call]] = {}
        for call in self.calls:
            found.setdefault(call.position, []).append(call)
        return found

    # Any: of every function of torch.
    def __torch_function__(
        self, func: Function, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Call a function of torch, and record it if its result depends on the arrays."""
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        made = [out for out in floats(result) if out.requires_grad]
        if made:
            given: Any = (args, kwargs)
            leaves, spec = optree.tree_flatten(given, none_is_leaf=True)
            tracked = [
                i
                for i, leaf in enumerate(leaves)
                if isinstance(leaf, Tensor) and leaf.requires_grad
            ]
            # d * d has one operand, used twice: two tracked ones would have a path each.
            is_square = len(leaves) == 2 and leaves[0] is leaves[1] and func in _TIMES
            if is_square:
                func, leaves, tracked = torch.square, leaves[:1], [0]
                given = (leaves, {})
                spec = optree.tree_structure(given, none_is_leaf=True)
            if tracked and not any(leaves[i] is out for i in tracked for out in made):
                self.calls.append(Call(func, leaves, spec, tracked, made, _position()))
        return result

    def cotangents_of(self, g: Arrays) -> list[Tensor]:
        """List the parts of g for the outputs."""
        return [*compress(tree.leaves(g), self.depends_on_arrays)]

    @cached_property
    def right(self) -> list[Tensor]:
        """The right gradients of the arrays."""
        return self.flow(self.outputs, self.cotangents, self.arrays)

    @cached_property
    def _arrived(self) -> dict[int, Tensor]:
        outputs = [out for call in self.calls for out in call.outputs]
        found = self.flow(self.outputs, self.cotangents, outputs)
        return dict(zip(map(id, outputs), found, strict=True))

    def arrived(self, call: Call) -> list[Tensor]:
        """Return the right gradients of a call's outputs."""
        return [self._arrived[id(out)] for out in call.outputs]

    def _passed(self, call: Call) -> list[Tensor]:
        """Return the right gradients of a call's inputs."""
        if id(call) not in self._known:
            self._known[id(call)] = call.vjp(self.arrived(call))
        return self._known[id(call)]

    def gradients_if(
        self, calls: Sequence[Call], mistake: Mistake, to: Sequence[Tensor]
    ) -> list[Tensor]:
        """Compute the gradients of tensors if these calls, in their order, had a mistake."""
        sources: list[Tensor] = []
        more: list[Tensor] = []
        # Of long loops, those alone whose rounds do not depend on each other.
        is_chain = 1 < len(calls) <= MOST_IN_CHAIN
        if len(calls) > MOST_IN_CHAIN and self._depends(calls[-1], calls[0]):
            raise ValueError("the loop is too long")
        for call in reversed(calls):
            gs, right = self.arrived(call), self._passed(call)
            # A backward pass is linear: only what the mistakes add flows again.
            added = self.flow(sources, more, call.outputs) if is_chain else []
            if any(bool(extra.any()) for extra in added):
                gs = [g + extra for g, extra in zip(gs, added, strict=True)]
                right = call.vjp(gs)
            for u, wrong, du in zip(call.inputs, mistake(call, gs, right), right, strict=True):
                if wrong is not None:
                    sources.append(u)
                    more.append(wrong - du)
        rights = self.flow(self.outputs, self.cotangents, to)
        return [r + extra for r, extra in zip(rights, self.flow(sources, more, to), strict=True)]

    def _depends(self, call: Call, on: Call) -> bool:
        """Return whether a call's inputs depend on the outputs of another."""
        ones = list(map(torch.ones_like, call.inputs))
        return any(bool(d.any()) for d in self.flow(call.inputs, ones, on.outputs))

    def flow(
        self, sources: list[Tensor], cotangents: list[Tensor], to: Sequence[Tensor]
    ) -> list[Tensor]:
        """Compute the gradients of some tensors from those of others."""
        if not (sources and to):
            return [torch.zeros_like(leaf) for leaf in to]
        found = torch.autograd.grad(
            sources, list(to), cotangents, retain_graph=True, materialize_grads=True
        )
        return list(found)


def _position() -> Position:
    """Return where the call stands: the same in each round of a loop."""
    frame = sys._getframe(2)
    return tuple((f.f_code, f.f_lasti) for f in _frames(frame))


def _frames(frame: Any) -> Iterator[Any]:  # Any: frames of Python
    for _ in range(8):
        if frame is None:
            return
        if frame.f_code.co_name != "__torch_function__":
            yield frame
        frame = frame.f_back
