"""Prodigy: Adam's steps, whose length is estimated from how far the parameters have moved.

d is an estimate of the distance to the solution, which only grows. With p_0 the first parameters,
k = lr d, and all sums and norms over all parameters,

    r <- b3 r + k d / d_0 sum dp (p_0 - p)
    s <- b3 s + k d / d_0 dp
    m <- b1 m + (1 - b1) d dp
    v <- b2 v + (1 - b2) d^2 dp^2
    d <- max(d, d_coef r / |s|_1)
    p <- p - k weight_decay p - k m / (sqrt(v) + d eps)

With use_bias_correction, k is lr d sqrt(1 - b2^t) / (1 - b1^t), with t counting from 1.
"""

from __future__ import annotations

from functools import partial
from typing import Final

import torch
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import Decay, Epsilon, NonNegative, Params, Positive, bare, constructor
from lincoln_fn.optim import leaves
from lincoln_fn.optim.leaves import Entry, fill_like, no_steps, update_leaves
from lincoln_fn.optim.optimizer import LearningRate, Optimizer
from lincoln_fn.optim.rules import add_scaled, learning_rate, moments, root

NO_ADJOINT: Final = "its rate is the largest of the estimates of all steps so far"


@core.record
class ProdigyState:
    """How many steps were taken, d and r, and of each parameter m, v, s and the first value."""

    step: Tensor
    d: Tensor
    r: Tensor
    m: Params
    v: Params
    s: Params
    start: Params


def _init(params: Params, *, d0: float) -> ProdigyState:
    leaves.check_whole("prodigy", params)
    step = no_steps(params)
    d = torch.full((), d0, dtype=torch.float64, device=step.device)
    m, v, s = (fill_like(params) for _ in range(3))
    return ProdigyState(
        step, d, torch.zeros_like(d), m, v, s, leaves.state_tree(torch.clone, params)
    )


def _update(
    params: Params, grads: Params, state: ProdigyState, *, lr: LearningRate,
    betas: tuple[float, float], beta3: float | None, eps: float, weight_decay: float,
    use_bias_correction: bool, safeguard_warmup: bool, d0: float, d_coef: float,
) -> tuple[Params, ProdigyState]:  # fmt: skip
    leaves.check_state("prodigy", state, ProdigyState)
    (b1, b2), t, d = betas, (state.step + 1).double(), state.d
    b3 = b2**0.5 if beta3 is None else beta3
    k = learning_rate(lr, state.step) * d
    k = k * (1 - b2**t).sqrt() / (1 - b1**t) if use_bias_correction else k
    moved, sizes = [torch.zeros_like(d)], [torch.zeros_like(d)]

    def means(p: Tensor, dp: Tensor, m: Tensor, v: Tensor, s: Tensor, p_0: Tensor) -> Entry:
        scaled = (d * dp).to(dp.dtype)  # without axes it would be of d's dtype
        m, v = moments(m, v, scaled, betas)
        s = b3 * s + d / d0 * (d if safeguard_warmup else k) * dp
        moved.append((dp * (p_0 - p)).sum(dtype=torch.float64))
        sizes.append(s.abs().sum(dtype=torch.float64))
        return p, m, v, s, p_0.clone()

    kept = state.m, state.v, state.s, state.start
    _, m, v, s, start = update_leaves("prodigy", means, params, grads, *kept)
    r = b3 * state.r + d / d0 * k * torch.stack(moved).sum()
    size = torch.stack(sizes).sum()
    d = torch.where(size > 0, torch.maximum(d, d_coef * r / size), d)

    def rule(p: Tensor, _: Tensor, m: Tensor, v: Tensor) -> Entry:
        return add_scaled(p, p, -weight_decay * k) - k * m / (root(v) + d * eps), m, v

    params, m, v = update_leaves("prodigy", rule, params, grads, m, v)
    return params, ProdigyState(state.step + 1, d, r, m, v, s, start)


@constructor
def prodigy(
    lr: LearningRate = 1.0,
    betas: tuple[Decay, Decay] = (0.9, 0.999),
    beta3: Decay | None = None,
    eps: Epsilon = 1e-8,
    weight_decay: NonNegative = 0.0,
    use_bias_correction: bool = False,
    safeguard_warmup: bool = False,
    d0: Positive = 1e-6,
    d_coef: Positive = 1.0,
) -> Optimizer:
    """Make Prodigy: Adam with a learning rate that it finds itself, so that lr stays 1.

    A schedule as lr has a peak of 1. One estimate serves all parameters that it is given.

    Args:
        betas: b1 and b2, how much of m and of v is kept from step to step.
        beta3: how much of the sums of the estimate is kept; None is sqrt(b2).
        eps: is added to the denominator, times d.
        weight_decay: how strongly p decays, as by AdamW.
        use_bias_correction: whether steps are corrected as Adam's.
        safeguard_warmup: whether s gets d in place of k, for a schedule that begins near 0.
        d0: the first estimate, a small number.
        d_coef: the factor of each estimate.

    Source: Mishchenko and Defazio, "Prodigy: An Expeditiously Adaptive Parameter-Free Learner",
    2023, algorithm 4, in the form of their code.

    Example:
        >>> optimizer, p = prodigy(d0=0.1), torch.tensor([1.0])
        >>> optimizer.update(p, torch.tensor([4.0]), optimizer.init(p))[0]
        tensor([0.6838])
    """
    return bare(partial(Optimizer, adjoint=NO_ADJOINT), _init, _update)
