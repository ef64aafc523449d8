"""Group-relative policy optimisation: PPO's surrogate with advantages within a group of answers.

A prompt has G answers, with rewards R_i. An answer's advantage is its reward beside those of its
group, which no other network has to estimate:

    A_i = (R_i - mean_j R_j) / (std_j R_j + 10^(-4))    or R_i - mean_j R_j alone

where std divides by G - 1. Answer i has the tokens t, with log-probabilities z_(it), o_(it) by the
policy that has drawn them and rho_(it) by the reference model. With e the clip range,

    r_(it) = e^(z_(it) - o_(it))    and    d_(it) = rho_(it) - z_(it)
    c(r, A) = -min(r A, clip(r, 1 - e, 1 + e) A)    as in `ppo_clip`
    k_(it) = e^(d_(it)) - d_(it) - 1    an estimate of the divergence from the reference, at least 0
    l_i = (1 / T_i) sum_t (c(r_(it), A_i) + beta k_(it))    over the T_i tokens of the mask

Derivation. As in `ppo_clip`, (dc)/(dz) = -A r, and 0 where r is clipped. (dk)/(dz) = 1 - e^d, so

    dz_(it) = (1 / T_i) ((dc)/(dz) + beta (1 - e^(d_(it)))) dl_i    0 for a masked token

Cache: r, A, d, the mask and T. Source: Shao et al., "DeepSeekMath: pushing the limits of
mathematical reasoning in open language models", 2024.
"""

from __future__ import annotations

from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn.core import NonNegative, Probability, constructor, unexpected
from lincoln_fn.losses.internal import Cotangent, check_same_shape, make_loss, per_example
from lincoln_fn.losses.loss import Loss, Reduction
from lincoln_fn.losses.ppo_clip import slope, surrogate

TINY: Final = 1e-4
Answers = Float[Tensor, "P G T"]
Cache = tuple[Answers, Tensor, Answers | None, Tensor, Tensor]


def forward(
    z: Answers, target: tuple[Tensor, ...], *, beta: float, clip_range: float, scale_rewards: bool
) -> tuple[Float[Tensor, "P G"], Cache]:
    """Compute l_i = (1 / T_i) sum_t (c(r, A_i) + beta k)."""
    if z.ndim != 3 or z.shape[1] < 2:
        expected = "log_probs of shape (prompts, answers, tokens) with at least 2 answers"
        raise unexpected("grpo", expected, z.shape)
    rewards, old, *others = target
    check_same_shape("grpo", "rewards", rewards, "log_probs[..., 0]", z[..., 0])
    d = others.pop(0).to(z.dtype) - z if beta else None  # without beta there is no reference
    mask = others[0] if others else torch.ones_like(z, dtype=torch.bool)
    rewards = rewards.to(z.dtype)
    a = rewards - rewards.mean(1, keepdim=True)
    if scale_rewards:
        a = a / (rewards.std(1, keepdim=True) + TINY)
    r, a = torch.exp(z - old.to(z.dtype)), a.unsqueeze(-1)
    value = surrogate(r, a, clip_range)
    if d is not None:
        value = value + beta * (torch.expm1(d) - d)
    # float16 ends at 65504 tokens.
    n = mask.sum(-1, keepdim=True).clamp(min=1).to(torch.promote_types(z.dtype, torch.float32))
    return torch.where(mask, value / n, 0).sum(-1).to(z.dtype), (r, a, d, mask, n)


def backward(cache: Cache, dl: Cotangent, *, beta: float, clip_range: float) -> Answers:
    """Compute dz_it = (1 / T_i) (dc/dz + beta (1 - e^d)) dl_i, and 0 for a masked token."""
    r, a, d, mask, n = cache
    dz = slope(r, a, clip_range)
    if d is not None:
        dz = dz - beta * torch.expm1(d)
    return torch.where(mask, (dz / n).to(dz.dtype), 0) * per_example(dl, -1)


@constructor
def grpo(
    *,
    beta: NonNegative = 0.04,
    clip_range: Probability = 0.2,
    scale_rewards: bool = True,
    reduction: Reduction = "mean",
) -> Loss:
    """Make the loss of answers in groups, each with a reward (GRPO).

    l_i is the mean, over the tokens of answer i, of PPO's clipped loss with the advantage A_i, plus
    beta times an estimate of the divergence from a reference model. A_i is the answer's reward less
    the mean of its group's, divided by their standard deviation plus 10^-4.

    log_probs have shape (prompts, answers, tokens), with the answers to one prompt as its group.
    The target is (rewards, old_log_probs, reference), or these and a mask: rewards of shape
    (prompts, answers), the log-probabilities by the policy that has drawn the answers and by the
    reference model, and True for the tokens that count.

    Args:
        beta: the weight of the divergence; with 0 there is no reference in the target.
        clip_range: as in `ppo_clip`.
        scale_rewards: whether to divide by the standard deviation.
        reduction: "mean" over the answers, "sum" of them, or "none".

    Example:
        >>> loss = lf.losses.grpo(beta=0.0, scale_rewards=False)
        >>> log_probs, rewards = torch.zeros(1, 2, 1), torch.tensor([[1.0, 0.0]])
        >>> _, cache = loss.forward(log_probs, (rewards, log_probs))
        >>> loss.backward(cache).flatten()
        tensor([-0.2500,  0.2500])
    """
    names = ("old_log_probs", *(("reference",) if beta else ()))
    return make_loss(
        forward, backward, inputs=("log_probs",), targets=("rewards", *names),
        like=dict.fromkeys(names, "log_probs"), masks={"mask": "log_probs"},
    )  # fmt: skip
