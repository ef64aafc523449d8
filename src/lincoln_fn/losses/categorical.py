"""Losses for many classes: the same loss from probabilities, from log-probabilities, from logits.

With c the label, a class index, and p the classes' probabilities, each of them is

    l = -w_c log p_c,

where w is 1 unless class weights are given. The mean is a weighted one, sum l / sum w_c.

The prediction has the classes on axis 1, (N, C) or (N, C, ...). Labels have its shape without that
axis, (N,) or (N, ...); for (N, C) a column (N, 1) is accepted too. An example whose label is
`ignore_index` has the value and the gradient 0 and counts for no mean; a mean of nothing but such
examples is an error.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lincoln_fn.losses.indices import Picked, counting, pick, weighed, weights_times
from lincoln_fn.losses.labels import Frozen, frozen
from lincoln_fn.losses.loss import SMALLEST, Loss, Reduction, reduced, require, spread
from lincoln_fn.losses.rows import ByRows, by_rows
from lincoln_fn.record import record
from lincoln_fn.shapes import LayerError


def cross_entropy(
    *, weight: Tensor | None = None, ignore_index: int = -100, reduction: Reduction = "mean"
) -> Loss:
    """Make the cross-entropy on probabilities.

    l = -w_c log p_c, with p_c taken as at least 2^-126, so that p_c = 0 costs 87.3.

    Derivation. Only p_c enters, so with d_jc = 1 where j = c, else 0,

        dl/dp_j = -w_c d_jc / p_c.

    Args:
        weight: w, of shape (C,); None for ones.
        ignore_index: the label of examples that do not count.
        reduction: "mean" over the examples, "sum" of them, or "none".

    Returns:
        The loss, on p and labels as the module says.

    Raises:
        ValueError: if there is no such reduction, or weight is not of one axis.

    Example:
        >>> loss = cross_entropy()
        >>> value, cache = loss.forward(torch.tensor([[0.25, 0.75]]), torch.tensor([0]))
        >>> value, loss.backward(cache)
        (tensor(1.3863), tensor([[-4.,  0.]]))
    """
    weights = frozen("cross_entropy", "weight", weight, 1)

    def limited(p_c: Tensor) -> Tensor:
        return p_c.clamp(min=max(SMALLEST, torch.finfo(p_c.dtype).tiny))

    def values(p: Tensor, target: Tensor) -> tuple[Tensor, Picked]:
        p_c, picked = pick("cross_entropy", p, target, weights, ignore_index)
        return -weighed(torch.log(limited(p_c)), picked.scale), picked

    def slope(kept: Picked, dl: Tensor | float) -> Tensor:
        p_c = limited(kept.z.gather(1, kept.index))
        dp = torch.zeros_like(kept.z).scatter_(1, kept.index, -1 / p_c)
        return dp.mul_(weights_times(dl, kept.scale))

    return reduced(
        "cross_entropy",
        reduction,
        values,
        slope,
        count=counting("cross_entropy", ignore_index),
        weight=(weights, None),
        ignore_index=(ignore_index, -100),
    )


def nll(
    *, weight: Tensor | None = None, ignore_index: int = -100, reduction: Reduction = "mean"
) -> Loss:
    """Make the negative log-likelihood, on log-probabilities z = log p.

    l = -w_c z_c.

    Derivation. Only z_c enters, so with d_jc = 1 where j = c, else 0,

        dl/dz_j = -w_c d_jc.

    Args:
        weight: w, of shape (C,); None for ones.
        ignore_index: the label of examples that do not count.
        reduction: "mean" over the examples, "sum" of them, or "none".

    Returns:
        The loss, on z and labels as the module says.

    Raises:
        ValueError: if there is no such reduction, or weight is not of one axis.

    Example:
        >>> loss = nll()
        >>> value, cache = loss.forward(torch.tensor([[0.25, 0.75]]).log(), torch.tensor([0]))
        >>> value, loss.backward(cache)
        (tensor(1.3863), tensor([[-1.,  0.]]))
    """
    weights = frozen("nll", "weight", weight, 1)

    def values(z: Tensor, target: Tensor) -> tuple[Tensor, Picked]:
        z_c, picked = pick("nll", z, target, weights, ignore_index)
        return -weighed(z_c, picked.scale), picked

    def slope(kept: Picked, dl: Tensor | float) -> Tensor:
        dl_c = weights_times(dl, kept.scale)
        dz = torch.zeros_like(kept.z)
        if isinstance(dl_c, Tensor):
            return dz.scatter_(1, kept.index, -1).mul_(dl_c)
        return dz.scatter_(1, kept.index, -dl_c)

    return reduced(
        "nll",
        reduction,
        values,
        slope,
        count=counting("nll", ignore_index),
        weight=(weights, None),
        ignore_index=(ignore_index, -100),
    )


@record
class Mixed:
    """The log-probabilities, what weighs each of them, and each example's weight in a mean."""

    z: Tensor
    a: Tensor
    scale: Tensor | None


