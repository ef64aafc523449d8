"""The gradient of a whole training run: what a number after it owes to all that went in.

Training is a function: of its examples, of each step's learning rate, of where it began. Each step
is differentiable, so the whole run is, step by step from the last to the first. The states on the
way are computed again from those that are held.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import Final, Literal, TypeAlias

import attrs
import torch
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import Arrays, LayerError, NonNegativeInt, Params, PositiveInt, checksum, tree
from lincoln_fn.curvature.internal import check_not_nested
from lincoln_fn.replay.run import Run
from lincoln_fn.replay.step_adjoint import loss_after
from lincoln_fn.replay.walk_back import NAME, Saved, WalkBack, adjoint_of, of_start
from lincoln_fn.rules import backpropagation
from lincoln_fn.training import Batch, Batches, Step

Name: TypeAlias = Literal["examples", "lr", "weight_decay", "momentum", "start", "x"]
# (params) -> (value, dparams): a number after training, and its gradient.
Measure: TypeAlias = Callable[[Params], tuple[Tensor, Params]]

_EXAMPLES: Final[tuple[Name, ...]] = ("examples",)
_UNITS: Final = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9}


@attrs.frozen(eq=False, kw_only=True)
class Metagradient:
    """The derivatives of a number after training. What was not asked for is None.

    Args:
        value: the number.
        examples: the derivative in each example's weight in the loss, where 1 is its own: of shape
            (N,), for the rows of the data of `data.batches`; for other batches a list, with a
            tensor for each step.
        lr: the derivative in each step's learning rate, of shape (steps,), in float64; with
            `by_path` (steps, optimizers), in the order of the patterns. Their sum is the derivative
            in a constant rate.
        weight_decay: likewise; and `momentum`.
        start: the derivative in the first params, which mirrors them.
        x: the derivative in the inputs, which mirrors the x of `data.batches`; for other batches a
            list, with an entry for each step.
        begun: the number of steps before the first one.
    """

    value: float
    examples: Tensor | list[Tensor] | None = None
    lr: Tensor | None = None
    weight_decay: Tensor | None = None
    momentum: Tensor | None = None
    start: Params | None = None
    x: Arrays | None = None
    begun: int = 0


@core.checked
def metagradient(
    run: Run,
    of: Batch | Measure,
    wrt: Collection[Name] = _EXAMPLES,
    *,
    steps: NonNegativeInt | None = None,
    ema: bool = False,
    memory: str | PositiveInt = "200 MB",
    folder: str | Path | None = None,
    save_seconds: float = 60.0,
    progress: Callable[[int, int], object] | None = None,
) -> Metagradient:
    """Differentiate a number after training by what went into the training.

    Goes back over the run, from its last step to its first, and takes each step's adjoint: that of
    the optimizer, and one product with the Hessian of the batch's loss. Each state on the way is
    computed again from the last one that is held, by the run's own step. However many are held, the
    result has the same bits. If the run's step is compiled, its adjoint is, too. The derivative is
    exact up to rounding. How far it holds is another question: see the guide.

    Args:
        run: the run, whose step is of `make_step`. It is repeated.
        of: (x, target) of test examples, whose loss after training is the number. The network then
            runs as in `predict`. Or a function params -> (value, dparams), of the number and its
            gradient.
        wrt: what to differentiate by: "examples", their weights in the loss; "lr", "weight_decay"
            and "momentum", those of each step; "start", the first params; "x", the inputs.
        steps: the number of the last step; by default that of the last batch.
        ema: whether the number is taken at the running mean of `optim.ema`, in place of the params.
        memory: for the states that are held, such as "200 MB", or in bytes. Less memory takes more
            time: at first each step is repeated once, later twice, and so on.
        folder: where to save what was found so far. A call with the same arguments goes on from
            there, with the same bits. The file is deleted at the end. Several processes share one
            folder, and may be more or fewer when they go on.
        save_seconds: the time between two saves.
        progress: is called after each step, with the number of steps done and of all.

    Raises:
        LayerError: if the step is not of `make_step`, or has a gradient of its own, rules, or a
            `reduce` that is not `distributed.mean`; if the optimizer has no adjoint, or lacks what
            is asked for; if the saved file is that of another run; if several processes have layers
            with running statistics.

    Source:
        Engstrom and others, "Optimizing ML Training with Metagradient Descent", 2025.

    Example:
        >>> x, t = torch.tensor([[1.0], [1.0]]), torch.tensor([[1.0], [-1.0]])
        >>> net, optimizer = lf.dense(1, bias=False), lf.optim.sgd(0.1)
        >>> step = lf.make_step(net, lf.losses.mse(), optimizer)
        >>> start = lf.init_state(net, optimizer, lf.Key(0), x)
        >>> run = lf.replay.Run(step, lf.data.batches((x, t), 2, epochs=50), start)
        >>> found = metagradient(run, (x[:1], t[:1]), ("examples", "lr"))
        >>> found.examples.round(decimals=2)  # a larger weight of the first helps it
        tensor([-1.,  1.])
    """
    step = _check_run(run, of)
    last = run.end if steps is None else steps
    if last is None or last < run.begun:
        raise core.unexpected(NAME, "steps, the number of the last step", steps)
    measure = of if callable(of) else partial(loss_after, step.net, step.loss, of)
    saved, whole, seconds = None, run, save_seconds
    if step.reduce is not None and isinstance(run.batches, Batches):
        whole = attrs.evolve(run, batches=attrs.evolve(run.batches, shard=(0, 1)))
        seconds = math.inf if step.reduce.shard[0] else save_seconds  # the first process saves
    if folder is not None:
        asked = torch.tensor(list(str((step, last, sorted(wrt), ema)).encode()))
        arrays = whole.batch(run.begun), asked, () if callable(of) else of
        identity = checksum([*tree.leaves(run.start, states=True), *tree.leaves(arrays)])
        file = Path(folder) / "metagradient.safetensors"
        saved = Saved(file, seconds, torch.tensor(identity))
    walk = WalkBack(whole, step.optimizer, adjoint_of(step, wrt), measure, wrt, last, ema)
    result = walk.walked(run, _states(run, memory), saved, progress)
    return Metagradient(
        value=result.value.item(),
        examples=result.examples,
        start=of_start(result.bars, run.begun) if "start" in wrt else None,
        x=result.x,
        begun=run.begun,
        **result.hyperparameters,
    )


def _check_run(run: Run, of: object) -> Step:
    """Refuse a step whose adjoint is not known, and say why."""
    step = run.step
    if not isinstance(step, Step):
        raise core.unexpected(NAME, "a step of make_step", core.describe(step))
    if step.gradient is not None:
        mend = "leave gradient out: the Hessian is that of the loss"
        raise core.unexpected(NAME, "a step of the loss's own gradient", step, mend)
    if step.reduce is not None and getattr(run.batches, "shard", None) != step.reduce.shard:
        mend = "data.batches(..., shard=(group.rank, group.size))"
        raise LayerError(NAME, f"expected this process's part of the batches; write {mend}")
    if backpropagation(step.net) is not step.net:
        mend = "take the rules out: lf.rules.backpropagation(net)"
        raise core.unexpected(NAME, "a step of the loss's own gradient", step, mend)
    if isinstance(step.optimizer.adjoint, str):
        reason = f"{step.optimizer} has no adjoint: {step.optimizer.adjoint}"
        raise LayerError(NAME, f"expected an optimizer with an adjoint; {reason}")
    check_not_nested(NAME, run.start, () if callable(of) else of)
    return step


def _states(run: Run, memory: str | int) -> int:
    if isinstance(memory, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*([KMG]?B?)\s*", memory, re.IGNORECASE)
        unit = _UNITS.get(match[2].upper()) if match else None
        if match is None or unit is None:
            raise core.unexpected(NAME, "memory such as '200 MB'", f"{memory!r}")
        memory = int(float(match[1]) * unit)
    of_state = sum(leaf.nbytes for leaf in tree.leaves(run.start, states=True))
    return max(1, memory // max(1, of_state))
