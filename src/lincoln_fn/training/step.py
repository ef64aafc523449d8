"""A training step: forward, loss, backward, advance and update, in that order."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any, Final, final

import attrs
from torch import Tensor

from lincoln_fn.core import tree
from lincoln_fn.core.layer import Layer, Params
from lincoln_fn.core.reads import is_between
from lincoln_fn.core.spec import called
from lincoln_fn.core.tracing import is_traced, losses_of
from lincoln_fn.core.versions import Version, changed_since, versions
from lincoln_fn.errors.arguments import check_argument, checked
from lincoln_fn.errors.descriptions import describe
from lincoln_fn.errors.errors import LayerError
from lincoln_fn.errors.kinds import wrong_kind
from lincoln_fn.fastpath import fast as fast_layer
from lincoln_fn.fastpath.losses import fast_loss
from lincoln_fn.fastpath.optimizers import fast_optimizer
from lincoln_fn.fastpath.table import fast_by_example
from lincoln_fn.losses.common.mixing import check_each_alone, mixing
from lincoln_fn.losses.common.one_number import check_one_number
from lincoln_fn.losses.common.parts import first_check, parts_of
from lincoln_fn.losses.common.reduction import formula_of
from lincoln_fn.losses.loss import Loss
from lincoln_fn.optim import Optimizer
from lincoln_fn.recording.step import RecordedStep
from lincoln_fn.runtime.threads import adapt_waiting
from lincoln_fn.training.bare_step import bare_step, donating_step
from lincoln_fn.training.batch_checks import check_batch
from lincoln_fn.training.data import Batch
from lincoln_fn.training.donation import check_unspent
from lincoln_fn.training.gradient import Gradient
from lincoln_fn.training.reduce import Reduce
from lincoln_fn.training.step_errors import (
    check_layers,
    check_prediction,
    non_finite,
    warn_of_graph,
    warn_of_second_softmax,
)
from lincoln_fn.training.train import StepFunction, TrainState
from lincoln_fn.walk.in_place import check_unchanged

_LARGEST: Final = sys.float_info.max


@final
@attrs.frozen(eq=False, repr=False)
class Step:
    """A training step; made by `make_step`.

    A call checks the batch and the loss. `pure` is the bare step, for tracing. `run` is the
    function that a call runs: the bare step, a compiled one, or one that updates the state in place
    if `donate` allows it. Autograd and torch.func go through a call, which then is the bare step.
    """

    net: Layer
    loss: Loss
    optimizer: Optimizer
    donate: bool
    pure: StepFunction
    run: StepFunction
    # Checks, at step 0, that the loss accepts the predictions; None for most losses.
    check_first: Callable[[Params, Batch], None] | None = None
    # The names of a weighted loss's parts. `run` and `pure` return their values after the loss's.
    parts: tuple[str, ...] = ()
    gradient: Gradient | None = None
    reduce: Reduce | None = None
    fast: bool = True
    debug: bool = False

    def __getstate__(self) -> dict[str, Any]:  # Any: each field has a type of its own
        return {field.name: getattr(self, field.name) for field in attrs.fields(Step)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Load a pickle; one made before `debug` was a field gets its default."""
        for name, value in ({"debug": False} | state).items():
            object.__setattr__(self, name, value)

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
        """Take a step, and report the value of each part of a weighted loss, too.

        Args:
            state: as for a call.
            batch: likewise.

        Returns:
            The new state, and the value. For a weighted loss the value is a dict of numbers:
            "loss", and each part by its name.

        Raises:
            LayerError: as a call does.
        """
        new_state, value = self._taken(state, batch)
        if not self.parts:
            return new_state, value
        return new_state, dict(zip(("loss", *self.parts), value, strict=True))

    def _taken(self, state: TrainState, batch: Batch) -> tuple[TrainState, Tensor]:
        """Take a step; for a weighted loss, the value is followed by those of its parts."""
        if not isinstance(batch, tuple | list) or len(batch) != 2:
            if isinstance(batch, TrainState):
                raise wrong_kind("step", "state", state, "TrainState", "(state, (x, target))")
            check_batch("step", batch)
        adapt_waiting()
        noted = self._versions(state, batch)
        try:
            if is_traced(state.step):  # within a function that is compiled
                new_state, value = self.pure(state, (batch[0], batch[1]))
                losses_of(state.step).append(total_of(value))
                return new_state, value
            if self.debug and self.reduce is None:
                check_layers(self.net, self.loss, state.params, (batch[0], batch[1]))
            if self.check_first is not None and is_between(0, state.step, 0):
                self._check_first(self.check_first, state.params, (batch[0], batch[1]))
            new_state, value = self.run(state, (batch[0], batch[1]))
        except Exception as error:
            check_argument("step", "state", TrainState, state)
            check_unspent(state)
            if isinstance(error, LayerError) and self.reduce is None:
                check_layers(self.net, self.loss, state.params, (batch[0], batch[1]))
            raise
        if noted:
            self._check_update(state, batch, new_state, noted)
        if not self.parts:
            check_one_number(self.loss.name, value)
        if value.requires_grad:
            warn_of_graph(state, batch)
        if not is_between(-_LARGEST, total_of(value), _LARGEST):
            number = int(state.step) + 1
            found = non_finite(self.net, self.loss, state.params, number, (batch[0], batch[1]))
            first, _ = found if self.reduce is None else self.reduce.first_error(*found)
            raise first or found[0]
        return new_state, value

    def _check_first(
        self, check: Callable[[Params, Batch], None], params: Params, batch: Batch
    ) -> None:
        """Check that the loss accepts the predictions of all processes."""
        if self.reduce is None:
            check(params, batch)
            return
        error: Exception | None = None
        try:
            check(params, batch)
        except Exception as refused:
            error = refused
        error, _ = self.reduce.first_error(error, 0)
        if error is not None:
            raise error

    def _check_update(
        self, state: TrainState, batch: Batch, new_state: TrainState, noted: list[Version]
    ) -> None:
        """Check that a step changed nothing in place, and that its params are such again."""
        if changed_since(noted):
            check_layers(self.net, self.loss, state.params, (batch[0], batch[1]))
            check_unchanged(self.optimizer.name, "update", noted)
        if not tree.same_structure(new_state.params, state.params, states=True):
            got = f"got params {describe(new_state.params)} for {describe(state.params)}"
            problem = f"expected update to return (params, state), {got}"
            raise LayerError(self.optimizer.name, problem)

    def _versions(self, state: TrainState, batch: Batch) -> list[Version]:
        """Note the versions of what a step must not change, at the first step and for `debug`."""
        if self.donate or not isinstance(state, TrainState) or is_traced(state.step):
            return []
        # On a GPU, it would have to wait.
        is_first = state.step.is_cpu and is_between(0, state.step, 0)
        return versions(state=state, x=batch[0], target=batch[1]) if self.debug or is_first else []


