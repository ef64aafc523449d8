"""The calls of torch's functions in a forward, and the gradient if one of them had a mistake.

A wrong backward is often the right one with a mistake at one operation: the derivative of one tanh
is missing, or one mean is treated as a constant. `Tape` records the operations of `forward`. It
then computes what all gradients would be if the derivative of some calls were another one.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import cached_property
from itertools import compress
from typing import Any, TypeAlias

import optree
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from lincoln_fn.core import Arrays, tree
from lincoln_fn.testing.call import Call, Function, Position, floats
from lincoln_fn.testing.oracles import Forward

# For one call, the gradients of its outputs and the right ones of its inputs, the wrong ones of the
# inputs; None where they are right.
Mistake: TypeAlias = Callable[[Call, list[Tensor], list[Tensor]], Sequence[Tensor | None]]

_TIMES = (torch.Tensor.mul, torch.Tensor.__mul__, torch.mul)


class Tape(TorchFunctionMode):
    """A recording of a forward."""

    def __init__(
        self,
        forward: Forward,
        arrays: Sequence[Tensor],
        g: Arrays,
        expansions: dict[Function, Function] | None = None,
        constants: Collection[Position] = (),
    ) -> None:
        super().__init__()
        self.constants = constants
        self.expansions = expansions or {}
        self.calls: list[Call] = []
        self._known: dict[int, list[Tensor]] = {}
        with torch.enable_grad():
            self.arrays = [array.detach().clone().requires_grad_() for array in arrays]
            with self:
                y = tree.leaves(forward(self.arrays))
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
        if func in self.expansions:
            with self:
                return self.expansions[func](*args, **kwargs)
        result = func(*args, **kwargs)
        outputs = [out for out in floats(result) if out.requires_grad]
        if outputs and self.constants and _position() in self.constants:
            return optree.tree_map(_detached, result)
        if outputs:
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
            if tracked and not any(leaves[i] is out for i in tracked for out in outputs):
                self.calls.append(Call(func, leaves, spec, tracked, outputs, _position()))
        return result

    def cotangents_of(self, g: Arrays) -> list[Tensor]:
        """List the parts of g for the outputs."""
        return [*compress(tree.leaves(g), self.depends_on_arrays)]

    def gradients_for(self, g: Arrays) -> list[Tensor]:
        """Compute the right gradients of the arrays for another g."""
        return self.flow(self.outputs, self.cotangents_of(g), self.arrays)

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

    def gradients_with(self, sources: list[Tensor], more: list[Tensor]) -> list[Tensor]:
        """Compute the gradients of the arrays with something added to those of some tensors."""
        added = self.flow(sources, more, self.arrays)
        return [right + extra for right, extra in zip(self.right, added, strict=True)]

    def gradients_if(self, calls: Sequence[Call], mistake: Mistake) -> list[Tensor]:
        """Compute the gradients of the arrays if these calls, in their order, had a mistake."""
        sources: list[Tensor] = []
        more: list[Tensor] = []
        for call in reversed(calls):
            gs, right = self.arrived(call), self._passed(call)
            # A backward pass is linear: only what the mistakes add flows again.
            added = self.flow(sources, more, call.outputs)
            if any(bool(extra.any()) for extra in added):
                gs = [g + extra for g, extra in zip(gs, added, strict=True)]
                right = call.vjp(gs)
            for u, wrong, du in zip(call.inputs, mistake(call, gs, right), right, strict=True):
                if wrong is not None:
                    sources.append(u)
                    more.append(wrong - du)
        return self.gradients_with(sources, more) if sources else self.right

    def depends(self, on: Call, call: Call) -> bool:
        """Return whether a call's inputs depend on the outputs of another."""
        inputs = call.inputs
        flow = torch.autograd.grad(
            inputs,
            on.outputs,
            list(map(torch.ones_like, inputs)),
            retain_graph=True,
            allow_unused=True,
        )
        return any(part is not None for part in flow)

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


def without_path(call: Call, gs: list[Tensor], right: list[Tensor]) -> list[Tensor]:
    """Treat a call as a constant."""
    return [torch.zeros_like(du) for du in right]


def recorded(
    forward: Forward, arrays: Sequence[Tensor], g: Arrays, expansions: dict[Function, Function]
) -> Tape:
    """Record a forward, with the largest values that it subtracts for safety as constants."""
    # Softmax subtracts its largest score, which changes no value. A backward by the formula knows
    # nothing of it.
    tape = Tape(forward, arrays, g, expansions)
    neutral = set()
    for call in tape.calls:
        if call.name in ("max", "amax", "min", "amin"):
            pairs = zip(tape.gradients_if([call], without_path), tape.right, strict=True)
            if all(torch.allclose(a, b, rtol=1e-9, atol=1e-12) for a, b in pairs):
                neutral.add(call.position)
    return Tape(forward, arrays, g, expansions, neutral) if neutral else tape


def _detached(leaf: object) -> object:
    return leaf.detach() if isinstance(leaf, Tensor) else leaf


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
