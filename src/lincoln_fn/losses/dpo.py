"""Preference of one answer over another, against a reference model: DPO, and IPO.

pi_c and pi_r are the log-probabilities of the chosen and the rejected answer, rho_c and rho_r those
by the reference model, which has no gradient. Their margin is

    h = (pi_c - pi_r) - (rho_c - rho_r)

Derivation. The type "sigmoid" is DPO. With s the sigmoid, and e, the label smoothing, the
probability that a preference is the wrong way round,

    l = -(1 - e) log s(beta h) - e log s(-beta h)
    dh = beta (e s(beta h) - (1 - e) s(-beta h)) dl    since (d log s(u))/(du) = s(-u)

The type "ipo" is a squared error:

    l = (h - 1 / (2 beta))^2
    dh = 2 (h - 1 / (2 beta)) dl

In both, dpi_c = dh and dpi_r = -dh.

Cache: h. Sources: Rafailov et al., "Direct preference optimization", 2023; Azar et al., "A general
theoretical paradigm to understand learning from human preferences", 2023.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch.nn.functional import logsigmoid

from lincoln_fn.core import Positive, Probability, constructor, require
from lincoln_fn.losses.internal import Cotangent, Elements, Loss, Reduction, make_loss

Pair = tuple[Elements, Elements]


def forward(
    x: Pair, target: Pair, *, beta: float, label_smoothing: float, loss_type: str
) -> tuple[Elements, Elements]:
    """Compute l = -(1 - e) log s(beta h) - e log s(-beta h), or (h - 1 / (2 beta))^2."""
    chosen, rejected = x
    h, e = (chosen - rejected) - (target[0] - target[1]).to(chosen.dtype), label_smoothing
    if loss_type == "ipo":
        return (h - 1 / (2 * beta)) ** 2, h
    return -(1 - e) * logsigmoid(beta * h) - e * logsigmoid(-beta * h), h


def backward(
    h: Elements, dl: Cotangent, *, beta: float, label_smoothing: float, loss_type: str
) -> Pair:
    """Compute dh = beta (e s(beta h) - (1 - e) s(-beta h)) dl, or 2 (h - 1 / (2 beta)) dl."""
    e = label_smoothing
    if loss_type == "ipo":
        dh = 2 * (h - 1 / (2 * beta)) * dl
    else:
        dh = beta * (e * torch.sigmoid(beta * h) - (1 - e) * torch.sigmoid(-beta * h)) * dl
    return dh, -dh


@constructor
def dpo(
    *,
    beta: Positive = 0.1,
    label_smoothing: Probability = 0.0,
    loss_type: Literal["sigmoid", "ipo"] = "sigmoid",
    reduction: Reduction = "mean",
) -> Loss:
    """Make the loss of direct preference optimisation: the chosen answer over the rejected one.

    l = -log s(beta h) with s the sigmoid, and h by how much more the trained model prefers the
    chosen answer than the reference model does, in log-probability.

    The prediction is (chosen, rejected), the log-probabilities of whole answers, of one shape. The
    target is (reference_chosen, reference_rejected), those by the reference model:
    `lf.data.with_outputs` computes them.

    Args:
        beta: how near the model stays to the reference: the larger, the nearer.
        label_smoothing: the probability that a preference is the wrong way round, for "sigmoid".
        loss_type: "sigmoid" is DPO. "ipo" is IPO, (h - 1 / (2 beta))^2, whose log-probabilities are
            usually means over an answer's tokens, not sums.
        reduction: "mean" over the pairs, "sum" of them, or "none".

    Example:
        >>> loss = lf.losses.dpo(beta=1.0)
        >>> chosen, rejected = torch.tensor([-2.0]), torch.tensor([-3.0])
        >>> value, cache = loss.forward((chosen, rejected), (torch.zeros(1), torch.zeros(1)))
        >>> value, loss.backward(cache)
        (tensor(0.3133), (tensor([-0.2689]), tensor([0.2689])))
    """
    if loss_type == "ipo":
        require(label_smoothing == 0, "dpo", "no label_smoothing for 'ipo'", label_smoothing)
    names = ("rejected", "reference_chosen", "reference_rejected")
    return make_loss(
        forward, backward, inputs=("chosen", "rejected"),
        targets=("reference_chosen", "reference_rejected"), like=dict.fromkeys(names, "chosen"),
    )  # fmt: skip
