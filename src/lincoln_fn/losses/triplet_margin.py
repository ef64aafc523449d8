"""Triplet loss: anchor a should be nearer to positive p than to negative n, by the margin.

Distances are q-norms of u = a - p + epsilon, v = a - n + epsilon and, with swap, w = p - n +
epsilon. (The constructor calls the power q p, as torch does.)

Derivation. Without swap, |v| replaces min(|v|, |w|):

    z = margin + |u| - min(|v|, |w|)
    l = max(0, z)

The norm |u| = (sum_k |u_k|^q)^(1/q) has the gradient

    e(u)_k = (d|u|)/(du_k) = sign(u_k) |u_k|^(q - 1) / |u|^(q - 1)    0 where u_k = 0

|u| is computed by `layers/common/norms.py`, so that it is above 0 for every u other than 0.
For q infinite, e(u)_k is sign(u_k) for the largest |u_k|; several of the same size share it
equally. Let m be 1 where |v| is smaller, 0 where |w| is smaller, and 1/2 where they are equal.
Without swap, m is 1. With dz = dl where z >= 0, else 0 (at z = 0, max(0, z) has slope 1),

    da = (e(u) - m e(v)) dz
    dp = (-e(u) - (1 - m) e(w)) dz
    dn = (m e(v) + (1 - m) e(w)) dz

Cache: u, v, w, their norms, z and q. Source: Balntas et al., "Learning local feature descriptors
with triplets and shallow convolutional neural networks", 2016.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn.core import OR_INFINITE, Positive, constructor, record, static
from lincoln_fn.layers.common.norms import norm_over
from lincoln_fn.losses.common.reduction import Cotangent, make_loss
from lincoln_fn.losses.common.targets import check_vectors
from lincoln_fn.losses.loss import Loss, Reduction


@record
class Cache:
    """The differences u, v and, with swap, w; their norms; z; and the power."""

    differences: tuple[Float[Tensor, "*n D"], ...]
    norms: tuple[Float[Tensor, "*n"], ...]
    z: Float[Tensor, "*n"]
    q: float = static()


def forward(
    x: tuple[Float[Tensor, "*n D"], Float[Tensor, "*n D"], Float[Tensor, "*n D"]],
    target: None,
    *,
    margin: float,
    q: float,
    eps: float,
    swap: bool,
) -> tuple[Float[Tensor, "*n"], Cache]:
    """Compute l = max(0, margin + |u| - min(|v|, |w|))."""
    anchor, positive, negative = x
    check_vectors("triplet_margin", positive=positive, anchor=anchor)
    check_vectors("triplet_margin", negative=negative, anchor=anchor)
    differences: tuple[Tensor, ...] = (anchor - positive + eps, anchor - negative + eps)
    if swap:
        differences = (*differences, positive - negative + eps)
    norms = tuple(norm_over(each, q, (-1,)).squeeze(-1).to(each.dtype) for each in differences)
    z = margin + norms[0] - (torch.minimum(*norms[1:]) if swap else norms[1])
    return z.clamp(min=0), Cache(differences, norms, z, q)


def backward(
    cache: Cache, dl: Cotangent
) -> tuple[Float[Tensor, "*n D"], Float[Tensor, "*n D"], Float[Tensor, "*n D"]]:
    """Compute da, dp and dn from e(u) dz, m e(v) dz and (1 - m) e(w) dz."""
    dz, (_, *far) = (cache.z >= 0) * dl, cache.norms
    slopes: tuple[Tensor, ...] = (dz, dz)
    if len(far) > 1:
        m = (torch.sign(far[1] - far[0]) + 1) / 2
        slopes = (dz, dz * m, dz * (1 - m))
    parts = zip(cache.differences, cache.norms, slopes, strict=True)
    du, dv, *dw = (_norm_gradient(each, norm, cache.q, dnorm) for each, norm, dnorm in parts)
    if dw:
        return du - dv, -du - dw[0], dv + dw[0]
    return du - dv, -du, dv


def _norm_gradient(
    u: Float[Tensor, "*n D"], norm: Float[Tensor, "*n"], q: float, dnorm: Float[Tensor, "*n"]
) -> Float[Tensor, "*n D"]:
    """Compute e(u) dnorm; 0 where dnorm is 0, even if u is infinite."""
    norm, dnorm = norm.unsqueeze(-1), dnorm.unsqueeze(-1)
    if q == math.inf:
        largest = u.abs() == norm
        slope = u.sign() * largest / largest.sum(-1, keepdim=True)
    else:
        ratio = u.abs() / torch.where(norm == 0, 1, norm)
        slope = u.sign() * torch.where(u == 0, 1, ratio) ** (q - 1)
    return torch.where(dnorm == 0, 0, slope * dnorm)


@constructor
def triplet_margin(
    *,
    margin: Positive = 1.0,
    p: Annotated[Positive, OR_INFINITE] = 2.0,
    eps: float = 1e-6,
    swap: bool = False,
    reduction: Reduction = "mean",
) -> Loss:
    """Make the triplet loss: the anchor should be nearer to the positive than to the negative.

    l = max(0, margin + |a - p + eps| - |a - n + eps|), in the p-norm. With swap, the smaller of
    |a - n + eps| and |p - n + eps| is subtracted.

    Args:
        margin: how much nearer the positive should be.
        p: of the norm; infinity is allowed.
        eps: added to each difference, so that none is 0.
        swap: whether the negative's distance from the positive counts, too, if it is smaller.
        reduction: "mean" over the triplets, "sum" of them, or "none".

    Returns:
        The loss, on (anchor, positive, negative) of one shape (..., D), with the target None.

    Raises:
        ValueError: if there is no such reduction, or margin or p is not above 0.

    Source: Balntas et al., "Learning local feature descriptors with triplets and shallow
    convolutional neural networks", 2016.

    Example:
        >>> loss = lf.losses.triplet_margin(eps=0.0)
        >>> x = tuple(torch.tensor([vector]) for vector in ([0.0, 0.0], [3.0, 4.0], [0.0, 1.0]))
        >>> value, cache = loss.forward(x, None)
        >>> value, loss.backward(cache)[0]
        (tensor(5.), tensor([[-0.6000,  0.2000]]))
    """
    return make_loss(
        reduction,
        partial(forward, q=p),
        backward,
        inputs=("anchor", "positive", "negative"),
        targets=(),
    )
