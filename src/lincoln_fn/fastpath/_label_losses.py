"""Faster `nll`, `cross_entropy` and `softmax_cross_entropy`.

Where nothing is weighted or ignored, no weight of 1 is made for each example; and gradients are
made in place. A prediction whose classes are contiguous in memory, such as a dense layer's output
behind `permute`, is read as rows, (N, C, ...) as (N ..., C): softmax runs along the memory, and
neither x nor its gradient is copied.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lincoln_fn.layer import Cache
from lincoln_fn.losses._labels import label_column, total_weight
from lincoln_fn.losses._reduction import SMALLEST, Cotangent, per_example
from lincoln_fn.losses._targets import any_true, value_range
from lincoln_fn.losses._weights import Weights
from lincoln_fn.losses.softmax_cross_entropy import MixtureCache
from lincoln_fn.losses.softmax_cross_entropy import forward as formula_forward
from lincoln_fn.record import record, static
from lincoln_fn.shapes import LayerError


@record
class Picked:
    """The formula's z (or p), c and w_c; no w where every weight is 1."""

    z: Tensor
    index: Tensor
    w: Tensor | None


@record
class Rows:
    """The cache of a prediction that was read as rows, and its shape with the classes last."""

    cache: Picked | MixtureCache
    shape: tuple[int, ...] = static()


def nll_forward(
    z: Tensor, target: Tensor, *, weight: Weights | None, ignore_index: int
) -> tuple[Tensor, Picked]:
    """Compute l = -w_c z_c."""
    z_c, picked = _pick("nll", z, target, weight, ignore_index)
    return -_weighted(z_c, picked.w), picked


def nll_backward(cache: Picked, dl: Cotangent) -> Tensor:
    """Compute dz_j = -w_c dl for j = c, else 0."""
    dl_c = _cotangent(cache.w, dl)
    dz = torch.zeros_like(cache.z)
    if isinstance(dl_c, Tensor):
        return dz.scatter_(1, cache.index, -1).mul_(dl_c)
    return dz.scatter_(1, cache.index, -dl_c)


def cross_entropy_forward(
    p: Tensor, target: Tensor, *, weight: Weights | None, ignore_index: int
) -> tuple[Tensor, Picked]:
    """Compute l = -w_c log p_c."""
    p_c, picked = _pick("cross_entropy", p, target, weight, ignore_index)
    return -_weighted(torch.log(_limited(p_c)), picked.w), picked


def cross_entropy_backward(cache: Picked, dl: Cotangent) -> Tensor:
    """Compute dp_j = -w_c / p_c dl for j = c, else 0."""
    p_c = _limited(cache.z.gather(1, cache.index))
    dp = torch.zeros_like(cache.z).scatter_(1, cache.index, -1 / p_c)
    return dp.mul_(_cotangent(cache.w, dl))


def _limited(p_c: Tensor) -> Tensor:
    return p_c.clamp(min=max(SMALLEST, torch.finfo(p_c.dtype).tiny))


def softmax_cross_entropy_forward(
    x: Tensor, target: Tensor, *, weight: Weights | None, ignore_index: int, label_smoothing: float
) -> tuple[Tensor, Picked | MixtureCache | Rows]:
    """Compute l, by rows where the classes are contiguous in memory."""
    moved, rows = x.movedim(1, -1) if x.ndim > 2 and x.stride(1) == 1 else x, None
    if moved is not x and target.shape == moved.shape[:-1]:
        rows = target.reshape(-1)
    elif moved is not x and target.shape == x.shape:
        rows = target.movedim(1, -1).reshape(-1, x.shape[1])
    if rows is None:
        return _softmax_forward(x, target, weight, ignore_index, label_smoothing)
    values, cache = _softmax_forward(
        moved.reshape(-1, x.shape[1]), rows, weight, ignore_index, label_smoothing
    )
    return values.view(moved.shape[:-1]), Rows(cache, tuple(moved.shape))


def _softmax_forward(
    x: Tensor, target: Tensor, weight: Weights | None, ignore_index: int, label_smoothing: float
) -> tuple[Tensor, Picked | MixtureCache]:
    if label_smoothing or (target.is_floating_point() and target.shape == x.shape):
        values, cache = formula_forward(
            x, target, weight=weight, ignore_index=ignore_index, label_smoothing=label_smoothing
        )
        assert isinstance(cache, MixtureCache)
        return values, cache
    z = torch.log_softmax(x, 1) if x.ndim > 1 else x
    z_c, picked = _pick("softmax_cross_entropy", z, target, weight, ignore_index)
    return -_weighted(z_c, picked.w), picked


def softmax_cross_entropy_backward(cache: Picked | MixtureCache | Rows, dl: Cotangent) -> Tensor:
    """Compute dx_k = (p_k sum_j a_j - a_k) dl, which for a label c is (p_k - q_k) w_c dl."""
    if isinstance(cache, Rows):
        if isinstance(dl, Tensor) and dl.ndim:
            dl = dl.reshape(-1)
        return softmax_cross_entropy_backward(cache.cache, dl).view(cache.shape).movedim(-1, 1)
    p = torch.exp(cache.z)
    if isinstance(cache, MixtureCache):
        total = cache.a.sum(1, keepdim=True)
        return p.mul_(total).sub_(cache.a).mul_(per_example(dl, 1))
    p_c_minus_1 = cache.z.gather(1, cache.index).expm1_()
    return p.scatter_(1, cache.index, p_c_minus_1).mul_(_cotangent(cache.w, dl))


def count(name: str, ignore_index: int, cache: Cache) -> Tensor | None:
    """Compute what a mean divides by: sum w_c, or None for the number of examples."""
    if isinstance(cache, Rows):
        cache = cache.cache
    if isinstance(cache, MixtureCache):
        cache = cache.labels
    if cache is None or cache.w is None:
        return None
    return total_weight(name, ignore_index, cache.w)


def _pick(
    name: str, z: Tensor, target: Tensor, weight: Weights | None, ignore_index: int
) -> tuple[Tensor, Picked]:
    """Take each example's entry of its label, which also finds labels out of range."""
    index = label_column(name, z, target)
    ignored = _ignored(index, ignore_index)
    if ignored is not None:
        index = index.masked_fill(ignored, 0)
    try:
        z_c = z.gather(1, index)
    except (IndexError, RuntimeError) as error:
        low, high = value_range(index) or (0, 0)
        problem = f"expected labels from 0 to {z.shape[1] - 1}, got {low if low < 0 else high}"
        raise LayerError(name, problem) from error
    if weight is not None:
        w = weight.of_classes(z.shape[1], z)[index]
        return z_c, Picked(z, index, w if ignored is None else w.masked_fill(ignored, 0))
    return z_c, Picked(z, index, None if ignored is None else ignored.logical_not().to(z.dtype))


def _ignored(index: Tensor, ignore_index: int) -> Tensor | None:
    """Find the labels to ignore; None if there are none."""
    try:
        # One look at the least of them is quicker than to compare each.
        if ignore_index < 0 <= index.min().item():
            return None
    except RuntimeError:  # there are no values to look at
        pass
    is_ignored = index == ignore_index
    return is_ignored if any_true(is_ignored) else None


def _weighted(values: Tensor, w: Tensor | None) -> Tensor:
    return (values if w is None else torch.where(w != 0, values * w, 0)).squeeze(1)


def _cotangent(w: Tensor | None, dl: Cotangent) -> Cotangent:
    return per_example(dl, 1) if w is None else w * per_example(dl, 1)
