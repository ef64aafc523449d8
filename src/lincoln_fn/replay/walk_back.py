"""The walk back over a run, from its last step to its first."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from functools import lru_cache
from typing import Any, Final

import attrs
import torch
from torch import Tensor

from lincoln_fn import compiler
from lincoln_fn.compiler.internal import CompiledRun
from lincoln_fn.core import LayerError, Params, evolve, tree
from lincoln_fn.optim import EmaState, Optimizer, ema_params
from lincoln_fn.replay.held import states_back
from lincoln_fn.replay.partial_result import Partial, Saved
from lincoln_fn.replay.run import Run
from lincoln_fn.replay.shared_adjoint import SharedAdjoint
from lincoln_fn.replay.step_adjoint import Bars, Found, StepAdjoint
from lincoln_fn.training import Batch, Batches, Step, TrainState

NAME: Final = "metagradient"
HYPERPARAMETERS: Final = ("lr", "weight_decay", "momentum")


@attrs.frozen(eq=False)
class WalkBack:
    """A walk back over a run."""

    run: Run  # with whole batches, where several processes take a step together
    optimizer: Optimizer
    adjoint: Callable[[Any, Any], Found]  # Any: as `StepAdjoint` takes them
    measure: Callable[[Params], Any]
    wrt: Collection[str]
    last: int
    ema: bool

    def walked(
        self,
        run: Run,
        states: int,
        saved: Saved | None,
        progress: Callable[[int, int], object] | None,
    ) -> Partial:
        """Go back over the run, and repeat it as this process has it."""
        total, at = self.last - run.begun, time.monotonic()
        like = self.first(self.run.start)  # which refuses what cannot be found, before the run
        found = None if saved is None else saved.load(like)
        if found is None:
            found = self.first(run.reached(run.start, self.last))
        for state in states_back(run, int(found.step), states):
            found = self.taken(found, state)
            if progress is not None:
                progress(self.last - int(found.step), total)
            if saved is not None and time.monotonic() - at > saved.seconds:
                saved.save(found)
                at = time.monotonic()
        if saved is not None:
            saved.delete()
        return found

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
            problem = "expected no running statistics in a run of several processes"
            raise LayerError(NAME, f"{problem}, got {self.adjoint.net}")
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
                raise LayerError(NAME, f"expected wrt of {optimizer} among {has}, got {name}")
        return {
            name: of_step[name].new_zeros((self.last - self.run.begun, *of_step[name].shape))
            for name in asked
        }

    def _zeros(self, name: str, make: Callable[[Any], Any]) -> Any:
        """Make zeros for the examples of the data or, of other batches, of each step."""
        if name not in self.wrt:
            return None
        batches = self.run.batches
        if isinstance(batches, Batches):
            return make(batches.arrays[0])
        return [make(self.run.batch(i)[0]) for i in range(self.run.begun, self.last)]

    def taken(self, found: Partial, state: TrainState) -> Partial:
        """Go back over the step after a state."""
        number = int(state.step)
        batch, rows = self._batch(number)
        of_step = self.adjoint((state, found.bars), batch)
        for name, values in found.hyperparameters.items():
            values[number - self.run.begun] = of_step.hyperparameters[name]
        if found.examples is not None:
            _add(found.examples, rows, of_step.examples)
        if found.x is not None:
            _add(found.x, rows, of_step.x)
        return Partial(
            state.step, found.value, of_step.bars, found.hyperparameters, found.examples, found.x
        )

    def _batch(self, number: int) -> tuple[Batch, Tensor | int]:
        """Return a batch, and its rows in the data or, of other batches, the number of the step."""
        batches = self.run.batches
        if not isinstance(batches, Batches):
            return self.run.batch(number), number - self.run.begun
        numbered = (batches.arrays, torch.arange(batches.examples))
        batch, rows = attrs.evolve(batches, arrays=numbered).at(number)
        return batch, rows


def adjoint_of(step: Step, wrt: Collection[str]) -> Callable[[Any, Any], Found]:
    """Make a step's adjoint: compiled if the step is, and shared if several processes take it."""
    adjoint = StepAdjoint(step.net, step.loss, step.optimizer, frozenset(wrt))
    if step.reduce is not None:
        return SharedAdjoint.of(adjoint, step.reduce, str(step))
    return _compiled(adjoint) if isinstance(step.run, CompiledRun) else adjoint


# A compiled function is compiled again for another object.
@lru_cache(maxsize=8)
def _compiled(adjoint: StepAdjoint) -> Callable[[Any, Any], Found]:
    compiled: Callable[[Any, Any], Found] = compiler.compile(adjoint)
    return compiled


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


def _with_mean(opt_bar: Any, dparams: Params) -> Any:  # Any: states of transforms and optimizers
    """Put a gradient in the place of the running mean's bar."""
    if isinstance(opt_bar, EmaState):
        leaves = iter(tree.leaves(dparams))
        return evolve(opt_bar, mean=tree.map(lambda _: next(leaves), opt_bar.mean))
    if hasattr(opt_bar, "inner"):
        return evolve(opt_bar, inner=_with_mean(opt_bar.inner, dparams))
    raise LayerError(NAME, "expected ema in a chain around one optimizer")


def _add(total: Any, rows: Tensor | int, of_step: Any) -> None:  # Any: trees, or lists of them
    """Add what one step found, in place."""
    if isinstance(rows, int):
        total, rows = total[rows], torch.arange(len(tree.leaves(of_step)[0]))
    for leaf, new in zip(tree.leaves(total), tree.leaves(of_step), strict=True):
        leaf.index_add_(0, rows, new.to(leaf.dtype))
