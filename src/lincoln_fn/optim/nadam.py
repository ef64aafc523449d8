"""NAdam: Adam with Nesterov's momentum.

With t counting from 1, m, v and v' as in Adam, and M_t the product of all mu so far,

    mu_t = b1 (1 - 0.96^(t momentum_decay) / 2)
    M_t = mu_1 ... mu_t
    p <- p - lr ((1 - mu_t) / (1 - M_t) dp + mu_(t+1) / (1 - M_(t+1)) m) / (sqrt(v') + eps)

Adjoint. Adam's, with a and b the factors of dp and m above, and c = 1 - b2^t.
"""

from __future__ import annotations

from torch import Tensor

from lincoln_fn.core import Decay, Epsilon, NonNegative, Params, constructor, record
from lincoln_fn.optim.adam import moment_rules
from lincoln_fn.optim.leafwise import At, Once, Rules, Start, leafwise
from lincoln_fn.optim.optimizer import LearningRate, Optimizer


@record
class NadamState:
    """How many steps were taken, the product of all mu so far, and both running means."""

    step: Tensor
    mu_product: Tensor
    m: Params
    v: Params


def rules(at: At, *, betas: tuple[float, float], eps: float, momentum_decay: float) -> Rules:
    """Compute p <- p - lr (a dp + b m) / (sqrt(v') + eps), with a and b as the module says."""
    t, (b1, b2) = at.t, betas
    mu, mu_next = (_mu(s, b1, momentum_decay) for s in (t, t + 1))
    product = next_product(at, betas=betas, momentum_decay=momentum_decay)
    a, b = (1 - mu) / (1 - product), mu_next / (1 - product * mu_next)
    return moment_rules(at.lr, betas, eps, a=a, b=b, c=1 - b2**t)


def _mu(s: Tensor, b1: float, momentum_decay: float) -> Tensor:
    return b1 * (1 - 0.5 * 0.96 ** (s * momentum_decay))


def next_product(at: At, *, betas: tuple[float, float], momentum_decay: float) -> Tensor:
    """Compute M_t = mu_t M_(t-1)."""
    product: Tensor = at.state.mu_product * _mu(at.t, betas[0], momentum_decay)
    return product


@constructor
def nadam(
    lr: LearningRate = 2e-3,
    betas: tuple[Decay, Decay] = (0.9, 0.999),
    eps: Epsilon = 1e-8,
    weight_decay: NonNegative = 0.0,
    momentum_decay: NonNegative = 4e-3,
    decoupled_weight_decay: bool = False,
    *,
    maximize: bool = False,
) -> Optimizer:
    """Make NAdam: Adam with Nesterov's momentum, whose mu_t rises towards b1.

    With mu_t = b1 (1 - 0.96^(t momentum_decay) / 2), M_t = mu_1 ... mu_t, and m, v, v' as in Adam,

        p <- p - lr ((1 - mu_t) / (1 - M_t) dp + mu_(t+1) / (1 - M_(t+1)) m) / (sqrt(v') + eps)

    Args:
        betas: b1 and b2, how much of m and of v is kept from step to step.
        momentum_decay: how fast mu rises.
        decoupled_weight_decay: whether p is multiplied by 1 - lr weight_decay, as by AdamW.

    Source: Dozat, "Incorporating Nesterov Momentum into Adam", 2016, algorithm 2.

    Example:
        >>> optimizer, params = nadam(0.5), (torch.tensor([1.0]),)
        >>> optimizer.update(params, (torch.tensor([4.0]),), optimizer.init(params))[0]
        (tensor([0.4718]),)
    """
    start: Start = {"step": True, "mu_product": Once(1.0, next_product), "m": 0.0, "v": 0.0}
    return leafwise(NadamState, rules, start)
