"""All of training in one call: what `train` and a few lines would do."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Annotated, Any, TypeAlias

import attrs

from lincoln_fn.core.autodiff import check_not_transformed
from lincoln_fn.core.html import html
from lincoln_fn.core.keys import Key
from lincoln_fn.core.layer import Arrays, Layer
from lincoln_fn.core.record import record
from lincoln_fn.errors.arguments import BY_HAND, PositiveInt, checked
from lincoln_fn.errors.errors import LayerError
from lincoln_fn.losses.loss import Loss
from lincoln_fn.optim import Optimizer
from lincoln_fn.runtime.log import watch_pace
from lincoln_fn.runtime.threads import count_cores
from lincoln_fn.training.batch_checks import check_batch, check_walkable, is_array
from lincoln_fn.training.data import Array, Batch, Batches, batches, is_used_once
from lincoln_fn.training.evaluate import check_metric, evaluate
from lincoln_fn.training.gradient import Gradient
from lincoln_fn.training.metrics import Metric
from lincoln_fn.training.progress_display import display
from lincoln_fn.training.reduce import Reduce
from lincoln_fn.training.step import make_step
from lincoln_fn.training.train import StepRecord, TrainState, init_state, take_steps

Data: TypeAlias = Annotated[tuple[Array, Array] | Iterable[Batch], BY_HAND]


@record
class FitRecord:
    """One line of a training history.

    `loss` is the mean loss of the steps since the previous line. `metric` is the metric on the
    validation data (None if there is none), and `seconds` the time since training began. `parts`
    are the means of the parts of `losses.weighted`, by name.
    """

    step: int
    epoch: int
    loss: float
    metric: float | None
    seconds: float
    parts: Mapping[str, float] = attrs.field(factory=dict)

    def __str__(self) -> str:
        numbers = {"loss": self.loss, **self.parts}
        if self.metric is not None:
            numbers["metric"] = self.metric
        shown = "".join(f"  {name} {number:.4f}" for name, number in numbers.items())
        return f"epoch {self.epoch}  step {self.step}{shown}"


class History(tuple[FitRecord, ...]):
    """The records of a run, in their order; a notebook shows their curve."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        return html(self)


@checked
def fit(
    net: Layer,
    loss: Loss,
    optimizer: Optimizer,
    data: Data,
    *,
    key: Key,
    epochs: PositiveInt = 1,
    batch_size: PositiveInt | None = None,
    valid: Data | None = None,
    metric: Metric | None = None,
    every: PositiveInt | None = None,
    state: TrainState | None = None,
    progress: bool = True,
    fast: bool = True,
    gradient: Gradient | None = None,
    reduce: Reduce | None = None,
) -> tuple[TrainState, History]:
    """Train a network.

    Each line of the history is printed; on a terminal and in a notebook, with a progress bar.

    Args:
        net: the network.
        loss: its loss, with reduction mean or sum.
        optimizer: updates the parameters.
        data: (x, target) tensors, numpy arrays or data frames with one row per example, shuffled in
            each epoch by the state's key. Or any iterable of batches (x, target), such as a list or
            a DataLoader, which is iterated over once per epoch. An iterator, such as a generator,
            yields its batches only once, so it is enough for one epoch.
        key: the initial parameters and the order of the data are drawn from it.
        epochs: how often every example is used.
        batch_size: examples per batch, for data given as arrays.
        valid: validation data for the metric, of either kind.
        metric: such as `metrics.accuracy`; needs `valid`.
        every: steps between two lines of the history; None writes one at the end of each epoch.
        state: to continue from; None makes one from the key. A run over arrays continues with the
            batch whose number is the state's step, so `epochs` includes those before it.
        progress: whether to show anything.
        fast: whether to run `lf.fast(net)`, as in `make_step`.
        gradient: how to compute what the optimizer is given, as in `make_step`.
        reduce: how to train together with other processes, as in `make_step`. Each process takes
            its part of the batches of arrays, and rank 0 shows the history. Other iterables have
            to give the parts themselves.

    Returns:
        The last state, and the history: a tuple, which a notebook shows as a curve.

    Raises:
        LayerError: if an argument has the wrong type, a number is below 1, arrays come without
            batch_size, a metric comes without validation data, or the data is not iterable or has
            no batch, or autograd or torch.func sees it; and as the step does.

    Example:
        >>> import torch, lincoln_fn as lf
        >>> x, target = torch.eye(3), torch.arange(3)
        >>> net = lf.serial(lf.dense(3), lf.log_softmax())
        >>> state, history = fit(
        ...     net, lf.losses.nll(), lf.optim.sgd(1.0), (x, target), key=lf.Key(0), epochs=50,
        ...     batch_size=3, valid=(x, target), metric=lf.metrics.accuracy, progress=False,
        ... )
        >>> history[-1].step, history[-1].metric
        (50, 1.0)
    """
    if (metric is None) != (valid is None):
        missing = "a metric for the validation data" if metric is None else "validation data"
        raise LayerError("fit", f"expected {missing}, got None")
    if metric is not None:
        check_metric("fit", "metric", metric)
    shard = (0, 1) if reduce is None else reduce.shard
    source = _as_batches(data, batch_size, shard, used_once=epochs == 1)
    held_out = None if valid is None else _as_batches(valid, batch_size, shard)
    if state is None:
        example, source = _example(source)
        state = init_state(net, optimizer, key, example, gradient=gradient)
    if isinstance(source, Batches):
        source = attrs.evolve(source, key=state.key, epochs=epochs)
    step = make_step(net, loss, optimizer, fast=fast, gradient=gradient, reduce=reduce)
    history: tuple[FitRecord, ...] = ()
    records: list[StepRecord] = []  # since the last line of the history
    began = time.perf_counter()

    with display(_steps(source, epochs, state), shown=progress and shard[0] == 0) as show:

        def line(epoch: int, state: TrainState, records: list[StepRecord]) -> FitRecord:
            """Evaluate the state, and show the line of the history."""
            scores = {}
            if metric is not None and held_out is not None:
                scores = evaluate(net, state.params, held_out, {"metric": metric}, reduce=reduce)
            seconds = time.perf_counter() - began
            record = _summarise(epoch, state, records, scores.get("metric"), seconds)
            show.line(str(record), scores)
            return record

        watch = watch_pace(count_cores())
        for epoch in range(1, epochs + 1):
            for state, record in take_steps(step, state, _epoch(source, epoch, state), watch):
                if not (records or history):
                    mend = "detach data and state, or take steps by make_step"
                    reason = "a derivative would keep every step in memory"
                    check_not_transformed("fit", reason, mend, (state.params,))
                records.append(record)
                show.step(record)
                if every and record.step % every == 0:
                    history, records = (*history, line(epoch, state, records)), []
            if records and (every is None or epoch == epochs):
                history, records = (*history, line(epoch, state, records)), []
    return state, History(history)


