"""All of training in one call, as `train` and a few lines would do it, and the batches of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain, pairwise
from operator import length_hint
from typing import Annotated, TypeAlias

import attrs
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import BY_HAND, Arrays, Key, Layer, PositiveInt, require, unexpected, warn
from lincoln_fn.losses import Loss
from lincoln_fn.optim import Optimizer
from lincoln_fn.optim.internal import is_waiting
from lincoln_fn.runtime import count_cores, watch_pace
from lincoln_fn.training.batch_checks import check_batch, check_walkable, is_array
from lincoln_fn.training.data import Array, Batch, Batches, Mapped, batches, innermost, is_used_once
from lincoln_fn.training.evaluate import check_metric, check_metrics, evaluate
from lincoln_fn.training.history import FitRecord, History, Mode, is_gain
from lincoln_fn.training.make_step import make_step
from lincoln_fn.training.progress_display import Display, display
from lincoln_fn.training.protocols import Gradient, Reduce
from lincoln_fn.training.step import Step
from lincoln_fn.training.train import StepRecord, TrainState, init_state, take_steps

Data: TypeAlias = Annotated[tuple[Array, Array] | Iterable[Batch], BY_HAND]
_Metric: TypeAlias = Callable[[Tensor, Tensor], float]
# One metric, or several by name.
MetricOrMetrics: TypeAlias = Annotated[_Metric | Mapping[str, _Metric], BY_HAND]


@core.checked
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
    metric: MetricOrMetrics | None = None,
    patience: PositiveInt | None = None,
    mode: Mode = "max",
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
        loss: the loss, with reduction mean or sum.
        data: (x, target) tensors, numpy arrays or data frames with one row per example, shuffled in
            each epoch by the state's key. Or any iterable of batches (x, target), such as a list or
            a DataLoader, which is iterated over once per epoch. An iterator, such as a generator,
            yields its batches only once, so it is enough for one epoch. `data.batches` keep their
            own key, which orders each epoch differently, or their order if they have none.
        key: the initial parameters and the order of the data are drawn from it.
        batch_size: examples per batch, for data and valid given as arrays.
        valid: validation data for the metric, of either kind.
        metric: such as `metrics.accuracy`, or several by name; needs `valid`.
        patience: early stopping. Training ends after so many lines of the history in a row without
            a better metric, the first of several. The state with the best metric is returned. None
            trains to the end, and returns the last state.
        mode: whether the highest or the lowest metric is best; "min" for a loss.
        every: steps between two lines of the history; None for one at the end of each epoch.
        state: to continue from; None makes one from the key. A run over arrays or `data.batches`
            continues with the batch whose number is the state's step, so `epochs` includes those
            before it. For other data or another batch_size, begin with
            `init_state(..., params=state.params)`.
        progress: whether to show anything.
        fast: as in `make_step`, and so is gradient.
        reduce: how to train together with other processes, as in `make_step`. Each process takes
            its part of the batches of arrays, and rank 0 shows the history. Other iterables have
            to give the parts themselves.

    Returns:
        The last state, or with `patience` the best, and the history: a tuple, which a notebook
        shows as a curve.

    Warns:
        UserWarning: if a run with `patience` and mode "max" ends early, and its metric only fell;
            if the state has taken all steps of the epochs before; or if `accumulate` never had
            gradients enough.

    Raises:
        LayerError: if arrays come without batch_size or batches with one, a metric or patience
            comes without `valid`, or a metric is named "step" or "loss"; and as the step does.

    Example:
        >>> x, target = torch.eye(3), torch.arange(3)
        >>> net = lf.serial(lf.dense(3), lf.log_softmax())
        >>> state, history = fit(net, lf.losses.nll(), lf.optim.sgd(1.0), (x, target), batch_size=3,
        ...     key=lf.Key(0), epochs=50, valid=(x, target), metric=lf.metrics.accuracy,
        ...     progress=False)
        >>> history[-1].step, history[-1].metric
        (50, 1.0)
    """
    _check_metrics(metric, valid, patience)
    metrics = metric if isinstance(metric, Mapping) or metric is None else {"metric": metric}
    shard = (0, 1) if reduce is None else reduce.shard
    source = _as_batches("data", data, batch_size, shard, used_once=epochs == 1)
    held_out = None if valid is None else _as_batches("valid", valid, batch_size, shard)
    _check_batch_size(batch_size, data, valid)
    if state is None:
        example, source = _first_input(source)
        state = init_state(net, optimizer, key, example, gradient=gradient)
    if isinstance(data, tuple) and isinstance(source, Batches):
        source = attrs.evolve(source, key=state.key)
    step = make_step(net, loss, optimizer, fast=fast, gradient=gradient, reduce=reduce)
    history: list[FitRecord] = []
    best: tuple[TrainState, float] | None = None
    waited, started, first_step = 0, time.perf_counter(), int(state.step)
    total = _count_steps(source, epochs, first_step)
    with display(total, shown=progress and shard[0] == 0) as show:
        for epoch, state, records in _lines(step, state, source, epochs, every, show):
            scores = {}
            if held_out is not None and metrics is not None:
                scores = evaluate(net, state.params, held_out, metrics, reduce=reduce)
            record = _summarise(epoch, state, records, scores, time.perf_counter() - started)
            show.line(str(record), scores)
            history.append(record)
            if patience is None or record.metric is None:
                continue
            is_best = is_gain(record.metric, best and best[1], mode)
            best, waited = ((state, record.metric), 0) if is_best else (best, waited + 1)
            if waited == patience:
                _warn_of_falling(history, mode)
                break
    _warn_of_no_update(source, epochs, first_step, state)
    return (state if best is None else best[0]), History(history)


