"""The gradient of one parameter for each example, in a form from which all else is computed.

A `Term` is d_1, ..., d_N: the gradients of one use of a parameter, one for each example. What is
asked of it is linear or quadratic in d:

    gradients      d_n
    squared norms  ||d_n||^2
    weighted sum   sum_n w_n d_n
    square sum     sum_n d_n^2    element by element

A layer's form of d often gives these without d itself: for a dense layer d_n = x_n^T g_n, whose
squared norm is ||x_n||^2 ||g_n||^2. Each form has its file. Here are the plain one, d itself, and
the sum of several uses.

A parameter that is used twice has the gradient d = d' + d'', and the norms of its uses do not add:

    ||d'_n + d''_n||^2 = ||d'_n||^2 + ||d''_n||^2 + 2 <d'_n, d''_n>

So `torch.add` of two terms is a term, too: the walk puts the uses of a parameter together as it
does with gradients.
"""

from __future__ import annotations

import math
from functools import reduce
from typing import Final

import attrs
import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn.walk.addable import Addable

# How many numbers of gradients a sum over examples has in memory at one time: 16 MiB of float32.
_AT_ONCE: Final = 2**22


@attrs.frozen(eq=False)
class Term(Addable):
    """The gradients of a parameter, one for each example."""

    @property
    def count(self) -> int:
        """The number of examples."""
        raise NotImplementedError

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the parameter."""
        raise NotImplementedError

    def part(self, examples: slice) -> Term:
        """Return the term of some of the examples."""
        raise NotImplementedError

    def to(self, dtype: torch.dtype) -> Term:
        """Return the term in another dtype, in which the gradients are then computed."""
        raise NotImplementedError

    def gradients(self) -> Float[Tensor, " N *shape"]:
        """Compute d."""
        raise NotImplementedError

    def measured(self) -> tuple[Float[Tensor, " N"], Term]:
        """Compute the squared norms, and return the term with d if that was needed."""
        return Explicit(self.gradients()).measured()

    def norms_of_sum(self, terms: tuple[Term, ...]) -> Float[Tensor, " N"] | None:
        """Compute the squared norms of a sum without d; None if d is needed, or costs less."""
        return None

    def weighted_sum(self, weights: Float[Tensor, " N"], like: Tensor) -> Float[Tensor, "*shape"]:
        """Compute sum_n w_n d_n; `like` is the parameter."""
        raise NotImplementedError

    def square_sum(self) -> Float[Tensor, "*shape"]:
        """Compute sum_n d_n^2, of a few examples after the other, to save memory."""
        few = max(1, _AT_ONCE // max(1, math.prod(self.shape)))
        starts = range(0, max(self.count, 1), few)
        parts = (self.part(slice(start, start + few)) for start in starts)
        return reduce(torch.add, [Explicit(part.gradients()).square_sum() for part in parts])

    @property
    def uses(self) -> tuple[Term, ...]:
        """The terms that this one is the sum of."""
        return (self,)

    def joined(self, other: Term) -> Term:
        """Add the gradients of two uses of a parameter."""
        return Total((*self.uses, *other.uses))


@attrs.frozen(eq=False)
class Explicit(Term):
    """The gradients themselves."""

    values: Float[Tensor, " N *shape"]

    @property
    def count(self) -> int:
        """The number of examples."""
        return len(self.values)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the parameter."""
        return tuple(self.values.shape[1:])

    def part(self, examples: slice) -> Explicit:
        """Return the term of some of the examples."""
        return Explicit(self.values[examples])

    def to(self, dtype: torch.dtype) -> Explicit:
        """Return the term in another dtype."""
        return Explicit(self.values.to(dtype))

    def gradients(self) -> Float[Tensor, " N *shape"]:
        """Return d."""
        return self.values

    def measured(self) -> tuple[Float[Tensor, " N"], Explicit]:
        """Compute the squared norms."""
        return self._rows().square().sum(1), self

    def weighted_sum(self, weights: Float[Tensor, " N"], like: Tensor) -> Float[Tensor, "*shape"]:
        """Compute sum_n w_n d_n, one product of a vector and a matrix."""
        return (weights @ self._rows()).reshape(self.shape)

    def square_sum(self) -> Float[Tensor, "*shape"]:
        """Compute sum_n d_n^2."""
        return self.values.square().sum(0)

    def _rows(self) -> Float[Tensor, "N size"]:
        return self.values.flatten(1) if self.values.ndim > 1 else self.values.unsqueeze(1)


@attrs.frozen(eq=False)
class Total(Term):
    """The sum of several uses of a parameter."""

    terms: tuple[Term, ...]

    @property
    def uses(self) -> tuple[Term, ...]:
        """The terms that this one is the sum of."""
        return self.terms

    @property
    def count(self) -> int:
        """The number of examples."""
        return self.terms[0].count

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the parameter."""
        return self.terms[0].shape

    def part(self, examples: slice) -> Total:
        """Return the term of some of the examples."""
        return Total(tuple(term.part(examples) for term in self.terms))

    def to(self, dtype: torch.dtype) -> Total:
        """Return the term in another dtype."""
        return Total(tuple(term.to(dtype) for term in self.terms))

    def gradients(self) -> Float[Tensor, " N *shape"]:
        """Compute the sum of the uses' gradients."""
        return reduce(torch.add, [term.gradients() for term in self.terms])

    def measured(self) -> tuple[Float[Tensor, " N"], Term]:
        """Compute the squared norms, from the factors of all uses if they have any."""
        norms = self.terms[0].norms_of_sum(self.terms)
        return super().measured() if norms is None else (norms, self)

    def weighted_sum(self, weights: Float[Tensor, " N"], like: Tensor) -> Float[Tensor, "*shape"]:
        """Compute the sum of the uses' weighted sums."""
        return reduce(torch.add, [term.weighted_sum(weights, like) for term in self.terms])
