"""The walk back over a run, from its last step to its first, and what it has computed so far."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Final

import attrs
import torch
from torch import Tensor

from lincoln_fn import checkpoint, compiler
from lincoln_fn.compiler.internal import CompiledRun
from lincoln_fn.core import LayerError, Params, Tree, evolve, record, tree, unexpected
from lincoln_fn.optim import EmaState, Optimizer, OptimizerState, ema_params
from lincoln_fn.replay.run import Run, rows_of, states_back
from lincoln_fn.replay.step_adjoint import Adjoint, Bars, SharedAdjoint, StepAdjoint
from lincoln_fn.training import Batches, Step, TrainState

NAME: Final = "metagradient"
HYPERPARAMETERS: Final = ("lr", "weight_decay", "momentum")


@record
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
        error = LayerError(NAME, problem)
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
        return evolve(partial, step=state.step, bars=of_step.bars)


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
        leaves = iter(tree.leaves(dparams))
        return evolve(opt_bar, mean=tree.map(lambda _: next(leaves), opt_bar.mean))
    if hasattr(opt_bar, "inner"):
        return evolve(opt_bar, inner=_with_mean(opt_bar.inner, dparams))
    raise LayerError(NAME, "expected ema in a chain around one optimizer")


def _add(total: Tree, rows: Tensor | None, of_step: Tree) -> None:
    for leaf, new in zip(tree.leaves(total), tree.leaves(of_step), strict=True):
        places = torch.arange(len(leaf)) if rows is None else rows
        leaf.index_add_(0, places, new.to(leaf.dtype))