def softmax_cross_entropy(
    *,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: Reduction = "mean",
) -> Loss:
    """Make the cross-entropy on logits x: `log_softmax` and `nll` in one.

    l = -sum_j a_j z_j, with z_j = x_j - log sum_n exp(x_n) and a_j = w_j q_j. The label c puts all
    of q on itself, so that l = -w_c z_c; a target of probabilities t is q = t. Label smoothing by e
    takes (1 - e) q + e / C in place of q.

    Derivation. The logarithm's derivative is the softmax p, so dz_j/dx_k = d_jk - p_k with d_jk = 1
    where j = k, else 0, and

        dl/dx_k = p_k sum_j a_j - a_k,

    which for a label alone is w_c (p_k - d_ck).

    Args:
        weight: w, of shape (C,); None for ones.
        ignore_index: the label of examples that do not count.
        label_smoothing: e, the part of each target that is shared by all classes.
        reduction: "mean" over the examples, "sum" of them, or "none". With a target of
            probabilities, a mean divides by the number of examples, whatever the weights.

    Returns:
        The loss, on x and labels as the module says, or probabilities of x's shape.

    Raises:
        ValueError: if there is no such reduction, weight is not of one axis, or label_smoothing is
            not within [0, 1].

    Example:
        >>> loss = softmax_cross_entropy()
        >>> value, cache = loss.forward(torch.tensor([[1e4, 1e4]]), torch.tensor([0]))
        >>> value, loss.backward(cache)
        (tensor(0.6931), tensor([[-0.5000,  0.5000]]))
    """
    name, e = "softmax_cross_entropy", label_smoothing
    require(name, 0 <= e <= 1, "label_smoothing within [0, 1]", e)
    weights = frozen(name, "weight", weight, 1)

    def values(x: Tensor, target: Tensor) -> tuple[Tensor, Picked | Mixed]:
        z = torch.log_softmax(x, 1) if x.ndim > 1 else x
        if target.is_floating_point() and target.shape == x.shape and x.ndim > 1:
            if ignore_index >= 0:
                problem = f"expected class indices with ignore_index={ignore_index}"
                raise LayerError(name, f"{problem}, got probabilities")
            mixed = Mixed(z, _mix(target.to(x.dtype), e, weights), None)
        else:
            z_c, picked = pick(name, z, target, weights, ignore_index)
            if not e:
                return -weighed(z_c, picked.scale), picked
            a = _mix(torch.zeros_like(z).scatter_(1, picked.index, 1), e, weights)
            if picked.ignored is not None:
                a = a.masked_fill(picked.ignored, 0)
            mixed = Mixed(z, a, picked.scale)
        return -(mixed.a * z).sum(1), mixed

    def slope(kept: Picked | Mixed, dl: Tensor | float) -> Tensor:
        if isinstance(kept, Mixed):
            total = kept.a.sum(1, keepdim=True)
            return torch.exp(kept.z).mul_(total).sub_(kept.a).mul_(spread(dl, 1))
        p_c = kept.z.gather(1, kept.index).expm1_()
        dx = torch.exp(kept.z).scatter_(1, kept.index, p_c)
        return dx.mul_(weights_times(dl, kept.scale))

    count = counting(name, ignore_index)
    return reduced(
        name,
        reduction,
        *by_rows(values, slope),
        count=lambda kept: count(kept.kept if isinstance(kept, ByRows) else kept),
        weight=(weights, None),
        ignore_index=(ignore_index, -100),
        label_smoothing=(e, 0.0),
    )


def _mix(q: Tensor, e: float, weights: Frozen | None) -> Tensor:
    """Smooth q, and weigh its classes."""
    classes = q.shape[1]
    if e:
        q = (1 - e) * q + e / classes
    if weights is None:
        return q
    return q * weights.per_class(classes, q).view(-1, *(1,) * (q.ndim - 2))
