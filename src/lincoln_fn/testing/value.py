"""What a value of backward should be, and what single mistakes in operations would add to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from itertools import count

import attrs
import torch
from torch import Tensor

from lincoln_fn.core import Arrays, tree
from lincoln_fn.testing.evidence import Evidence, Known
from lincoln_fn.testing.tape import Call, Mistake, describe
from lincoln_fn.testing.terms import CUT, Change, Hand, fits, list_terms

_PRODUCTS = ("mul", "matmul", "linear", "einsum", "conv1d", "conv2d", "conv3d")


@attrs.frozen(eq=False, slots=False)
class Value:
    """A value that backward should have computed."""

    of: Evidence
    # What it is the gradient of.
    known: Known
    right: Tensor
    # What it is the gradient of, on the tape; None if autograd does not follow it.
    tensor: Tensor | None
    hand: Hand

    def _if(self, mistake: Mistake) -> Iterator[tuple[str, str, Tensor]]:
        """List what a mistake in the derivative of one operation changes, with its name."""
        if self.of.tape is not None and self.tensor is not None:
            for call, change in self.of.tape.changes_if(mistake, self.tensor):
                if bool(change.any()) and bool(change.isfinite().all()):
                    yield call.name, describe(call), change

    @cached_property
    def cuts(self) -> list[Change]:
        """Take one operation for a constant."""
        return [Change(CUT, what, change) for _, what, change in self._if(_zeros)]

    @cached_property
    def derivatives(self) -> list[Change]:
        """Take another derivative of one operation."""
        factor = dict.fromkeys(_PRODUCTS, "other factor")
        return [
            Change(kind, said.format(factor.get(name, "derivative"), what), change)
            for kind, said, mistake in _MISTAKES
            for name, what, change in self._if(mistake)
        ]

    @cached_property
    def factors(self) -> list[Change]:
        """Take a factor too many or too few, in one path or in all."""
        paths = [(f" in the path through {cut.said}", cut.value) for cut in self.cuts]
        return [
            Change(kind, f"{said} {name}{path}", change - change * factor)
            for name, value in self.hand
            for kind, said, factor in (
                ("further factor", "has the further factor", value),
                ("factor missing", "lacks the factor", 1 / value),
            )
            if fits(value.shape, self.right.shape) and bool(factor.isfinite().all())
            for path, change in (*paths, ("", -self.right))
        ]

    @cached_property
    def parts(self) -> list[Tensor]:
        """What single positions of the first leaf of g give."""
        assert self.tensor is not None
        masks = torch.eye(self.of.g[0].numel()).view(-1, *self.of.g[0].shape)
        return [self.of.gradient(self.tensor, masked(self.of.sample.g, 0, m)) for m in masks]

    @cached_property
    def terms(self) -> list[Change]:
        """Add a product of what is at hand."""
        return list_terms(self.right, self.of.gs, self.hand)


def masked(g: Arrays, which: int, mask: Tensor | float) -> Arrays:
    """Keep some places of one leaf of g, and set all else to 0."""
    places = count()
    return tree.map(lambda leaf: leaf * (mask if next(places) == which else 0), g)


def _zeros(call: Call, k: int, g: Tensor, right: Tensor) -> Tensor:
    return torch.zeros_like(right)


def _passed_on(call: Call, k: int, g: Tensor, right: Tensor) -> Tensor | None:
    return g.sum_to_size(right.shape) if fits(right.shape, g.shape) else None


def _inverted(call: Call, k: int, g: Tensor, right: Tensor) -> Tensor | None:
    return g - right if g.shape == right.shape else None


def _untransposed(call: Call, k: int, g: Tensor, right: Tensor) -> Tensor | None:
    if call.name not in _PRODUCTS or right.ndim < 2 or right.shape != g.shape:
        return None
    turned = [n for n, leaf in enumerate(call.leaves) if n != call.tracked[k] and _is_square(leaf)]
    leaves = [leaf.mT if n in turned else leaf for n, leaf in enumerate(call.leaves)]
    return attrs.evolve(call, leaves=leaves).vjp([g])[k] if turned else None


def _written(formula: Callable[[Tensor, Tensor], Tensor]) -> Mistake:
    """Make the mistake of another derivative, a formula of the input x and the output y."""

    def mistake(call: Call, k: int, g: Tensor, right: Tensor) -> Tensor | None:
        x, y = call.inputs[k].detach(), call.outputs[0].detach()
        return (g * formula(x, y)).sum_to_size(right.shape) if fits(x.shape, y.shape) else None

    return mistake


def _is_square(leaf: object) -> bool:
    return isinstance(leaf, Tensor) and leaf.ndim > 1 and leaf.shape[-1] == leaf.shape[-2]


_FORMULAS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "x": lambda x, y: x,
    "y": lambda x, y: y,
    "1 - y": lambda x, y: 1 - y,
    "y (1 - y)": lambda x, y: y * (1 - y),
    "x (1 - x)": lambda x, y: x * (1 - x),
    "1 - y^2": lambda x, y: 1 - y * y,
    "1 - x^2": lambda x, y: 1 - x * x,
}
_INSTEAD = " in place of the {} of {}, with x its input and y its output"
_MISTAKES: tuple[tuple[str, str, Mistake], ...] = (
    ("derivative missing", "lacks the {} of {}", _passed_on),
    ("mask inverted", "has 1 - d in place of the {} d of {}: is a mask inverted?", _inverted),
    ("transposed", "takes the {} of {} without its transposition", _untransposed),
    *(("derivative", f"has {said}{_INSTEAD}", _written(how)) for said, how in _FORMULAS.items()),
)
