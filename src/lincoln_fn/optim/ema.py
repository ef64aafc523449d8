"""A running mean of the parameters, which often predicts better than the last of them."""

from __future__ import annotations

import optree
import torch
from torch import Tensor

from lincoln_fn.layer import Params
from lincoln_fn.optim.optimizer import Optimizer, OptimizerState
from lincoln_fn.optim.rules import require
from lincoln_fn.optim.transforms import Transform
from lincoln_fn.optim.walk import mirrored, walk
from lincoln_fn.record import TRAINED, record


@record
class EmaState:
    """The running mean of the parameters, and the state of the optimizer within."""

    mean: Params
    inner: OptimizerState


def ema(decay: float) -> Transform:
    """Keep a running mean of the parameters: a <- decay a + (1 - decay) p after each step.

    It starts from the initial parameters, changes nothing about the steps, and is read by
    `ema_params`.

    Args:
        decay: how much of the last a stays, in [0, 1).

    Returns:
        The transform.

    Raises:
        ValueError: if decay is out of its range.

    Source: Polyak and Juditsky, "Acceleration of Stochastic Approximation by Averaging", 1992, with
    a running mean in the place of the plain one.

    Example:
        >>> from lincoln_fn.optim import chain, sgd
        >>> optimizer, p = chain(ema(0.75), sgd(1.0)), torch.tensor(0.0)
        >>> p, state = optimizer.update(p, torch.tensor(8.0), optimizer.init(p))
        >>> p, ema_params(state, p)
        (tensor(-8.), tensor(-2.))
    """
    require("ema", "decay in [0, 1)", decay, 0 <= decay < 1)

    def rule(p: Tensor, _: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
        return p, torch.lerp(mean, p, 1 - decay)

    def around(inner: Optimizer) -> Optimizer:
        def init(params: Params) -> EmaState:
            return EmaState(mirrored(torch.clone, params), inner.init(params))

        def update(params: Params, grads: Params, state: EmaState) -> tuple[Params, EmaState]:
            params, kept = inner.update(params, grads, state.inner)
            _, mean = walk("ema", rule, params, params, state.mean)
            return params, EmaState(mean, kept)

        return Optimizer(inner.name, init, update)

    return Transform(f"ema({decay})", around)


def ema_params(state: OptimizerState, params: Params) -> Params:
    """Read the running mean of the parameters out of an optimizer's state.

    Args:
        state: of an optimizer with `ema` in its chain, wherever it stands there.
        params: the parameters of the same step, whose running statistics and the like are taken.

    Returns:
        Parameters to predict with.

    Raises:
        LayerError: if the mean does not mirror the parameters.
        ValueError: if the state holds no such mean, or several side by side.

    Example:
        >>> ema_params(EmaState((torch.tensor(1.0),), ()), (torch.tensor(2.0),))
        (tensor(1.),)
    """

    def is_mean(node: object) -> bool:
        return isinstance(node, EmaState)

    nodes = optree.tree_leaves(state, is_leaf=is_mean, namespace=TRAINED)
    found = [node for node in nodes if isinstance(node, EmaState)]
    require("ema_params", "a state with one running mean", f"{len(found)}", len(found) == 1)
    return walk("ema_params", lambda p, _, mean: (mean, mean), params, params, found[0].mean)[0]
