"""What is known of a wrong gradient, and what can be computed from it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import attrs
import torch
from torch import Tensor

from lincoln_fn.core import Arrays, arguments_of, tree
from lincoln_fn.testing.diagnosis import close
from lincoln_fn.testing.expansions import EXPANSIONS
from lincoln_fn.testing.oracles import by_autograd, full_gradient
from lincoln_fn.testing.sample import Sample, floating_leaves
from lincoln_fn.testing.tape import Tape, recorded

# Of more numbers than these, differences take long.
MOST_DIFFERENCES = 200


@attrs.frozen(eq=False, slots=False)
class Evidence:
    """A layer's sample with wrong gradients, and the right ones."""

    # At a point where the layer is differentiable.
    sample: Sample
    expected: list[Tensor]
    # What a search in forward has found, for several hypotheses.
    remembered: dict[object, list[Any]] = attrs.field(factory=dict, init=False)

    @property
    def given(self) -> list[Tensor]:
        """The submitted gradients."""
        return self.sample.given

    @property
    def x(self) -> list[Tensor]:
        """The floating tensors of x."""
        return floating_leaves(self.sample.x)

    @cached_property
    def y(self) -> list[Tensor]:
        """The floating tensors of y."""
        return floating_leaves(self.sample.y)

    @cached_property
    def g(self) -> list[Tensor]:
        """The floating tensors of g."""
        return floating_leaves(self.sample.g)

    @cached_property
    def sizes(self) -> list[int]:
        """The numbers that a mean may divide by: sizes of axes, and their products."""
        found = set()
        for leaf in (*self.y, *self.sample.arrays):
            for first in range(leaf.ndim):
                for last in range(first, leaf.ndim):
                    found.add(leaf.shape[first : last + 1].numel())
        sizes = [leaf.numel() for leaf in (*self.x, *self.y)]
        # A pooling averages so many numbers.
        found |= {a // b for a in sizes for b in sizes if b and a % b == 0}
        return sorted(n for n in found if n > 1)

    def option(self, name: str) -> object:
        """Return a hyperparameter that is bound to the layer's forward, or None."""
        return arguments_of(self.sample.layer.forward).get(name)

    def gradients(
        self, arrays: Sequence[Tensor] | None = None, g: Arrays | None = None
    ) -> list[Tensor]:
        """Compute the right gradients elsewhere: at other arrays, or for another g; [] if none."""
        at = self.sample.arrays if arrays is None else list(arrays)
        cotangent = self.sample.g if g is None else g
        forward = self.sample.forward
        try:
            if self.is_followed:
                if arrays is None and self.tapes:
                    return self.tapes[0].gradients_for(cotangent)
                return by_autograd(forward, at, cotangent) or []
            if sum(array.numel() for array in at) > MOST_DIFFERENCES:
                return []
            return [full_gradient(forward, at, i, cotangent) for i in range(len(at))]
        except Exception:  # the layer may refuse other arrays in any way
            return []

    @cached_property
    def is_followed(self) -> bool:
        """Whether autograd follows forward: it does not follow numpy."""
        found = by_autograd(self.sample.forward, self.sample.arrays, self.sample.g)
        return found is not None and all(
            close(right, auto) for right, auto in zip(self.expected, found, strict=True)
        )

    def derivative(self, i: int) -> Tensor | None:
        """Return dy/dx element by element, if each y depends only on its own place of array i."""
        found = self._derivatives
        return found[i] if found else None

    @cached_property
    def _derivatives(self) -> list[Tensor | None]:
        ones = self.gradients(g=tree.map(torch.ones_like, self.sample.g))
        if len(self.y) != 1 or not ones:
            return []
        g = self.g[0]
        part = 1e-9 if self.is_followed else 1e-6
        return [
            d
            if d.shape == g.shape and torch.allclose(g * d, right, rtol=part, atol=part / 1000)
            else None
            for d, right in zip(ones, self.expected, strict=True)
        ]

    @cached_property
    def tapes(self) -> list[Tape]:
        """The recordings of forward: as it is written, and with torch's functions written out."""
        made: list[Tape] = []
        for expansions in ({}, EXPANSIONS):
            try:
                tape = recorded(self.sample.forward, self.sample.arrays, self.sample.g, expansions)
            except Exception:  # forward may leave torch, or use what the tape cannot follow
                return made
            # A forward without a function that is written out is the same twice.
            if not made or [c.name for c in tape.calls] != [c.name for c in made[0].calls]:
                made.append(tape)
        return made

    def pairs(self) -> Iterator[tuple[Tensor, Tensor]]:
        """List the submitted gradients beside the right ones."""
        yield from zip(self.given, self.expected, strict=True)
