"""Faster losses on labels, and `fast_loss`, which uses them in place of the formulas.

Without weights and ignored labels, no tensor of weights 1 is made, and gradients are computed in
place. The formula does everything else, wrong arguments included. A prediction whose classes are
contiguous in memory, such as a dense layer's output with dim=-1 or after `permute`, is read as
rows, (N, C, ...) as (N ..., C). Then the classes of its gradient are contiguous, too, and the dense
layer's products read it as one matrix, also in a compiled step.

Forward and backward on one thread of a Zen 5 take 1 / 1.6 of the formula's time for
`softmax_cross_entropy` of (128, 10), 1 / 1.3 of (1024, 65), and 1 / 2.4 for `nll` of either. A step
of mlp-small takes 1 / 1.18 of the time.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

import attrs
import torch
from torch import Tensor

from lincoln_fn.core import Cache, bind_like, record, static, with_spec
from lincoln_fn.fastpath.twin import Argument, Function, unless_transformed
from lincoln_fn.losses import Loss, nll, softmax_cross_entropy, weighted
from lincoln_fn.losses.internal import (
    Cotangent,
    all_within,
    any_true,
    formula_of,
    label_column,
    loss_of,
    parts_of,
    per_example,
)
from lincoln_fn.losses.nll import backward as nll_formula_backward
from lincoln_fn.losses.nll import forward as nll_formula
from lincoln_fn.losses.softmax_cross_entropy import backward as softmax_formula_backward
from lincoln_fn.losses.softmax_cross_entropy import forward as softmax_formula


@record
class Picked:
    """The log-probabilities z, the labels c, each of weight 1, and the axis of the classes."""

    z: Tensor
    index: Tensor
    dim: int = static()


@record
class Rows:
    """The cache of a prediction read as rows, its shape with the classes last, and their axis."""

    cache: Cache
    shape: tuple[int, ...] = static()
    dim: int = static()


# Here, too, a loss that was pickled before there was a dim has none.
@unless_transformed(nll_formula)
def nll_forward(
    z: Tensor, target: Tensor, *, dim: int = 1, **options: Argument
) -> tuple[Tensor, Cache]:
    """Compute l = -z_c."""
    index = _read_plain_labels("nll", z, target, dim, **options)
    if index is None:
        return nll_formula(z, target, dim=dim, **options)
    return -z.gather(dim, index).squeeze(dim), Picked(z, index, dim)


@unless_transformed(nll_formula_backward, Picked)
def nll_backward(cache: Picked, dl: Cotangent) -> Tensor:
    """Compute dz_j = -dl for j = c, else 0."""
    dl_c, dz = per_example(dl, cache.dim), torch.zeros_like(cache.z)
    if isinstance(dl_c, Tensor):
        return dz.scatter_(cache.dim, cache.index, -1).mul_(dl_c)
    return dz.scatter_(cache.dim, cache.index, -dl_c)


@unless_transformed(softmax_formula)
def softmax_forward(
    x: Tensor, target: Tensor, *, dim: int = 1, **options: Argument
) -> tuple[Tensor, Cache]:
    """Compute l = -log p_c, by rows if the classes are contiguous in memory."""
    if x.ndim < 3 or not -x.ndim <= dim < x.ndim or x.stride(dim) != 1:
        return _of_examples(x, target, dim, **options)
    moved, classes = x.movedim(dim, -1), x.shape[dim]
    if target.shape == moved.shape[:-1]:
        rows = target.reshape(-1)
    elif target.shape == x.shape and target.is_floating_point():
        rows = target.movedim(dim, -1).reshape(-1, classes)
    else:
        return _of_examples(x, target, dim, **options)
    values, cache = _of_examples(moved.reshape(-1, classes), rows, 1, **options)
    return values.view(moved.shape[:-1]), Rows(cache, tuple(moved.shape), dim)


def _of_examples(
    x: Tensor, target: Tensor, dim: int, *, label_smoothing: float, **options: Argument
) -> tuple[Tensor, Cache]:
    index = None
    if not label_smoothing and (target.shape != x.shape or not target.is_floating_point()):
        index = _read_plain_labels("softmax_cross_entropy", x, target, dim, **options)
    if index is None:
        return softmax_formula(x, target, label_smoothing=label_smoothing, dim=dim, **options)
    z = torch.log_softmax(x, dim)
    return -z.gather(dim, index).squeeze(dim), Picked(z, index, dim)


@unless_transformed(softmax_formula_backward, (Picked, Rows))
def softmax_backward(cache: Picked | Rows, dl: Cotangent) -> Tensor:
    """Compute dx_k = (p_k - 1) dl for k = c, else p_k dl."""
    if isinstance(cache, Rows):
        dl = dl.reshape(-1) if isinstance(dl, Tensor) and dl.ndim else dl
        dx: Tensor = softmax_backward(cache.cache, dl)
        return dx.view(cache.shape).movedim(-1, cache.dim)
    p, dim = torch.exp(cache.z), cache.dim
    p_c_minus_1 = cache.z.gather(dim, cache.index).expm1_()
    return p.scatter_(dim, cache.index, p_c_minus_1).mul_(per_example(dl, dim))


def _read_plain_labels(
    name: str, z: Tensor, target: Tensor, dim: int, *, weight: Tensor | None, ignore_index: int
) -> Tensor | None:
    """Read the labels c, each of weight 1; None if the formula has to read them."""
    if weight is not None:
        return None
    index = label_column(name, z, target, dim)
    classes = z.shape[dim]
    are_all_read = not 0 <= ignore_index < classes or not any_true(index == ignore_index)
    return index if are_all_read and all_within(index, 0, classes - 1) else None


def _count(formula: Callable[[Cache], Tensor | None], cache: Cache) -> Tensor | None:
    """Compute the divisor of a mean; None for the number of examples."""
    cache = cache.cache if isinstance(cache, Rows) else cache
    return None if isinstance(cache, Picked) else formula(cache)


# By a loss's constructor, the faster functions.
_TWINS: Final[dict[Function, tuple[Function, Function]]] = {
    nll: (nll_forward, nll_backward),
    softmax_cross_entropy: (softmax_forward, softmax_backward),
}


def fast_loss(loss: Loss) -> Loss:
    """Make the same loss of faster functions: the same value and gradient."""
    # Whether predictions are probabilities is not checked, for example. A loss with a user's own
    # functions is not changed.
    parts = parts_of(loss)
    if parts:
        faster = {name: (weight, fast_loss(part)) for name, (weight, part) in parts.items()}
        return with_spec(attrs.evolve(weighted(faster), name=loss.name), loss.spec)
    formula = formula_of(loss)
    if formula is None:
        return loss
    if formula.check is not None:  # the check reads all values, and would run in every step
        formula = attrs.evolve(formula, check=None)
        loss = loss_of(loss.name, formula)
    if formula.spec is None or formula.spec.of not in _TWINS:
        return loss
    forward, backward = _TWINS[formula.spec.of]
    forward = bind_like(forward, formula.forward)
    count = partial(_count, formula.count)
    return loss_of(
        loss.name, attrs.evolve(formula, forward=forward, backward=backward, count=count)
    )
