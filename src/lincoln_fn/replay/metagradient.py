"""The gradient of a whole training run: what a number after it owes to all that went in.

Training is a function: of its examples, of each step's learning rate, of where it began. Each step
is differentiable, so the whole run is, step by step from the last to the first. The states on the
way are computed again from those that are held.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Collection, Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import Final, Literal, TypeAlias

import attrs
import torch
from torch import Tensor

from lincoln_fn import checkpoint, compiler, core
from lincoln_fn.compiler.internal import CompiledRun
from lincoln_fn.core import Arrays, NonNegativeInt, Params, PositiveInt, Tree, tree, unexpected
from lincoln_fn.curvature.internal import check_not_nested
from lincoln_fn.optim import EmaState, Optimizer, OptimizerState, ema_params
from lincoln_fn.replay.run import Run, rows_of, states_back
from lincoln_fn.replay.step_adjoint import Adjoint, Bars, SharedAdjoint, StepAdjoint, loss_after
from lincoln_fn.rules import backpropagation
from lincoln_fn.training import Batch, Batches, Step, TrainState

NAME: Final = "metagradient"
HYPERPARAMETERS: Final = ("lr", "weight_decay", "momentum")


@core.record
class Partial:
    """What is known after the steps from the last one to that after `step`.

    Its tensors of derivatives, which are summed up, are changed in place.
    """

    step: Tensor
    value: Tensor
    bars: Bars
    hyperparameters: Mapping[str, Tensor]
    examples: Tree  # a tensor, or one for each step, or None
    x: Tree  # likewise, of trees


@attrs.frozen(eq=False)
class Saved:
    """The file in which the derivatives known so far are saved."""

    file: Path
    seconds: float
    identity: Tensor

    def load(self, like: Partial) -> Partial | None:
        """Load what was saved; None if there is nothing."""
        if not self.file.exists():
            return None
        problem = f"expected {self.file} of the same run; delete it, or give another folder"
        error = core.LayerError(NAME, problem)
        try:
            identity, saved = checkpoint.load(self.file, (self.identity, like))
        except checkpoint.CheckpointError as cause:
            raise error from cause
        if int(identity) != int(self.identity):
            raise error
        return saved

    def save(self, partial: Partial) -> None:
        """Replace the file."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        checkpoint.save(self.file, (self.identity, partial))


@attrs.frozen(eq=False)
class WalkBack:
    """A walk back over a run."""

    run: Run  # with whole batches, where several processes take a step together
    optimizer: Optimizer
    adjoint: Adjoint
    measure: Callable[[Params], tuple[Tree, ...]]  # the value, dparams, and perhaps statistics
    wrt: Collection[str]
    last: int
    ema: bool

    def walked(
        self, run: Run, states: int, saved: Saved | None,
        progress: Callable[[int, int], object] | None,
    ) -> Partial:  # fmt: skip
        """Go back over the run, and repeat it as this process has it."""
        total, at = self.last - run.begun, time.monotonic()
        like = self.first(self.run.start)  # which refuses what cannot be computed, before the run
        partial = None if saved is None else saved.load(like)
        if partial is None:
            partial = self.first(run.reached(run.start, self.last))
        for state in states_back(run, int(partial.step), states):
            partial = self.taken(partial, state)
            if progress is not None:
                progress(self.last - int(partial.step), total)
            if saved is not None and time.monotonic() - at > saved.seconds:
                saved.save(partial)
                at = time.monotonic()
        if saved is not None:
            saved.file.unlink(missing_ok=True)
        return partial

    def first(self, state: TrainState) -> Partial:
        """Begin with the number's own gradient in the state after the last step."""
        params = ema_params(state.opt_state, state.params) if self.ema else state.params
        value, dparams, *rest = self.measure(params)
        opt_bar = tree.map(_zeros, state.opt_state)
        zeros = tree.map(torch.zeros_like, state.params)
        if self.ema:
            opt_bar = _with_mean(opt_bar, dparams)
        params_bar = zeros if self.ema else tree.map(lambda _, bar: bar, state.params, dparams)
        statistics = rest[0] if rest else {}
        if statistics and isinstance(self.adjoint, SharedAdjoint):
            expected = "no running statistics in a run of several processes"
            raise unexpected(NAME, expected, self.adjoint.net)
        return Partial(
            torch.tensor(self.last),
            value.detach(),
            Bars(params_bar, opt_bar, statistics),
            self._hyperparameters(Bars(zeros, tree.map(_zeros, state.opt_state), {})),
            self._zeros("examples", lambda x: value.new_zeros(len(tree.leaves(x)[0]))),
            self._zeros("x", lambda x: tree.map(torch.zeros_like, x)),
        )

    def _hyperparameters(self, zeros: Bars) -> dict[str, Tensor]:
        """Make zeros for each step, and check that the optimizer has what is asked for."""
        start, optimizer = self.run.start, self.optimizer
        assert not isinstance(optimizer.adjoint, str)  # as `metagradient` has checked
        none = zeros.params, start.opt_state, zeros.params, zeros.opt_state
        of_step = optimizer.adjoint(start.params, *none).hyperparameters
        asked = [name for name in HYPERPARAMETERS if name in self.wrt]
        for name in asked:
            if name not in of_step:
                has = ", ".join(sorted(of_step))
                raise unexpected(NAME, f"wrt of {optimizer} among {has}", name)
        return {
            name: of_step[name].new_zeros((self.last - self.run.begun, *of_step[name].shape))
            for name in asked
        }

    def _zeros(self, name: str, make: Callable[[Tree], Tree]) -> Tree:
        """Make zeros for the examples of the data or, of other batches, of each step."""
        if name not in self.wrt:
            return None
        batches = self.run.batches
        if isinstance(batches, Batches):
            return make(batches.arrays[0])
        return [make(self.run.batch(i)[0]) for i in range(self.run.begun, self.last)]

    def taken(self, partial: Partial, state: TrainState) -> Partial:
        """Go back over the step after a state."""
        number = int(state.step)
        place, rows = number - self.run.begun, rows_of(self.run, number)
        of_step = self.adjoint((state, partial.bars), self.run.batch(number))
        for name, values in partial.hyperparameters.items():
            values[place] = of_step.hyperparameters[name]
        for total, new in ((partial.examples, of_step.examples), (partial.x, of_step.x)):
            if total is not None:
                _add(total if rows is not None else total[place], rows, new)
        return core.evolve(partial, step=state.step, bars=of_step.bars)


