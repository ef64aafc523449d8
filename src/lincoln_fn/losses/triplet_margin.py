"""Triplet loss: anchor a should be nearer to positive p than to negative n, by the margin.

Distances are q-norms of u = a - p + epsilon, v = a - n + epsilon and, with swap, w = p - n +
epsilon. (The constructor calls the power q p, as torch does.)

Derivation. Without swap, |v| replaces min(|v|, |w|):

    z = margin + |u| - min(|v|, |w|)
    l = max(0, z)

The norm |u| = (sum_k |u_k|^q)^(1/q) has the gradient

    e(u)_k = (d|u|)/(du_k) = sign(u_k) |u_k|^(q - 1) / |u|^(q - 1)    0 where u_k = 0

|u| is computed by `layers/common/normalisation.py`, so that it is above 0 for every u other than 0.
For q infinite, e(u)_k is sign(u_k) for the largest |u_k|; several of the same size share it
equally. Let m be 1 where |v| is smaller, 0 where |w| is smaller, and 1/2 where they are equal.
Without swap, m is 1. With dz = dl where z >= 0, else 0 (at z = 0, max(0, z) has slope 1),

    da = (e(u) - m e(v)) dz
    dp = (-e(u) - (1 - m) e(w)) dz
    dn = (m e(v) + (1 - m) e(w)) dz

Cache: u, v, w, their norms and z. Source: Balntas et al., "Learning local feature descriptors
with triplets and shallow convolutional neural networks", 2016.
"""

from __future__ import annotations

import math
from typing import Annotated, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn.core import OR_INFINITE, Positive, constructor
from lincoln_fn.layers.common.normalisation import norm_over
from lincoln_fn.losses.internal import Cotangent, Loss, Reduction, Tensors, check_vector, make_loss

Vector: TypeAlias = Float[Tensor, "*n D"]
Number: TypeAlias = Float[Tensor, "*n"]
Cache: TypeAlias = tuple[Tensors, Tensors, Number]


def forward(
    x: tuple[Vector, Vector, Vector], target: None, *, margin: float, p: float, eps: float,
    swap: bool,
) -> tuple[Number, Cache]:  # fmt: skip
    """Compute l = max(0, margin + |u| - min(|v|, |w|))."""
    anchor, positive, negative = x
    check_vector("triplet_margin", "anchor", anchor)
    differences: Tensors = (anchor - positive + eps, anchor - negative + eps)
    if swap:
        differences = (*differences, positive - negative + eps)
    norms = tuple(norm_over(each, p, (-1,)).squeeze(-1).to(each.dtype) for each in differences)
    z = margin + norms[0] - (torch.minimum(*norms[1:]) if swap else norms[1])
    return z.clamp(min=0), (differences, norms, z)


def backward(cache: Cache, dl: Cotangent, *, p: float) -> tuple[Vector, Vector, Vector]:
    """Compute da, dp and dn from e(u) dz, m e(v) dz and (1 - m) e(w) dz."""
    (u, v, *w), (of_u, of_v, *of_w), z = cache
    dz, m = (z >= 0) * dl, (torch.sign(of_w[0] - of_v) + 1) / 2 if w else 1
    du, dv = _norm_gradient(u, of_u, p, dz), _norm_gradient(v, of_v, p, m * dz)
    dw = _norm_gradient(w[0], of_w[0], p, (1 - m) * dz) if w else 0
    return du - dv, -du - dw, dv + dw


def _norm_gradient(u: Vector, norm: Number, p: float, dnorm: Number) -> Vector:
    """Compute e(u) dnorm; 0 where dnorm is 0, even if u is infinite."""
    norm, dnorm = norm.unsqueeze(-1), dnorm.unsqueeze(-1)
    if p == math.inf:
        largest = u.abs() == norm
        slope = u.sign() * largest / largest.sum(-1, keepdim=True)
    else:
        ratio = u.abs() / torch.where(norm == 0, 1, norm)
        slope = u.sign() * torch.where(u == 0, 1, ratio) ** (p - 1)
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

    l = max(0, margin + |a - p + eps| - |a - n + eps|), in the p-norm; p may be infinite. With swap,
    the smaller of |a - n + eps| and |p - n + eps| is subtracted. The prediction is (anchor,
    positive, negative) of one shape (..., D), and the target None.

    Args:
        reduction: "mean" over the triplets, "sum" of them, or "none".

    Example:
        >>> loss = lf.losses.triplet_margin(eps=0.0)
        >>> x = tuple(torch.tensor([vector]) for vector in ([0.0, 0.0], [3.0, 4.0], [0.0, 1.0]))
        >>> value, cache = loss.forward(x, None)
        >>> value, loss.backward(cache)[0]
        (tensor(5.), tensor([[-0.6000,  0.2000]]))
    """
    names = ("anchor", "positive", "negative")
    like = dict.fromkeys(names[1:], "anchor")
    return make_loss(forward, backward, inputs=names, targets=(), like=like)
