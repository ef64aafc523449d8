"""LAMB: Adam's steps, each parameter's scaled to the parameter's own size.

With m' and v' the unbiased running means of dp and dp^2, as in Adam,

    u = m' / (sqrt(v') + eps) + weight_decay p
    p <- p - lr |p| / |u| u

The factor |p| / |u| is 1 where |p| or |u| is 0.

Adjoint. With f = |p| / |u|, from the last line up,

    bar lr = -f sum u bar p
    bar f = -lr sum u bar p
    bar u = -lr f bar p - f bar f u / |u|^2
    bar p += f bar f p / |p|^2 + weight_decay bar u
    bar weight_decay = sum p bar u

and then as in Adam, from bar u on. Where f is 1 because |p| or |u| is 0, bar f counts as 0.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lincoln_fn.core import Decay, Epsilon, NonNegative, constructor
from lincoln_fn.optim.adam import AdamState
from lincoln_fn.optim.leafwise import At, Row, Rules, leafwise
from lincoln_fn.optim.leaves import check_whole
from lincoln_fn.optim.optimizer import LearningRate, Optimizer
from lincoln_fn.optim.rules import add_scaled, moments, moments_back, ratio_back, root, take_step


def rules(at: At, *, betas: tuple[float, float], eps: float, weight_decay: float | Tensor) -> Rules:
    """Compute p <- p - lr |p| / |u| u, and the new means."""
    c1, c2 = (1 - beta**at.t for beta in betas)

    def rule(p: Tensor, dp: Tensor, m: Tensor, v: Tensor, _: None) -> Row:
        m, v = moments(m, v, dp, betas)
        u = add_scaled((m / c1) / (root(v / c2) + eps), p, weight_decay)
        return take_step(p, u, at.lr * trust_ratio(p, u)), m, v, None

    def adjoint(
        p: Tensor, dp: Tensor, m: Tensor, v: Tensor, _: None,
        p_bar: Tensor, m_bar: Tensor, v_bar: Tensor, _bar: None,
    ) -> Row:  # fmt: skip
        m, v = moments(m, v, dp, betas)
        s = root(v / c2) + eps
        adam = m / (c1 * s)
        u = adam + weight_decay * p
        f = trust_ratio(p, u)
        u_bar, of_p = trust_back(p, u, f, -at.lr * p_bar)
        products = {"lr": -f * u * p_bar, "weight_decay": p * u_bar}
        p_bar = p_bar + of_p + weight_decay * u_bar
        of_m, of_v = ratio_back(adam, u_bar, s, v / c2)
        bars = moments_back(dp, m_bar + of_m / c1, v_bar + of_v / c2, betas)
        return p_bar, *bars, None, products

    return rule, adjoint


def trust_ratio(p: Tensor, u: Tensor, coefficient: float = 1.0) -> Tensor:
    """Compute coefficient |p| / |u|, and 1 where one of them is 0."""
    size, length = torch.linalg.vector_norm(p), torch.linalg.vector_norm(u)
    is_defined = (size > 0) & (length > 0)
    return torch.where(is_defined, coefficient * size / torch.where(is_defined, length, 1), 1)


def trust_back(p: Tensor, u: Tensor, f: Tensor, bar: Tensor) -> tuple[Tensor, Tensor]:
    """Undo f u, with f the ratio: compute bar u, and what is added to bar p."""
    square, of_u = (p * p).sum(), (u * u).sum()
    of_f = torch.where((square > 0) & (of_u > 0), f * (u * bar).sum(), 0)  # f bar f
    u_bar = f * bar - torch.where(of_f == 0, 0, of_f / of_u) * u
    return u_bar, torch.where(of_f == 0, 0, of_f / square) * p


@constructor
def lamb(
    lr: LearningRate = 1e-3,
    betas: tuple[Decay, Decay] = (0.9, 0.999),
    eps: Epsilon = 1e-6,
    weight_decay: NonNegative = 0.0,
    *,
    maximize: bool = False,
) -> Optimizer:
    """Make LAMB: p <- p - lr |p| / |u| u, with u = m' / (sqrt(v') + eps) + weight_decay p.

    Each parameter changes by the share lr of its own size, so lr serves for large batches, too.

    Args:
        betas: how much of m and of v is kept from step to step.
        weight_decay: the factor of p that is added to the direction.

    Source: You et al., "Large Batch Optimization for Deep Learning", 2020, algorithm 2.

    Example:
        >>> optimizer, params = lamb(0.5), torch.tensor([3.0, 4.0])
        >>> optimizer.update(params, torch.tensor([9.0, 0.0]), optimizer.init(params))[0]
        tensor([0.5000, 4.0000])
    """
    start = {"step": True, "m": 0.0, "v": 0.0, "v_max": None}
    return leafwise(AdamState, rules, start, check=check_whole)
