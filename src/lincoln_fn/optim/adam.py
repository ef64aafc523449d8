"""Adam and AdamW: steps scaled by running means of the gradient and of its square.

With t counting from 1, and both means starting at 0,

    m <- b1 m + (1 - b1) dp                 E[m] = (1 - b1^t) E[dp] for a steady gradient
    v <- b2 v + (1 - b2) dp^2               E[v] = (1 - b2^t) E[dp^2]
    p <- p - lr m' / (sqrt(v') + eps),      m' = m / (1 - b1^t), v' = v / (1 - b2^t)

so that m' and v' are unbiased from the first step on. AMSGrad puts in v's place the largest v so
far. Adam adds the weight decay to dp; AdamW shrinks p by 1 - lr weight_decay instead, which the
running means do not see.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from lincoln_fn.layer import Params, call_repr
from lincoln_fn.optim.optimizer import LearningRate, Optimizer
from lincoln_fn.optim.rules import check_common, rate, shrunk, slope
from lincoln_fn.optim.walk import Columns, Rule, apply, no_steps, walk_lists, zeros_like
from lincoln_fn.record import record


@record
class AdamState:
    """How many steps were taken, both running means, and AMSGrad's largest v or None."""

    step: Tensor
    m: Params
    v: Params
    v_max: Params | None


def adam(
    lr: LearningRate = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    amsgrad: bool = False,
    *,
    maximize: bool = False,
) -> Optimizer:
    """Make Adam: p <- p - lr m' / (sqrt(v') + eps), of the unbiased means of dp and dp^2.

    Args:
        lr: the learning rate, above 0, or a schedule.
        betas: how much of the last m and of the last v stays.
        eps: keeps the denominator from 0.
        weight_decay: weight_decay p is added to dp.
        amsgrad: whether the largest v so far is used.
        maximize: whether to climb.

    Returns:
        The optimizer, whose state is an `AdamState`.

    Raises:
        ValueError: if a hyperparameter is out of its range.
        LayerError: from `update`, if the gradients do not mirror the parameters.

    Source: Kingma and Ba, "Adam: A Method for Stochastic Optimization", 2015, algorithm 1; Reddi,
    Kale and Kumar, "On the Convergence of Adam and Beyond", 2018.

    Example:
        >>> optimizer, params = adam(0.5), (torch.tensor([1.0]),)
        >>> optimizer.update(params, (torch.tensor([4.0]),), optimizer.init(params))[0]
        (tensor([0.5000]),)
    """
    return _adam("adam", lr, _Settings(betas, eps, weight_decay, False, maximize), amsgrad)


def adamw(
    lr: LearningRate = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 1e-2,
    amsgrad: bool = False,
    *,
    maximize: bool = False,
) -> Optimizer:
    """Make AdamW: Adam, after p has been shrunk by 1 - lr weight_decay.

    Args:
        lr: the learning rate, above 0, or a schedule.
        betas: how much of the last m and of the last v stays.
        eps: keeps the denominator from 0.
        weight_decay: how strongly p is shrunk.
        amsgrad: whether the largest v so far is used.
        maximize: whether to climb.

    Returns:
        The optimizer, whose state is an `AdamState`.

    Raises:
        ValueError: if a hyperparameter is out of its range.
        LayerError: from `update`, if the gradients do not mirror the parameters.

    Source: Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019, algorithm 2.

    Example:
        >>> optimizer, params = adamw(0.5), (torch.tensor([1.0]),)
        >>> optimizer.update(params, (torch.tensor([0.0]),), optimizer.init(params))[0]
        (tensor([0.9950]),)
    """
    return _adam("adamw", lr, _Settings(betas, eps, weight_decay, True, maximize), amsgrad)


class _Settings(NamedTuple):
    betas: tuple[float, float]
    eps: float
    weight_decay: float
    decoupled: bool
    maximize: bool


def _adam(name: str, lr: LearningRate, settings: _Settings, amsgrad: bool) -> Optimizer:
    betas, eps, weight_decay, decoupled, maximize = settings
    check_common(name, lr, betas=betas, eps=eps, weight_decay=weight_decay)

    def init(params: Params) -> AdamState:
        m, v = zeros_like(params), zeros_like(params)
        return AdamState(no_steps(params), m, v, zeros_like(params) if amsgrad else None)

    def update(params: Params, grads: Params, state: AdamState) -> tuple[Params, AdamState]:
        step, now = state.step + 1, rate(lr, state.step)

        def moved(lists: Columns) -> Columns:
            if _kernel_serves(lists):
                return _by_kernel(lists, step, now, settings)
            return apply(_rule(step, now, settings), lists)

        params, *kept = walk_lists(name, moved, params, grads, state.m, state.v, state.v_max)
        return params, AdamState(step, *kept)

    spelling = call_repr(
        name,
        lr,
        betas=(betas, (0.9, 0.999)),
        eps=(eps, 1e-8),
        weight_decay=(weight_decay, 1e-2 if decoupled else 0.0),
        amsgrad=(amsgrad, False),
        maximize=(maximize, False),
    )
    return Optimizer(spelling, init, update)


def _rule(step: Tensor, lr: float | Tensor, settings: _Settings) -> Rule:
    (b1, b2), eps, weight_decay, decoupled, maximize = settings
    t = step.double()
    root = (1 - b2**t).sqrt()
    # m' / (sqrt(v') + eps) is m root / (1 - b1^t) / (sqrt(v) + eps root), in fewer passes.
    eps_root, scale = eps * root, (b1**t - 1) / (lr * root)

    def rule(
        p: Tensor, dp: Tensor, m: Tensor, v: Tensor, v_max: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        dp = slope(p, dp, 0.0 if decoupled else weight_decay, maximize)
        p = shrunk(p, lr, weight_decay) if decoupled else p
        m = torch.lerp(m, dp, 1 - b1)
        v = torch.addcmul(v * b2, dp, dp, value=1 - b2)
        v_max = None if v_max is None else torch.maximum(v_max, v)
        size = (v if v_max is None else v_max).sqrt().add_(eps_root).mul_(scale)
        return torch.addcdiv(p, m, size), m, v, v_max

    return rule


def _kernel_serves(lists: Columns) -> bool:
    """Tell whether ATen's kernel, which reads memory from front to back, may be handed the leaves.

    It takes half the time of the rule, but knows neither strides nor `torch.func`'s wrappers, nor
    the fake tensors of a step that is traced, where a compiler can fuse the rule.
    """
    leaves = [leaf for column in lists for leaf in column if leaf is not None]
    return all(
        type(leaf) is Tensor
        and leaf.device.type == "cpu"
        and leaf.dtype is leaves[0].dtype
        and leaf.is_contiguous()
        and not torch._C._functorch.is_functorch_wrapped_tensor(leaf)
        for leaf in leaves
    )


def _by_kernel(lists: Columns, step: Tensor, lr: float | Tensor, settings: _Settings) -> Columns:
    dp = lists.pop(1)
    # The kernel works in place, so on copies.
    new: Columns = [[leaf if leaf is None else leaf.clone() for leaf in column] for column in lists]
    p, m, v, v_max = new
    largest = [leaf for leaf in v_max if leaf is not None]
    # Any: its types do not say that lr may be a tensor.
    kernel: Any = torch._fused_adamw_ if settings.decoupled else torch._fused_adam_
    if p:
        kernel(
            p, dp, m, v, largest, [step.float()] * len(p),
            lr=lr, beta1=settings.betas[0], beta2=settings.betas[1], eps=settings.eps,
            weight_decay=settings.weight_decay, amsgrad=bool(largest), maximize=settings.maximize,
        )  # fmt: skip
    return new
