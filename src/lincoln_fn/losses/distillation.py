"""Distillation: the student's probabilities should be the teacher's, at a temperature.

x are the student's logits, and v the teacher's, which have no gradient. T is the temperature, and

    p = softmax(x / T)    q = softmax(v / T)
    l = T^2 sum_j q_j (log q_j - log p_j)

which is T^2 times the divergence of p from q. The factor keeps the gradient's size for any T.

Derivation. Only -T^2 sum_j q_j log p_j depends on x, a cross-entropy on x / T:

    dx_k = T (p_k - q_k) dl

With d_k = log p_k - log q_k, p_k - q_k is computed as q_k expm1(d_k), or -p_k expm1(-d_k) where
d_k > 0, which loses no digits where the two are near each other.

Cache: log p and log q. Source: Hinton et al., "Distilling the knowledge in a neural network", 2015.
"""

from __future__ import annotations

import math

import torch

from lincoln_fn.core import Elements, Positive, constructor
from lincoln_fn.losses.common.checks import same_shape
from lincoln_fn.losses.common.labels import check_classes
from lincoln_fn.losses.internal import Cotangent, Loss, Reduction, Tensors, make_loss, per_example


def forward(x: Elements, v: Elements, *, temperature: float, dim: int) -> tuple[Elements, Tensors]:
    """Compute l = T^2 sum_j q_j (log q_j - log p_j)."""
    check_classes("distillation", x, dim)
    log_p, log_q = (torch.log_softmax(logits / temperature, dim) for logits in (x, v))
    q, d = torch.exp(log_q), _difference(log_p, log_q)
    return temperature**2 * torch.where(q > 0, -q * d, 0).sum(dim), (log_p, log_q)


def backward(cache: Tensors, dl: Cotangent, *, temperature: float, dim: int) -> Elements:
    """Compute dx_k = T (p_k - q_k) dl."""
    log_p, log_q = cache
    d = _difference(log_p, log_q)
    of_q = torch.exp(log_q) * torch.expm1(d.clamp(max=0))
    of_p = torch.exp(log_p) * torch.expm1((-d).clamp(max=0))
    return torch.where(d <= 0, of_q, -of_p) * (temperature * per_example(dl, dim))


def _difference(log_p: Elements, log_q: Elements) -> Elements:
    """Compute d = log p - log q; 0 for a class that is impossible by both."""
    return (log_p - log_q).nan_to_num(0, math.inf, -math.inf)


@constructor
def distillation(
    *, temperature: Positive = 2.0, dim: int = 1, reduction: Reduction = "mean"
) -> Loss:
    """Make the loss of a student's logits beside a teacher's: T^2 times their divergence at T.

    l = T^2 sum_j q_j (log q_j - log p_j), with p and q the softmax of the logits divided by T. The
    logits have shape (N, C) or (N, C, ...). The target are the teacher's, of the same shape:
    `lf.data.with_outputs` computes them.

    Args:
        temperature: T. The higher, the more the unlikely classes count.
        dim: the axis of the classes.
        reduction: "mean" over the examples, "sum" of them, or "none".

    Example:
        >>> loss = lf.losses.distillation(temperature=1.0)
        >>> student, teacher = torch.tensor([[0.0, 0.0]]), torch.tensor([[1e4, 0.0]])
        >>> value, cache = loss.forward(student, teacher)
        >>> value, loss.backward(cache)
        (tensor(0.6931), tensor([[-0.5000,  0.5000]]))
    """
    return make_loss(forward, backward, reads=same_shape)
