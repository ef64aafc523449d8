"""A loss whose examples have weights, which come with the target.

Derivation. With l the loss before its reduction, whose axis 0 counts the examples, w_i the weight
of its example, and n the divisor of the reduction, which the weights do not change,

    L = sum_i w_i l_i / n
    dl_i = w_i g / n

Cache: the loss's own, w, and n of a mean, or None.
"""

from __future__ import annotations

from functools import partial

import attrs
from jaxtyping import Float
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import Arrays, LayerError, bare, format_briefly, record
from lincoln_fn.core import Cache as AnyCache
from lincoln_fn.losses.common.reduction import Cotangent, Formula, formula_of, loss_of
from lincoln_fn.losses.loss import Loss

NAME = "example_weighted"


@record
class Cache:
    """The loss's cache, the weights in the shape that multiplies l, and n of a mean, or None."""

    of_loss: AnyCache
    w: Tensor
    n: Tensor | int | None


def forward(
    prediction: Arrays,
    target: tuple[Arrays, Float[Tensor, " N"]],
    *,
    loss: Loss,
    formula: Formula,
) -> tuple[Tensor, Cache]:
    """Compute L = sum_i w_i l_i / n."""
    if not isinstance(target, tuple) or len(target) != 2 or not isinstance(target[1], Tensor):
        raise LayerError(NAME, f"expected target (target, weights), got {format_briefly(target)}")
    of_target, w = target
    values, cache = loss.forward(prediction, of_target)
    if not values.ndim:
        problem = f"expected a prediction with an axis of examples, got one value from {loss.name}"
        raise LayerError(NAME, f"{problem}; give it an axis 0, such as by unsqueeze(0)")
    if w.shape != values.shape[:1] or not w.is_floating_point():
        shape = f"a float tensor of shape ({len(values)},)"
        raise LayerError(
            NAME, f"expected weights, {shape}, one per example, got {format_briefly(w)}"
        )
    w = w.to(values.dtype).view(-1, *(1,) * (values.ndim - 1))
    weighted, n = w * values, None
    if formula.is_mean:
        count = formula.count(cache.formula)
        n = values.numel() if count is None else count
        mean = (weighted / n).sum().to(values.dtype)
        return mean, Cache(cache, w.expand_as(values), n)
    reduced = weighted.sum() if formula.reduction == "sum" else weighted
    return reduced, Cache(cache, w.expand_as(values), n)


def backward(cache: Cache, g: Cotangent = 1.0, *, loss: Loss, formula: Formula) -> Arrays:
    """Compute dl_i = w_i g / n, and from it dprediction."""
    core.check_cache(NAME, cache, Cache)
    dl = cache.w * g
    return loss.backward(cache.of_loss, dl if cache.n is None else dl / cache.n)


@core.constructor
def example_weighted(loss: Loss) -> Loss:
    """Give each example of a loss a weight: L = sum_n w_n L_n.

    L_n is example n's part of the loss. The target becomes (target, weights), so that weights come
    with the data: `lf.data.batches((x, t, w), 32)` mapped to (x, (t, w)). Weights of 1 give the
    loss itself. A mean still divides by the number of examples: the weight of one example does not
    change the others' parts, and a weight of 0 leaves an example out of the sum.

    Args:
        loss: a loss of the library, of one prediction; for `weighted`, give weights to its parts.

    Returns:
        The loss, whose target is (target, weights), with weights of shape (N,).

    Raises:
        LayerError: if the loss is another one; from its functions, for a target of another kind.

    Example:
        >>> loss = example_weighted(lf.losses.mse(reduction="sum"))
        >>> prediction, target = torch.tensor([1.0, 5.0]), torch.tensor([0.0, 2.0])
        >>> value, cache = loss.forward(prediction, (target, torch.tensor([1.0, 0.5])))
        >>> value, loss.backward(cache)
        (tensor(5.5000), tensor([2., 3.]))
    """
    formula = formula_of(loss)
    if formula is None:
        raise LayerError(NAME, f"expected a loss of the library's own formulas, got {loss}")
    each = loss_of(loss.name, attrs.evolve(formula, reduction="none", check=None))
    there, back = (partial(f, loss=each, formula=formula) for f in (forward, backward))
    return bare(partial(Loss, mixes_examples=loss.mixes_examples), there, back)


def unweighted(loss: Loss) -> Loss | None:
    """Return the loss whose examples `example_weighted` has given weights; None for another."""
    spec = loss.spec
    return spec["loss"] if spec is not None and spec.of is example_weighted else None