def adjoint_of(step: Step, wrt: Collection[str]) -> Adjoint:
    """Make a step's adjoint: compiled if the step is, and shared if several processes take it."""
    adjoint = StepAdjoint(step.net, step.loss, step.optimizer, frozenset(wrt))
    if step.reduce is not None:
        return SharedAdjoint.of(adjoint, step.reduce, str(step))
    return _compiled(adjoint) if isinstance(step.run, CompiledRun) else adjoint


# A compiled function is compiled again for another object.
@lru_cache(maxsize=8)
def _compiled(adjoint: StepAdjoint) -> Adjoint:
    return compiler.compile(adjoint)


def _zeros(leaf: Tensor) -> Tensor:
    """Make the bar of a leaf of the optimizer's state; a count stays."""
    return torch.zeros_like(leaf) if leaf.is_floating_point() else leaf


def of_start(bars: Bars, step: int) -> Params:
    """Return the first params' bar; before step 1, the running mean of `ema` is these params."""
    opt_bar = bars.opt_state
    while not isinstance(opt_bar, EmaState) and hasattr(opt_bar, "inner"):
        opt_bar = opt_bar.inner
    if step or not isinstance(opt_bar, EmaState):
        return bars.params
    means = iter(tree.leaves(opt_bar.mean))
    return tree.map(lambda bar: bar + next(means), bars.params)


def _with_mean(opt_bar: OptimizerState, dparams: Params) -> OptimizerState:
    """Put a gradient in the place of the running mean's bar."""
    if isinstance(opt_bar, EmaState):
        return core.evolve(opt_bar, mean=tree.unflatten(opt_bar.mean, tree.leaves(dparams)))
    if hasattr(opt_bar, "inner"):
        return core.evolve(opt_bar, inner=_with_mean(opt_bar.inner, dparams))
    raise core.LayerError(NAME, "expected ema in a chain around one optimizer")


def _add(total: Tree, rows: Tensor | None, of_step: Tree) -> None:
    for leaf, new in zip(tree.leaves(total), tree.leaves(of_step), strict=True):
        places = torch.arange(len(leaf)) if rows is None else rows
        leaf.index_add_(0, places, new.to(leaf.dtype))


Name: TypeAlias = Literal["examples", "lr", "weight_decay", "momentum", "start", "x"]
# (params) -> (value, dparams): a number after training, and its gradient.
Measure: TypeAlias = Callable[[Params], tuple[Tensor, Params]]

_EXAMPLES: Final[tuple[Name, ...]] = ("examples",)
_UNITS: Final = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9}


@attrs.frozen(eq=False, kw_only=True)
class Metagradient:
    """The derivatives of a number after training. What was not asked for is None.

    Args:
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
        of: (x, target) of test examples, whose loss after training, by `predict`, is the number. Or
            a function params -> (value, dparams), of the number and its gradient.
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
        identity = core.checksum([*tree.leaves(run.start, states=True), *tree.leaves(arrays)])
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
    step = run.step
    if not isinstance(step, Step):
        raise core.unexpected(NAME, "a step of make_step", core.describe(step))
    if step.gradient is not None:
        mend = "leave gradient out: the Hessian is that of the loss"
        raise core.unexpected(NAME, "a step of the loss's own gradient", step, mend)
    if step.reduce is not None and getattr(run.batches, "shard", None) != step.reduce.shard:
        mend = "data.batches(..., shard=(group.rank, group.size))"
        raise core.LayerError(NAME, f"expected this process's part of the batches; write {mend}")
    if backpropagation(step.net) is not step.net:
        mend = "take the rules out: lf.rules.backpropagation(net)"
        raise core.unexpected(NAME, "a step of the loss's own gradient", step, mend)
    if isinstance(step.optimizer.adjoint, str):
        reason = f"{step.optimizer} has no adjoint: {step.optimizer.adjoint}"
        raise core.LayerError(NAME, f"expected an optimizer with an adjoint; {reason}")
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
