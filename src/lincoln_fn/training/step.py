"""A training step: forward, loss, advance, gradient and update, in that order."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

import attrs
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import Layer, LayerError, Params, Version, describe, is_between, tree, versions
from lincoln_fn.losses.internal import Loss, check_one_number
from lincoln_fn.optim import Optimizer
from lincoln_fn.runtime import adapt_waiting, losses_of
from lincoln_fn.training import step_errors
from lincoln_fn.training.bare_step import BareStep
from lincoln_fn.training.batch_checks import check_batch, check_unspent
from lincoln_fn.training.data import Batch
from lincoln_fn.training.protocols import Gradient, Reduce
from lincoln_fn.training.train import StepFunction, TrainState
from lincoln_fn.walk.internal import check_unchanged


@final
@attrs.frozen(eq=False, repr=False)
class Step:
    """A training step; made by `make_step`.

    `pure` is the bare step, for tracing, autograd and torch.func. `run` is what a call runs: the
    bare step, a compiled one, or one that updates the state in place if `donate` allows it.
    """

    net: Layer
    loss: Loss
    optimizer: Optimizer
    donate: bool
    pure: BareStep
    run: StepFunction
    # Checks, at step 0, that the loss accepts the predictions; None for most losses.
    check_first: Callable[[Params, Batch], None] | None = None
    # The names of a weighted loss's parts. `run` and `pure` return their values after the loss's.
    parts: tuple[str, ...] = ()
    gradient: Gradient | None = None
    reduce: Reduce | None = None
    fast: bool = True
    debug: bool = False

    def __repr__(self) -> str:
        own = "" if self.gradient is None else f", gradient={self.gradient}"
        own += "" if self.reduce is None else f", reduce={self.reduce}"
        return f"make_step({self.net}, {self.loss}, {self.optimizer}{own})"

    def __call__(self, state: TrainState, batch: Batch) -> tuple[TrainState, Tensor]:
        """Take a step, with the errors that `make_step` documents."""
        new_state, value = self._taken(state, batch)
        return new_state, value[0] if self.parts else value

    def with_parts(
        self, state: TrainState, batch: Batch
    ) -> tuple[TrainState, Tensor | dict[str, Tensor]]:
        """Take a step; a weighted loss's value is a dict: "loss", and each part by its name."""
        new_state, value = self._taken(state, batch)
        if not self.parts:
            return new_state, value
        return new_state, dict(zip(("loss", *self.parts), value, strict=True))

    def _taken(self, state: TrainState, batch: Batch) -> tuple[TrainState, Tensor]:
        """Take a step; for a weighted loss, the value is followed by those of its parts."""
        if isinstance(batch, TrainState):
            raise core.wrong_kind("step", "state", state, "TrainState", "(state, (x, target))")
        check_batch("step", batch)
        adapt_waiting()
        batch = batch[0], batch[1]
        try:
            if core.is_traced(state.step):  # within a function that is compiled
                new_state, value = self.pure(state, batch)
                losses_of(state.step).append(total_of(value))
                return new_state, value
            noted = self._begun(state, batch)
            new_state, value = self.run(state, batch)
        except Exception as error:
            core.check_argument("step", "state", TrainState, state)
            check_unspent(state)
            if isinstance(error, LayerError) and self.reduce is None:
                step_errors.check_layers(self.net, self.loss, state.params, batch)
            raise
        if noted:
            self._check_update(state, batch, new_state, noted)
        if not self.parts:
            check_one_number(self.loss.name, value)
        if value.requires_grad:
            step_errors.warn_of_graph(state, batch)
        if not core.is_finite(total_of(value)):
            number = int(state.step) + 1
            found = step_errors.non_finite(self.net, self.loss, state.params, number, batch)
            first, _ = found if self.reduce is None else self.reduce.first_error(*found)
            raise first or found[0]
        return new_state, value

    def _begun(self, state: TrainState, batch: Batch) -> list[Version]:
        """Check what there is before a step; return the versions of what it must not change."""
        if self.debug and self.reduce is None:
            step_errors.check_layers(self.net, self.loss, state.params, batch)
        notes = state.step.is_cpu and not self.donate  # on a GPU, it would have to wait
        is_asked = self.check_first is not None or notes
        is_first = is_asked and is_between(0, state.step, 0)
        if self.check_first is not None and is_first:
            self._check_first(self.check_first, state.params, batch)
        is_noted = not self.donate and (self.debug or (notes and is_first))
        return versions(state=state, x=batch[0], target=batch[1]) if is_noted else []

    def _check_first(
        self, check: Callable[[Params, Batch], None], params: Params, batch: Batch
    ) -> None:
        """Check that the loss accepts the predictions of all processes."""
        error: Exception | None = None
        try:
            check(params, batch)
        except Exception as refused:
            error = refused
        if self.reduce is not None:
            error, _ = self.reduce.first_error(error, 0)
        if error is not None:
            raise error

    def _check_update(
        self, state: TrainState, batch: Batch, new_state: TrainState, noted: list[Version]
    ) -> None:
        """Check that a step changed nothing in place, and that its params are such again."""
        if core.changed_since(noted):
            step_errors.check_layers(self.net, self.loss, state.params, batch)
            check_unchanged(self.optimizer.name, "update", noted)
        if not tree.same_structure(new_state.params, state.params, states=True):
            got = f"params {describe(new_state.params)} for {describe(state.params)}"
            raise core.unexpected(self.optimizer.name, "update to return (params, state)", got)


def total_of(value: Tensor) -> Tensor:
    """Return the loss from the value that a step's `run` returns."""
    return value[0] if value.ndim else value