def _check_metrics(metric: object, valid: object, patience: int | None) -> None:
    if (metric is None) != (valid is None):
        missing = "a metric for the validation data" if metric is None else "validation data"
        raise unexpected("fit", missing, "None")
    if isinstance(metric, Mapping):
        check_metrics("fit", metric)
        for name in metric:
            require(name not in ("step", "loss"), "fit", "no metric named 'step' or 'loss'", name)
    elif metric is not None:
        check_metric("fit", "metric", metric)
    elif patience is not None:
        expected = f"a metric and validation data for patience={patience}"
        mend = "write metric=lf.metrics.accuracy, valid=(x, target)"
        raise unexpected("fit", expected, "None", mend)


def _lines(
    step: Step,
    state: TrainState,
    source: Iterable[Batch],
    epochs: int,
    every: int | None,
    show: Display,
) -> Iterator[tuple[int, TrainState, list[StepRecord]]]:
    """Take the steps, and yield at each line of the history the records since the one before."""
    watch, first_step = watch_pace(count_cores()), int(state.step)
    records: list[StepRecord] = []
    for epoch in range(1, epochs + 1):
        before = int(state.step)
        coming = _batches_of_epoch(source, epoch, begun=first_step, step=before)
        for state, taken in take_steps("fit", step, state, coming, watch):
            records.append(taken)
            show.step(taken)
            if every and taken.step % every == 0:
                yield epoch, state, records
                records = []
        _check_epoch(source, epoch, int(state.step) - before)
        if records and (every is None or epoch == epochs):
            yield epoch, state, records
            records = []


def _warn_of_falling(history: list[FitRecord], mode: Mode) -> None:
    """Warn if the metric of a run that stopped early only fell: a loss has mode="min"."""
    metrics = [record.metric for record in history if record.metric is not None]
    is_falling = len(metrics) > 2 and all(after < before for before, after in pairwise(metrics))
    if mode == "max" and is_falling:
        problem = f"the metric only fell, from {metrics[0]:.4g} to {metrics[-1]:.4g}"
        mend = "for a metric that should fall, such as a loss, write mode='min'"
        warn(f"fit: {problem}, and the first state is returned; {mend}")


def _summarise(
    epoch: int,
    state: TrainState,
    records: list[StepRecord],
    scores: Mapping[str, float],
    seconds: float,
) -> FitRecord:
    """Make a line of the history: the means of some steps' losses and parts, and the scores."""
    loss = sum(step.loss for step in records) / len(records)
    parts = {
        name: sum(step.scores[name] for step in records) / len(records)
        for name in records[0].scores
    }
    metric = next(iter(scores.values()), None)
    return FitRecord(int(state.step), epoch, loss, metric, seconds, parts, scores)


