"""How a parameter enters a layer, as the form of its gradient for each example.

A layer's dparams is a sum over the examples n. The term of example n has one of four forms:

    Outer          d_n = sum_t x_(nt)^T g_(nt)            a matrix that multiplies rows x_t
    Gather         d_n = sum_t g_(nt) in row i_(nt)       a table whose rows are looked up
    Correlation    d_n[k] = sum_p g_n[p] x_n[s p + d k]   a kernel that moves over x
    Explicit       d_n itself                             a scale or a bias

A layer's `terms(params, cache, g)` returns them in the structure of params, and is declared by
`lf.declare`. A plain tensor among them stands for zeros.

If a parameter is used several times, its gradient is the sum of those of its uses, a `Total`.
`torch.add` joins terms, so the walk adds up the uses of a parameter as it does with gradients.

A term holds factors and computes nothing. `per_example` derives norms and sums from each form.
"""

from __future__ import annotations

from typing import Any, TypeVar

import attrs
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lincoln_fn.core.record import evolve
from lincoln_fn.core.values import Addable
from lincoln_fn.errors.errors import LayerError, unexpected

P = TypeVar("P")


def by_example(x: Float[Tensor, "N *rows features"]) -> Float[Tensor, "N T features"]:
    """Make the rows of each example one axis."""
    return x.flatten(1, -2) if x.ndim > 2 else x.unsqueeze(1)


def _index_by_example(index: Int[Tensor, " N *rows"]) -> Int[Tensor, "N T"]:
    return index.flatten(1) if index.ndim > 1 else index.unsqueeze(1)


@attrs.frozen(eq=False)
class Term(Addable):
    """The gradients of one use of a parameter, one for each example.

    Each field of a form is a tensor with the examples on axis 0, or a constant.
    """

    def map(self, f: Any) -> Term:  # Any: a function of tensors
        """Apply a function to every tensor of a term."""
        tensors = {
            name: f(value)
            for name, value in attrs.asdict(self, recurse=False).items()
            if isinstance(value, Tensor)
        }
        return attrs.evolve(self, **tensors)

    def to(self, dtype: torch.dtype) -> Term:
        """Convert the floating tensors, and so the dtype in which the gradients are computed."""
        return self.map(lambda leaf: leaf.to(dtype) if leaf.is_floating_point() else leaf)

    @property
    def count(self) -> int:
        """The number of examples."""
        first: Tensor = getattr(self, attrs.fields(type(self))[0].name)
        return len(first)

    @property
    def uses(self) -> tuple[Term, ...]:
        """The terms that this one is the sum of."""
        return (self,)

    def joined(self, other: Term) -> Term:
        """Add the gradients of two uses of a parameter."""
        return Total((*self.uses, *other.uses))


@attrs.frozen(eq=False)
class Outer(Term):
    """A sum of outer products: d_n = sum_t x_nt^T g_nt, in the parameter's shape.

    Args:
        x: the left factor, (N, *rows, I).
        g: the right factor, (N, *rows, O).

    Example:
        >>> Outer(torch.zeros(5, 7, 3), torch.zeros(5, 7, 2)).g.shape
        torch.Size([5, 7, 2])
    """

    x: Float[Tensor, "N T I"] = attrs.field(converter=by_example)
    g: Float[Tensor, "N T O"] = attrs.field(converter=by_example)


@attrs.frozen(eq=False)
class Gather(Term):
    """Rows of a table that were looked up: d_n = sum_t of g_nt in row i_nt of zeros.

    Args:
        index: i, (N, *rows).
        g: the gradients of the rows, (N, *rows, O).

    Example:
        >>> Gather(torch.tensor([0, 4]), torch.zeros(2, 3)).index.T
        tensor([[0, 4]])
    """

    index: Int[Tensor, "N T"] = attrs.field(converter=_index_by_example)
    g: Float[Tensor, "N T O"] = attrs.field(converter=by_example)


@attrs.frozen(eq=False)
class Correlation(Term):
    """A correlation: d_(n,o,c)[k] = sum_p g_no[p] x_nc[s p + d k].

    Args:
        g: of y, (N, out_channels, *positions).
        x: the padded input, (N, in_channels, *spatial).
        stride: s, one number for each spatial axis.
        dilation: d, likewise.
        groups: how many groups the channels are divided into.

    Example:
        >>> Correlation(torch.zeros(5, 4, 7), torch.zeros(5, 2, 9), (1,), (1,), 1).count
        5
    """

    g: Float[Tensor, "N out_channels *positions"]
    x: Float[Tensor, "N in_channels *spatial"]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int


@attrs.frozen(eq=False)
class Explicit(Term):
    """The gradients themselves.

    Args:
        values: d, (N, *shape of the parameter).

    Example:
        >>> Explicit(torch.zeros(5, 3)).count
        5
    """

    values: Float[Tensor, " N *shape"]


@attrs.frozen(eq=False)
class Total(Term):
    """The sum of several uses of a parameter."""

    terms: tuple[Term, ...]

    def map(self, f: Any) -> Total:  # Any: as in `Term`
        """Apply a function to every tensor of every use."""
        return Total(tuple(term.map(f) for term in self.terms))

    @property
    def count(self) -> int:
        """The number of examples."""
        return self.terms[0].count

    @property
    def uses(self) -> tuple[Term, ...]:
        """The terms that this one is the sum of."""
        return self.terms


def sum_axes(values: Float[Tensor, " N *s"], axes: tuple[int, ...]) -> Explicit:
    """Sum an elementwise product over the axes that share a parameter, in float32 at least.

    The examples are on axis 0, which is none of them.

    Example:
        >>> sum_axes(torch.ones(1, 7, 3), (1,)).values
        tensor([[7., 7., 7.]])
    """
    wide = values.to(torch.promote_types(values.dtype, torch.float32))
    for axis in sorted(axes, reverse=True):  # one after the other: torch then adds pairwise
        wide = wide.sum(axis)
    return Explicit(wide)


def sum_rows(g: Float[Tensor, "N *rows features"]) -> Explicit:
    """Sum g over the rows of each example: the term of a bias that is added to every row.

    Example:
        >>> sum_rows(torch.ones(2, 7, 3)).values.shape
        torch.Size([2, 3])
    """
    return sum_axes(g, tuple(range(1, g.ndim - 1)))


def mirror(params: P, **terms: Term | None) -> P:
    """Put terms in the places of a record's parameters; a parameter that is None stays None.

    Example:
        >>> params = lf.layers.dense.Params(torch.zeros(3, 2), None)
        >>> x, g = torch.zeros(5, 3), torch.zeros(5, 2)
        >>> mirror(params, weight=Outer(x, g), bias=sum_rows(g)).bias is None
        True
    """
    present = {name: t for name, t in terms.items() if getattr(params, name, None) is not None}
    return evolve(params, **present) if present else params


def no_batch(layer: str, g: Tensor) -> LayerError:
    """Make the error for an input without an axis of examples."""
    return unexpected(layer, "a batch, with the examples on axis 0", f"g of shape {tuple(g.shape)}")


def length_first(where: str, mend: str) -> LayerError:
    """Make the error for a layer whose sequences have the examples on axis 1."""
    expected = "the examples on axis 0 of every layer's output"
    return unexpected(where, expected, "sequences of (length, batch, ...)", f"use {mend}")


def check_batched(layer: str, g: Tensor, ndim: int = 2) -> None:
    """Check that g has an axis of examples: at least `ndim` axes."""
    if g.ndim < ndim:
        raise no_batch(layer, g)
