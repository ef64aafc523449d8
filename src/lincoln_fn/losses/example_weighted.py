"""A loss whose examples have weights, which come with the target.

Derivation. With l the loss before its reduction, whose axis 0 counts the examples, w_i the weight
of its example, and n the divisor of the reduction, which the weights do not change,

    L = sum_i w_i l_i / n
    dl_i = w_i g / n

Cache: the loss's own, and w.
"""

from __future__ import annotations

from functools import partial

import attrs
from jaxtyping import Float
from torch import Tensor

from lincoln_fn.core import Arrays, Cache, constructor, format_briefly, unexpected
from lincoln_fn.losses.common.reduction import ReducedCache, number_of_values
from lincoln_fn.losses.internal import Cotangent, Formula, Loss, formula_of, loss_of, make_loss

NAME = "example_weighted"


def forward(
    prediction: Arrays, target: tuple[Arrays, Float[Tensor, " N"]], *, loss: Loss
) -> tuple[Tensor, tuple[Cache, Tensor]]:
    """Compute w_i l_i, with l of a loss that is not reduced."""
    if not isinstance(target, tuple) or len(target) != 2 or not isinstance(target[1], Tensor):
        raise unexpected(NAME, "target (target, weights)", format_briefly(target))
    of_target, w = target
    values, cache = loss.forward(prediction, of_target)
    if not values.ndim:
        got = f"one value from {loss.name}"
        mend = "give it an axis 0, such as by unsqueeze(0)"
        raise unexpected(NAME, "a prediction with an axis of examples", got, mend)
    if w.shape != values.shape[:1] or not w.is_floating_point():
        expected = f"weights, a float tensor of shape ({len(values)},), one per example"
        raise unexpected(NAME, expected, format_briefly(w))
    w = w.to(values.dtype).view(-1, *(1,) * (values.ndim - 1))
    return w * values, (cache, w.expand_as(values))


def backward(cache: tuple[Cache, Tensor], dl: Cotangent, *, loss: Loss) -> Arrays:
    """Compute dprediction, from w_i dl_i."""
    of_loss, w = cache
    return loss.backward(of_loss, w * dl)


@constructor
def example_weighted(loss: Loss) -> Loss:
    """Give each example of a loss a weight: L = sum_n w_n L_n.

    L_n is example n's part of the loss. The target becomes (target, weights), so that weights come
    with the data: `lf.data.batches((x, t, w), 32)` mapped to (x, (t, w)). A mean still divides by
    the number of examples: the weight of one example does not change the others' parts.

    Args:
        loss: a loss of the library, of one prediction; for `weighted`, give weights to its parts.

    Example:
        >>> loss = example_weighted(lf.losses.mse(reduction="sum"))
        >>> prediction, target = torch.tensor([1.0, 5.0]), torch.tensor([0.0, 2.0])
        >>> value, cache = loss.forward(prediction, (target, torch.tensor([1.0, 0.5])))
        >>> value, loss.backward(cache)
        (tensor(5.5000), tensor([2., 3.]))
    """
    formula = formula_of(loss)
    if formula is None:
        raise unexpected(NAME, "a loss of the library's own formulas", loss)
    each = loss_of(loss.name, attrs.evolve(formula, reduction="none", check=None))
    there, back = (partial(function, loss=each) for function in (forward, backward))
    counts_all = formula.count is number_of_values
    return make_loss(
        there, back, reduction=formula.reduction, inputs=(), mixes_examples=formula.mixes_examples,
        count=number_of_values if counts_all else partial(_count, formula=formula),
    )  # fmt: skip


def _count(cache: tuple[ReducedCache, Tensor], *, formula: Formula) -> Tensor | None:
    return formula.count(cache[0].formula)


def unweighted(loss: Loss) -> Loss | None:
    """Return the loss whose examples `example_weighted` has given weights; None for another."""
    spec = loss.spec
    return spec["loss"] if spec is not None and spec.of is example_weighted else None
