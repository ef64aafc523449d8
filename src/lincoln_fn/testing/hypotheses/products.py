"""Matrix products, and sums along an axis: a transposition missing, another axis."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TypeAlias

import attrs
from torch import Tensor

from lincoln_fn.testing.call import Call
from lincoln_fn.testing.evidence import Evidence
from lincoln_fn.testing.hypotheses.hypothesis import Cost, Guess, Hypothesis
from lincoln_fn.testing.hypotheses.local import Local, guesses_if, list_groups, local

Pairs: TypeAlias = tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]
_PRODUCTS = ("matmul",)
_ALONG_AN_AXIS = (
    "sum", "mean", "amax", "amin", "cumsum", "cumprod", "logsumexp", "softmax", "log_softmax",
    "norm", "std", "var", "prod",
)  # fmt: skip


# For a product a b and its g, what the gradients of a and of b may be in place of g b^T and a^T g.
_WRONG_PRODUCTS: tuple[tuple[str, str, Callable[[Tensor, Tensor, Tensor], Pairs]], ...] = (
    ("not transposed", "lacks a transposition in {at}()",
     lambda a, b, g: ((g.mT, b.mT), (a.mT, g.mT))),
    ("not transposed", "lacks a transposition in {at}()", lambda a, b, g: ((g, b), (a, g))),
)  # fmt: skip


def _multiply_wrongly(
    call: Local, pairs: Callable[[Tensor, Tensor, Tensor], Pairs]
) -> Tensor | None:
    a, b = (leaf.detach() for leaf in call.call.leaves if isinstance(leaf, Tensor))
    is_first = call.call.inputs[call.k] is call.call.leaves[0]
    left, right = pairs(a, b, call.g)[0 if is_first else 1]
    fits = left.shape[-1] == right.shape[-2]
    return (left @ right).sum_to_size(call.u.shape) if fits else None


def _turn_axis(evidence: Evidence) -> Iterator[Guess]:
    """Run an operation along another axis."""
    for tape, calls, at in list_groups(evidence):
        if at not in _ALONG_AN_AXIS:
            continue
        ndim = calls[0].inputs[0].ndim
        for n, leaf in enumerate(calls[0].leaves):
            if type(leaf) is not int or not -ndim <= leaf < ndim:
                continue
            for axis in set(range(ndim)) - {leaf % ndim}:

                def moved(
                    call: Call, gs: list[Tensor], right: list[Tensor], n: int = n, axis: int = axis
                ) -> list[Tensor]:
                    leaves = [axis if m == n else leaf for m, leaf in enumerate(call.leaves)]
                    return attrs.evolve(call, leaves=leaves).vjp(gs)

                yield from guesses_if(tape, calls, moved, wrong=axis, right=leaf % ndim)


HYPOTHESES = [
    local("factor missing", "lacks the {factor} of {at}()",
          lambda call: call.g if call.g.shape == call.u.shape else None, only=_PRODUCTS),
    Hypothesis("another axis", "takes axis {wrong}, where {at}() takes axis {right}",
               _turn_axis, Cost.OPERATION),
    *(local(name, sentence, partial(_multiply_wrongly, pairs=pairs), only=_PRODUCTS)
      for name, sentence, pairs in _WRONG_PRODUCTS),
]  # fmt: skip
