"""Schedule-free steps: no schedule of the learning rate, and a mean of all steps to predict with.

There are three sequences: z, which takes the inner optimizer's steps; x, the mean of all z so far,
to predict with; and y between them, where the gradient is computed. The parameters of the training
are y. With dy the gradient at y, and the inner optimizer's step y -> y',

    z <- z + (y' - y)
    w <- w + g^2,  c = g^2 / w
    x <- (1 - c) x + c z
    y <- (1 - momentum) z + momentum x

where g is the largest learning rate so far; for a constant one, c is 1 over the number of steps.
x is not kept: it is (y - (1 - momentum) z) / momentum, of the old y and z.

Adjoint. The bars of y', the old y, z and x from the last line up, with b = momentum:

    bar z += (1 - b) bar y, bar x = b bar y
    bar z += c bar x, bar x <- (1 - c) bar x
    bar y = bar x / b - bar z,  bar y' = bar z,  bar z += -(1 - b) / b bar x

and then the inner optimizer's, from bar y'.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, Final

import torch
from torch import Tensor

from lincoln_fn.core import NonNegative, Params, Range, bare, constructor, evolve, record, static
from lincoln_fn.optim.leaves import check_state, find_state, no_steps, state_tree, update_leaves
from lincoln_fn.optim.optimizer import Adjoints, LearningRate, Optimizer, OptimizerState
from lincoln_fn.optim.rules import learning_rate
from lincoln_fn.optim.transforms import Transform, adjoint_of, transform

NO_ADJOINT: Final = "the weights of its mean follow a schedule, in which they have no derivative"


@record
class ScheduleFreeState:
    """The count of steps, w, g, z, the inner optimizer's state, and the place between z and x."""

    step: Tensor
    total: Tensor
    largest: Tensor
    z: Params
    inner: OptimizerState
    momentum: float = static()


def _init(inner: Optimizer, params: Params, *, momentum: float) -> ScheduleFreeState:
    """Begin with x = y = z."""
    step = no_steps(params)
    total, largest = (torch.zeros((), dtype=torch.float64, device=step.device) for _ in range(2))
    z, kept = state_tree(torch.clone, params), inner.init(params)
    return ScheduleFreeState(step, total, largest, z, kept, momentum)


def _update(
    inner: Optimizer, params: Params, grads: Params, state: ScheduleFreeState,
    *, rate: LearningRate,
) -> tuple[Params, ScheduleFreeState]:  # fmt: skip
    check_state("schedule_free", state, ScheduleFreeState)
    largest, total, c = _weights(rate, state)
    momentum = state.momentum
    moved, kept = inner.update(params, grads, state.inner)

    def rule(y: Tensor, new: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        x = (y - (1 - momentum) * z) / momentum
        z = z + (new - y)
        x = torch.lerp(x, z, c.to(z.dtype))
        return torch.lerp(z, x, momentum), z

    params, z = update_leaves("schedule_free", rule, params, moved, state.z)
    return params, ScheduleFreeState(state.step + 1, total, largest, z, kept, momentum)


def _weights(lr: LearningRate, state: ScheduleFreeState) -> tuple[Tensor, Tensor, Tensor]:
    now, like = learning_rate(lr, state.step), state.largest
    rate = now.to(like) if isinstance(now, Tensor) else torch.full_like(like, now)
    largest = torch.maximum(state.largest, rate)
    total = state.total + largest**2
    # While all rates are 0, x stays.
    return largest, total, torch.where(total > 0, largest**2 / total, 0)


def _adjoint(
    inner: Optimizer, params: Params, grads: Params, state: ScheduleFreeState,
    params_bar: Params, state_bar: ScheduleFreeState, *, rate: float,
) -> Adjoints:  # fmt: skip
    """Compute bar y' = bar z, and undo the inner step."""
    (_, _, c), momentum = _weights(rate, state), state.momentum

    def rule(y: Tensor, _: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the bars of y' and x."""
        return z + (1 - momentum + c * momentum) * y, (1 - c) * momentum * y

    def old(y: Tensor, z: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the bars of the old y and z."""
        return y + x / momentum - z, z - (1 - momentum) / momentum * x

    moved_bar, x_bar = update_leaves("schedule_free", rule, params_bar, params_bar, state_bar.z)
    adjoints = adjoint_of(inner)(params, grads, state.inner, moved_bar, state_bar.inner)
    params_bar, z_bar = update_leaves("schedule_free", old, adjoints.params, moved_bar, x_bar)
    return evolve(adjoints, params=params_bar, state=evolve(state, z=z_bar, inner=adjoints.state))


@constructor
def schedule_free(
    momentum: Annotated[float, Range("above 0 and below 1", lambda value: 0 < value < 1)] = 0.9,
    lr: NonNegative | Callable[[Tensor], Tensor] = 1.0,
) -> Transform:
    """Train at a constant learning rate, and predict with a mean of all steps.

    The mean takes the place of the schedule's fall, and needs no length of the run. The inner
    optimizer takes the steps, without momentum of its own: `chain(schedule_free(), sgd(1.0))` or
    `chain(schedule_free(), adamw(2e-3, betas=(0.0, 0.999)))`. Its learning rate is about 2 to 10
    times as large as one that falls. `schedule_free_params` reads the mean, with which to predict
    and to measure.

    Args:
        momentum: the place between z and x at which gradients are computed, above 0 and below 1.
        lr: the inner optimizer's, if that is a schedule, such as a rise in the first steps. Steps
            of a small rate then count less: by the square of the largest rate so far.

    Source: Defazio et al., "The Road Less Scheduled", 2024, equations 3 to 5 and algorithm 1.

    Example:
        >>> optimizer, p = lf.optim.chain(schedule_free(0.5), lf.optim.sgd(1.0)), torch.tensor(0.0)
        >>> p, state = optimizer.update(p, torch.tensor(4.0), optimizer.init(p))
        >>> p, state = optimizer.update(p, torch.tensor(4.0), state)
        >>> p, schedule_free_params(state, p)
        (tensor(-7.), tensor(-6.))
    """
    adjoint = NO_ADJOINT if callable(lr) else partial(_adjoint, rate=lr)
    return bare(partial(transform, adjoint=adjoint), _init, partial(_update, rate=lr))


def schedule_free_params(state: OptimizerState, params: Params) -> Params:
    """Compute the mean of all steps, x = (y - (1 - momentum) z) / momentum.

    Args:
        state: of an optimizer with `schedule_free` anywhere in its chain.
        params: y, the parameters of the same step; running statistics and keys are taken from them.

    Example:
        >>> optimizer, p = lf.optim.chain(schedule_free(), lf.optim.sgd(1.0)), torch.tensor(1.0)
        >>> schedule_free_params(optimizer.init(p), p)
        tensor(1.)
    """
    own = find_state("schedule_free_params", state, ScheduleFreeState, "schedule_free")
    momentum = own.momentum

    def rule(y: Tensor, _: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        return (y - (1 - momentum) * z) / momentum, z

    return update_leaves("schedule_free_params", rule, params, params, own.z)[0]