def _summarise(
    epoch: int, state: TrainState, records: list[StepRecord], metric: float | None, seconds: float
) -> FitRecord:
    """Make a line of the history: the means of some steps' losses and parts."""
    loss = _mean([step.loss for step in records])
    parts = {name: _mean([step.scores[name] for step in records]) for name in records[0].scores}
    return FitRecord(int(state.step), epoch, loss, metric, seconds, parts)


def _mean(numbers: list[float]) -> float:
    return sum(numbers) / len(numbers)


def _as_batches(
    data: Data, batch_size: int | None, shard: tuple[int, int], *, used_once: bool = False
) -> Iterable[Batch]:
    if isinstance(data, tuple):
        if len(data) != 2:
            problem = f"expected data given as a tuple (x, target), got {len(data)} entries"
            mend = "; give batches as a list" if isinstance(data[0], tuple | list) else ""
            raise LayerError("fit", f"{problem}{mend}")
        if batch_size is None:
            raise LayerError("fit", "expected a batch_size for data given as arrays, got None")
        arrays: tuple[Any, ...] = data  # Any: for mypy, two arrays may also be a batch
        return batches(arrays, batch_size, shard=shard)
    if is_used_once(data) and not used_once:
        problem = "expected data that can be walked once an epoch, got an iterator"
        raise LayerError("fit", f"{problem}; give a list or a DataLoader, or epochs=1")
    if isinstance(data, list) and data and is_array(data[0]):
        problem = "expected arrays as a tuple (x, target), got a list"
        raise LayerError("fit", f"{problem}; write a tuple in place of the list")
    check_walkable("fit", data)
    return data


def _example(source: Iterable[Batch]) -> tuple[Arrays, Iterable[Batch]]:
    """Return an example x, and all batches, including the one that x was taken from."""
    if isinstance(source, Batches):
        return source.at(0)[0], source
    walked = iter(source)
    for batch in walked:
        check_batch("fit", batch)
        return batch[0], chain([batch], walked) if is_used_once(source) else source
    raise LayerError("fit", "expected at least one batch, got none")


def _epoch(source: Iterable[Batch], epoch: int, state: TrainState) -> Iterable[Batch]:
    """Return an epoch's batches; for arrays, only those that the state has not seen yet."""
    if isinstance(source, Batches):
        return attrs.evolve(source, epochs=epoch, start=int(state.step))
    return source


def _steps(source: Iterable[Batch], epochs: int, state: TrainState) -> int | None:
    """Count the remaining steps, if the data has a length."""
    if isinstance(source, Batches):
        return len(attrs.evolve(source, start=int(state.step)))
    try:
        return len(source) * epochs  # type: ignore[arg-type]  # raises TypeError without a length
    except TypeError:
        return None