def total_of(value: Tensor) -> Tensor:
    """Return the loss from the value that a step's `run` returns."""
    return value[0] if value.ndim else value


@checked
def make_step(
    net: Layer,
    loss: Loss,
    optimizer: Optimizer,
    *,
    donate: bool = False,
    fast: bool = True,
    debug: bool = False,
    gradient: Gradient | None = None,
    reduce: Reduce | None = None,
    record: bool = True,
) -> Step:
    """Make the training step of a network: step(state, (x, target)) -> (state, value).

    Args:
        net: the network.
        loss: its loss, with reduction mean or sum.
        optimizer: updates the parameters.
        donate: whether a step may update the state in place, which saves time and memory in large
            networks. The old tensors are empty afterwards, so using a state twice is an error: to
            keep a state, keep a copy. No tensor may occur twice in the state, and no other tree may
            share its memory.
        fast: whether to run `lf.fast(net)`, which computes the same in less time.
        debug: whether each step also looks for a function that changes in place what another one
            holds: params, a state, a batch, or a cache between forward and backward. It takes
            another forward and backward. The first step of a run always looks at its state and
            batch.
        gradient: how to compute what the optimizer is given, such as `per_example.clipped(1.0)`;
            None for the gradient itself. One that keeps a state needs
            `init_state(..., gradient=gradient)`.
        reduce: how to compute the step together with other processes, such as
            `distributed.mean(group)`; None computes it alone.
        record: whether later steps run the operations of the first ones without Python's time, bit
            for bit the same (`lf.recorded` says how). A step with `reduce` does not.

    Returns:
        The step: a pure function, unless `donate` lets it update the state. It raises `LayerError`
        for a batch that does not fit. At step 0 it also raises one if the loss takes probabilities,
        or their logarithms, and the net returns something else. For a loss that is `nan` or
        infinite it raises `NonFiniteError`, which names the step and the first layer whose output
        is not finite. In each case there is no new state, and the old one is unchanged. Autograd
        and torch.func differentiate the step, also a compiled one; not one with `donate` or
        `reduce`, which then raises a `LayerError`.

    Warns:
        UserWarning: if the network ends in `softmax()` or `sigmoid()`, and the loss is a
            cross-entropy on logits, which computes that itself.

    Raises:
        LayerError: if an argument has the wrong type, both gradient and reduce are given, or
            gradient expects another reduction than the loss has, or another kind of loss.

    Example:
        >>> import lincoln_fn as lf
        >>> net, optimizer, x = lf.dense(1), lf.optim.sgd(0.1), torch.ones(4, 3)
        >>> step = make_step(net, lf.losses.sigmoid_cross_entropy(), optimizer)
        >>> state, value = step(lf.init_state(net, optimizer, lf.Key(0), x), (x, torch.ones(4)))
        >>> state.step
        tensor(1)
    """
    by_example = gradient is not None and gradient.by_example
    where = f"make_step: {gradient}"
    if gradient is not None:
        _check_reduction(gradient, loss)
    if by_example and loss.mixes_examples:
        raise mixing(where, loss)
    warn_of_second_softmax(net, loss)
    # A gradient of another kind may read what each example is to each part.
    faster = fast_layer if gradient is None else fast_by_example
    layer, its_loss = (faster(net), fast_loss(loss)) if fast else (net, loss)
    reduced, exact = None, False
    if reduce is not None:
        if gradient is not None:
            problem = "expected gradient or reduce, got both"
            raise LayerError("make_step", f"{problem}; leave one of them out")
        reduced = reduce.bind(layer, its_loss, f"make_step({net}, {loss}, {optimizer})")
        exact = reduce.exact
    parts = tuple(parts_of(loss))
    pure, in_place = (
        partial(
            bare_step,
            layer,
            its_loss,
            (fast_optimizer(optimizer, donate=writes, exact=exact) if fast else optimizer).update,
            gradient=gradient,
            reduced=reduced,
            has_parts=bool(parts),
            donate=writes,
        )
        for writes in (False, True)
    )
    is_tried = by_example and loss.mixes_examples is None
    check, tried = first_check(loss), partial(check_each_alone, where, loss) if is_tried else None
    name = f"make_step({net}, {loss}, {optimizer})"
    run: StepFunction = in_place if donate else pure
    if record and reduce is None:
        run = RecordedStep(run, name, donate)
    return Step(
        net,
        loss,
        optimizer,
        donate,
        pure,
        partial(donating_step, run) if donate else run,
        None if check is None and tried is None else partial(check_prediction, layer, check, tried),
        parts,
        gradient,
        reduce,
        fast,
        debug,
    )


def _check_reduction(gradient: Gradient, loss: Loss) -> None:
    """Refuse a gradient for another reduction, whose examples would have a factor too many."""
    formula = formula_of(loss)
    if formula is None or gradient.reduction is None:
        return
    has = "mean" if formula.is_mean else "sum"
    if gradient.reduction != has:
        name = called(gradient.name)
        problem = f"expected a loss with reduction={gradient.reduction!r}, got {loss}"
        raise LayerError(f"make_step: {gradient}", f"{problem}; or write {name}(reduction={has!r})")
