"""Losses of vectors: how near they lie to each other, by a norm or by the angle between them.

Vectors lie along the last axis, (..., D), and there is one value for each, of shape (...). As torch
has it, a hinge max(0, z) has slope 1 at z = 0 here.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lincoln_fn.losses.labels import signs
from lincoln_fn.losses.loss import Loss, Reduction, reduced, require
from lincoln_fn.record import record
from lincoln_fn.shapes import LayerError


@record
class Distances:
    """Differences of vectors and their norms, and the hinge's z.

    u = a - p + eps, v = a - n + eps and, with swap, w = p - n + eps.
    """

    u: Tensor
    norm_u: Tensor
    v: Tensor
    norm_v: Tensor
    w: Tensor | None
    norm_w: Tensor | None
    z: Tensor


def triplet_margin(
    *,
    margin: float = 1.0,
    p: float = 2.0,
    eps: float = 1e-6,
    swap: bool = False,
    reduction: Reduction = "mean",
) -> Loss:
    """Make the triplet loss: the anchor a nearer to the positive p than to the negative n.

    l = max(0, z), z = margin + |u| - |v|, with u = a - p + eps and v = a - n + eps, in the p-norm;
    with swap, |v| is replaced by min(|v|, |w|), w = p - n + eps (Balntas et al., "Learning local
    feature descriptors with triplets and shallow convolutional neural networks", 2016).

    Derivation. The norm |u| = (sum_k |u_k|^p)^(1/p) has the gradient

        e(u)_k = sign(u_k) (|u_k| / |u|)^(p - 1).

    Let m be 1 where |v| is the smaller, 0 where |w| is and 1/2 where they are equal, and m = 1
    without swap. Where z >= 0,

        da =  e(u) - m e(v)
        dp = -e(u) - (1 - m) e(w)
        dn =  m e(v) + (1 - m) e(w).

    Args:
        margin: how much nearer the positive should be.
        p: of the norm; infinity is allowed.
        eps: what is added to each difference, so that none is 0.
        swap: whether the positive may stand in for the anchor against the negative.
        reduction: "mean" over the triplets, "sum" of them, or "none".

    Returns:
        The loss, on (anchor, positive, negative) of one shape, with the target None.

    Raises:
        ValueError: if there is no such reduction, or margin or p is not above 0.

    Example:
        >>> loss = triplet_margin(eps=0.0)
        >>> x = tuple(torch.tensor([vector]) for vector in ([0.0, 0.0], [3.0, 4.0], [0.0, 1.0]))
        >>> value, cache = loss.forward(x, None)
        >>> value, loss.backward(cache)[0]
        (tensor(5.), tensor([[-0.6000,  0.2000]]))
    """
    require("triplet_margin", margin > 0, "margin above 0", margin)
    require("triplet_margin", p > 0, "p above 0", p)

    def values(x: tuple[Tensor, Tensor, Tensor], target: None) -> tuple[Tensor, Distances]:
        anchor, positive, negative = x
        _check_vectors("triplet_margin", positive=positive, anchor=anchor)
        _check_vectors("triplet_margin", negative=negative, anchor=anchor)
        u, v = anchor - positive + eps, anchor - negative + eps
        w = positive - negative + eps if swap else None
        norm_u, norm_v = (torch.linalg.vector_norm(d, p, -1) for d in (u, v))
        norm_w = None if w is None else torch.linalg.vector_norm(w, p, -1)
        far = norm_v if norm_w is None else torch.minimum(norm_v, norm_w)
        z = margin + norm_u - far
        return z.clamp(min=0), Distances(u, norm_u, v, norm_v, w, norm_w, z)

    def slope(kept: Distances, dl: Tensor | float) -> tuple[Tensor, Tensor, Tensor]:
        dz = (kept.z >= 0) * dl
        du = _norm_slope(kept.u, kept.norm_u, p, dz)
        if kept.w is None or kept.norm_w is None:
            dv = _norm_slope(kept.v, kept.norm_v, p, dz)
            return du - dv, -du, dv
        m = (torch.sign(kept.norm_w - kept.norm_v) + 1) / 2
        dv = _norm_slope(kept.v, kept.norm_v, p, dz * m)
        dw = _norm_slope(kept.w, kept.norm_w, p, dz * (1 - m))
        return du - dv, -du - dw, dv + dw

    return reduced(
        "triplet_margin",
        reduction,
        values,
        slope,
        inputs=("anchor", "positive", "negative"),
        targets=(),
        margin=(margin, 1.0),
        p=(p, 2.0),
        eps=(eps, 1e-6),
        swap=(swap, False),
    )


def _norm_slope(u: Tensor, norm: Tensor, p: float, dnorm: Tensor) -> Tensor:
    """Compute the gradient of a p-norm, 0 where u is; the largest share it where p is infinite."""
    norm, dnorm = norm.unsqueeze(-1), dnorm.unsqueeze(-1)
    if p == math.inf:
        largest = u.abs() == norm
        return u.sign() * largest / largest.sum(-1, keepdim=True) * dnorm
    return u.sign() * torch.where(u == 0, 0, (u.abs() / norm) ** (p - 1)) * dnorm


# In what is added to the squared lengths, so that a vector of zeros has an angle.
_TINY = 1e-12


def cosine_embedding(*, margin: float = 0.0, reduction: Reduction = "mean") -> Loss:
    """Make the loss of the angle between x1 and x2: small where y = 1, wide where y = -1.

    l = 1 - c where y = 1, and max(0, c - margin) where y = -1, with the cosine

        c = x1 . x2 / sqrt(q1 q2),      q1 = x1 . x1 + 1e-12,      q2 = x2 . x2 + 1e-12.

    Derivation. dq1/dx1 = 2 x1, so d(q1^-1/2)/dx1 = -q1^-3/2 x1, and

        dc/dx1 = x2 / sqrt(q1 q2) - c x1 / q1,

    and likewise for x2. dl/dc is -1 where y = 1; where y = -1 it is 1 from c = margin on, else 0.

    Args:
        margin: the cosine that costs nothing where y = -1.
        reduction: "mean" over the pairs, "sum" of them, or "none".

    Returns:
        The loss, on (x1, x2) of one shape (..., D) and labels of shape (...).

    Raises:
        ValueError: if there is no such reduction.

    Example:
        >>> loss = cosine_embedding()
        >>> x = torch.tensor([[1.0, 0.0]]), torch.tensor([[3.0, 4.0]])
        >>> value, cache = loss.forward(x, torch.tensor([1]))
        >>> value, loss.backward(cache)[0]
        (tensor(0.4000), tensor([[ 0.0000, -0.8000]]))
    """

    def values(x: tuple[Tensor, Tensor], target: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        x1, x2 = x
        _check_vectors("cosine_embedding", x2=x2, x1=x1)
        y = signs("cosine_embedding", target, tuple(x1.shape[:-1]), x1)
        q1, q2 = (x1 * x1).sum(-1) + _TINY, (x2 * x2).sum(-1) + _TINY
        c = (x1 * x2).sum(-1) / torch.sqrt(q1 * q2)
        return torch.where(y > 0, 1 - c, (c - margin).clamp(min=0)), (x1, x2, y, q1, q2, c)

    def slope(kept: tuple[Tensor, ...], dl: Tensor | float) -> tuple[Tensor, Tensor]:
        x1, x2, y, q1, q2, c = kept
        dc = -y * ((y > 0) | (c >= margin)) * dl
        across = (dc / torch.sqrt(q1 * q2)).unsqueeze(-1)
        dx1 = across * x2 - (dc * c / q1).unsqueeze(-1) * x1
        dx2 = across * x1 - (dc * c / q2).unsqueeze(-1) * x2
        return dx1, dx2

    return reduced(
        "cosine_embedding", reduction, values, slope, inputs=("x1", "x2"), margin=(margin, 0.0)
    )


def _check_vectors(name: str, **pair: Tensor) -> None:
    """Check that the first of two has the second's shape, with at least one axis."""
    (what, given), (other, like) = pair.items()
    if like.ndim == 0:
        raise LayerError(name, f"expected {other} of shape (..., D), got ()")
    if given.shape != like.shape:
        shapes = f"{other}'s shape {tuple(like.shape)}, got {tuple(given.shape)}"
        raise LayerError(name, f"expected {what} of {shapes}")
