"""Answers that are each desirable or undesirable, against a reference model (KTO).

pi is the log-probability of an answer and rho that by the reference model, so that h = pi - rho is
its log-ratio. pi' and rho' are those of mismatched pairs, such as each prompt with the answer to
another one. y is 1 for a desirable answer and -1 for an undesirable one, and w the weight of its
kind. With s the sigmoid,

    z_0 = max(0, mean(pi' - rho'))    an estimate of the divergence from the reference
    u = beta y (h - z_0)
    l = w (1 - s(u)) = w s(-u)

Derivation. z_0 is a constant by the definition of the method: it has no gradient, though it is
computed from the trained model. So

    (dl)/(du) = -w s(u) s(-u)    since s(-u) has the derivative -s(u) s(-u)
    (du)/(dpi) = beta y
    dpi = -w beta y s(u) s(-u) dl
    dpi' = 0

Cache: w, u, y, and dpi'. Source: Ethayarajh et al., "KTO: model alignment as prospect theoretic
optimization", 2024.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lincoln_fn.core import NonNegative, Positive, constructor
from lincoln_fn.losses.internal import Cotangent, Loss, Reduction, Tensors, make_loss

Pair = tuple[Float[Tensor, "*n"], Float[Tensor, "*m"]]


def forward(
    x: Pair,
    target: tuple[Bool[Tensor, "*n"], Float[Tensor, "*n"], Float[Tensor, "*m"]],
    *,
    beta: float,
    desirable_weight: float,
    undesirable_weight: float,
) -> tuple[Float[Tensor, "*n"], Tensors]:
    """Compute l = w s(-u) with u = beta y (h - z_0)."""
    (pi, mismatched), (desirable, rho, reference_mismatched) = x, target
    z_0 = (mismatched.detach() - reference_mismatched.to(pi.dtype)).mean().clamp(min=0)
    is_desirable = desirable.to(pi.dtype)
    y = 2 * is_desirable - 1
    w = desirable_weight * is_desirable + undesirable_weight * (1 - is_desirable)
    u = beta * y * (pi - rho.to(pi.dtype) - z_0)
    return w * torch.sigmoid(-u), (w, u, y, torch.zeros_like(mismatched))


def backward(cache: Tensors, dl: Cotangent, *, beta: float) -> Pair:
    """Compute dpi = -w beta y s(u) s(-u) dl; z_0 has no gradient."""
    w, u, y, dmismatched = cache
    return -w * beta * y * torch.sigmoid(u) * torch.sigmoid(-u) * dl, dmismatched


@constructor
def kto(
    *,
    beta: Positive = 0.1,
    desirable_weight: NonNegative = 1.0,
    undesirable_weight: NonNegative = 1.0,
    reduction: Reduction = "mean",
) -> Loss:
    """Make the loss of answers that are each desirable or not, without pairs (KTO).

    l = w s(-beta (h - z_0)) of a desirable answer, and w s(beta (h - z_0)) of an undesirable one,
    with s the sigmoid, h the log-ratio of the trained model to the reference, and z_0 the mean of
    that of mismatched pairs, at least 0. By the definition of the method z_0 has no gradient.

    The prediction is (log_probs, mismatched): the log-probabilities of the answers, of shape (N,),
    and of mismatched pairs, such as each prompt with the answer to another one. The target is
    (desirable, reference, reference_mismatched): booleans, and those by the reference model.

    Args:
        beta: how near the model stays to the reference: the larger, the nearer.
        desirable_weight: w of desirable answers.
        undesirable_weight: w of undesirable ones.
        reduction: "mean" over the answers, "sum" of them, or "none".

    Example:
        >>> loss = lf.losses.kto(beta=1.0)
        >>> log_probs, zero = torch.tensor([-1.0, -1.0]), torch.zeros(2)
        >>> target = torch.tensor([True, False]), zero, zero
        >>> value, cache = loss.forward((log_probs, zero), target)
        >>> value, loss.backward(cache)[0]
        (tensor(0.5000), tensor([-0.0983,  0.0983]))
    """
    return make_loss(
        forward, backward, inputs=("log_probs", "mismatched"),
        targets=("desirable", "reference", "reference_mismatched"),
        like={"reference": "log_probs", "reference_mismatched": "mismatched"},
        masks={"desirable": "log_probs"},
    )  # fmt: skip