def _as_batches(
    name: str,
    data: Data,
    batch_size: int | None,
    shard: tuple[int, int],
    *,
    used_once: bool = False,
) -> Iterable[Batch]:
    """Make batches of the argument `name`, or raise a `LayerError`."""
    if isinstance(data, tuple):
        if len(data) != 2:
            mend = "; give batches as a list" if isinstance(data[0], tuple | list) else ""
            expected = f"{name} given as a tuple (x, target)"
            raise unexpected("fit", expected, f"{len(data)} entries{mend}")
        if batch_size is None:
            expected = f"a batch_size for {name} given as arrays"
            raise unexpected("fit", expected, "None", "write batch_size=32, or give batches")
        arrays: tuple[Arrays, ...] = data  # for mypy, two arrays may also be a batch
        return batches(arrays, batch_size, shard=shard)
    if is_used_once(data) and not used_once:
        expected = f"{name} that can be walked once an epoch"
        raise unexpected("fit", expected, "an iterator", "give a list or a DataLoader, or epochs=1")
    if isinstance(data, list) and data and is_array(data[0]):
        raise unexpected("fit", "arrays as a tuple (x, target)", "a list", core.A_TUPLE)
    check_walkable("fit", data)
    return data


def _check_batch_size(batch_size: int | None, *sources: Data | None) -> None:
    """Refuse a batch_size where no source is given as arrays: batches have a size of their own."""
    fits = batch_size is None or any(isinstance(source, tuple) for source in sources)
    mend = f"leave it out, or give arrays (x, target) or DataLoader(dataset, {batch_size})"
    require(fits, "fit", "no batch_size for data given as batches", batch_size, mend)


def _first_input(source: Iterable[Batch]) -> tuple[Arrays, Iterable[Batch]]:
    """Return an example x, and all batches, including the one that x was taken from."""
    if isinstance(source, Batches):
        return source.at(0)[0], source
    walked = iter(source)
    for batch in walked:
        check_batch("fit", batch)
        return batch[0], chain([batch], walked) if is_used_once(source) else source
    raise unexpected("fit", "at least one batch", "none")


def _batches_of_epoch(
    source: Iterable[Batch], epoch: int, *, begun: int, step: int
) -> Iterable[Batch]:
    """Return the batches up to the end of an epoch, from 1, that a run has not seen yet.

    Only `data.batches` know their batches by number; others give an epoch at each iteration.
    """
    if isinstance(source, Mapped):
        inner = _batches_of_epoch(source.source, epoch, begun=begun, step=step)
        return attrs.evolve(source, source=inner)
    if isinstance(source, Batches):
        first = source.start or begun
        return attrs.evolve(source, epochs=epoch * source.epochs, start=first + step - begun)
    return source


def _check_epoch(source: Iterable[Batch], epoch: int, steps: int) -> None:
    """Check that an epoch had a batch; of `data.batches`, a resumed run may have had all before."""
    if not steps and not isinstance(innermost(source), Batches):
        mend = "give a list, a DataLoader or data.batches with a batch in each epoch"
        raise unexpected("fit", f"at least one batch in epoch {epoch}", "none", mend)


def _warn_of_no_update(source: Iterable[Batch], epochs: int, begun: int, state: TrainState) -> None:
    """Warn of a run from step `begun` to a state that has the same parameters."""
    steps, inner = int(state.step) - begun, innermost(source)
    if steps and is_waiting(state.opt_state, steps):
        problem = f"accumulate waits for more than the {steps} batches given"
        mend = "give more batches or epochs, or accumulate fewer"
        warn(f"fit: {problem}, so no parameter has changed; {mend}")
    if not steps and isinstance(inner, Batches):  # `_check_epoch` refuses others without a step
        end = epochs * inner.epochs * inner.per_epoch
        problem = f"state is at step {begun}, and epochs={epochs} end at {end}"
        mend = "epochs include those before, so write more of them to train on"
        other = "for other data or another batch_size, take init_state(..., params=state.params)"
        warn(f"fit: trains nothing, since {problem}; {mend}; {other}")


def _count_steps(source: Iterable[Batch], epochs: int, begun: int) -> int | None:
    """Count the steps of a run, if its data has a length."""
    whole = source
    if isinstance(innermost(source), Batches):
        whole, epochs = _batches_of_epoch(source, epochs, begun=begun, step=begun), 1
    length = length_hint(whole, -1)
    return None if length < 0 else length * epochs
