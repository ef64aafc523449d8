"""Streams that watch: scores at intervals, the best state, an end without a gain, or at a nan."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import torch
from torch import Tensor

from lincoln_fn import core, training
from lincoln_fn.core import Layer, LayerError, NonFiniteError, NonNegative, Params, PositiveInt
from lincoln_fn.streams.stream import ScoreName, Stream, closing, no_score
from lincoln_fn.training import Batch, Metrics, Mode, StepRecord, TrainState, evaluate, is_gain
from lincoln_fn.walk.internal import composition_of


@core.checked
def evaluated(
    stream: Stream,
    net: Layer,
    batches: Iterable[Batch],
    metrics: Metrics,
    *,
    every: PositiveInt,
) -> Iterator[tuple[TrainState, StepRecord]]:
    """Evaluate the state every `every` steps, and add the scores to that step's record.

    Args:
        stream: such as `train` yields. Scores that its records already have are kept.
        batches: batches of (x, target), which can be iterated over several times.
        metrics: by name, functions (prediction, target) -> mean over the examples.

    Raises:
        LayerError: if there is no metric, one has the name of a record's own number ("step",
            "loss"), or batches can be iterated over only once.

    Example:
        >>> net, x = lf.dense(1), torch.ones(4, 3)
        >>> state = lf.init_state(net, lf.optim.sgd(0.1), lf.Key(0), x)
        >>> steps = [(state, StepRecord(1, 0.7)), (state, StepRecord(2, 0.6))]
        >>> mean = {"mean": lambda prediction, target: prediction.mean().item()}
        >>> [len(record.scores) for _, record in evaluated(steps, net, [(x, None)], mean, every=2)]
        [0, 1]
    """
    if not isinstance(metrics, Mapping) or not {"step", "loss"}.isdisjoint(metrics) or not metrics:
        got = list(metrics) if isinstance(metrics, Mapping) else core.describe(metrics)
        expected = "metrics by name, at least one, and none named 'step' or 'loss'"
        raise core.unexpected("evaluated", expected, got)
    training.check_metrics("evaluated", metrics)
    if training.is_used_once(batches):
        mend = "give a list, a DataLoader or data.batches"
        expected = "batches that can be iterated over each time"
        raise core.unexpected("evaluated", expected, "an iterator", mend)
    training.check_walkable("evaluated", batches)

    def evaluating() -> Iterator[tuple[TrainState, StepRecord]]:
        with closing("evaluated", stream) as steps:
            for state, record in steps:
                if record.step % every == 0:
                    scores = evaluate(net, state.params, batches, metrics)
                    record = core.evolve(record, scores={**record.scores, **scores})
                yield state, record

    return evaluating()


_MEND: Final = "make the step with donate=False, or give copies of the states"


@core.checked
def best(stream: Stream, metric: ScoreName, *, mode: Mode = "max") -> tuple[TrainState, StepRecord]:
    """Run a stream to its end, and return the state with the best score.

    Args:
        stream: some of its records have the score, as `evaluated` adds it.

    Returns:
        The state and its record; for equal scores, the earliest. `nan` is never the best.

    Raises:
        LayerError: if no record has that score, or it is always `nan`; if the step is made with
            `donate=True`, which updates the best state in place.

    Example:
        >>> scores = [0.5, 0.9, 0.7]
        >>> steps = [(None, StepRecord(i, 0.1, scores={"f1": s})) for i, s in enumerate(scores)]
        >>> best(steps, "f1")[1].step
        1
    """
    best_pair: tuple[TrainState, StepRecord] | None = None
    best_score, seen, is_new = None, set[str](), False
    with closing("best", stream) as steps:
        for state, record in steps:
            if best_pair is not None and is_new:
                training.check_unspent(best_pair[0], "best", _MEND)
            seen.update(record.scores)
            score = record.scores.get(metric)
            is_new = score is not None and is_gain(score, best_score, mode)
            if is_new:
                best_pair, best_score = (state, record), score
    if best_pair is None:
        if metric not in seen:
            raise no_score("best", metric, seen)
        raise core.unexpected("best", f"a record with a score {metric!r}", "only nan")
    return best_pair


@core.checked
def early_stopping(
    stream: Stream,
    metric: ScoreName,
    *,
    patience: PositiveInt,
    mode: Mode = "max",
    min_delta: NonNegative = 0.0,
) -> Iterator[tuple[TrainState, StepRecord]]:
    """End a stream after `patience` evaluations in a row without an improvement.

    A resumed run starts counting again. (Prechelt, "Early Stopping - But When?", 1998.)

    Args:
        stream: some of its records have the score, as `evaluated` adds it.
        min_delta: by how much a score has to exceed the best to count. `nan` never counts.

    Raises:
        LayerError: at the end of the stream, if there were steps and none had the score.

    Example:
        >>> scores = [0.5, 0.9, 0.7, 0.8, 1.0]
        >>> steps = [(None, StepRecord(i, 0.1, scores={"f1": s})) for i, s in enumerate(scores)]
        >>> [record.step for _, record in early_stopping(steps, "f1", patience=2)]
        [0, 1, 2, 3]
    """
    best, without_gain, seen, steps_taken = None, 0, set[str](), False
    with closing("early_stopping", stream) as steps:
        for state, record in steps:
            steps_taken = True
            yield state, record
            seen.update(record.scores)
            score = record.scores.get(metric)
            if score is None:
                continue
            if is_gain(score, best, mode, min_delta):
                best, without_gain = score, 0
            else:
                without_gain += 1
            if without_gain == patience:
                return
    if steps_taken and metric not in seen:
        raise no_score("early_stopping", metric, seen)


@core.checked
def finite(
    stream: Stream, net: Layer, *, every: PositiveInt = 1
) -> Iterator[tuple[TrainState, StepRecord]]:
    """Check that all parameters, running statistics and the optimizer's state stay finite.

    A step checks only its loss, which is computed from the parameters before its update. So this
    stream finds an error one step earlier, before the new state is used, saved or evaluated.

    Args:
        every: check after each step that is a multiple of it. A check reads every tensor once.

    Raises:
        NonFiniteError: from the stream, with the step, the layer, and the path of every tensor of
            the state that holds a `nan` or an infinity.

    Example:
        >>> net, nan = lf.serial(lf.tanh(), lf.dense(1)), torch.full((3, 1), torch.nan)
        >>> params = ((), lf.layers.dense.Params(nan, torch.zeros(1)))
        >>> state = TrainState(params, (), lf.Key(0), torch.tensor(7))
        >>> list(finite([(state, StepRecord(7, 0.5))], net))
        Traceback (most recent call last):
        lincoln_fn.NonFiniteError: step 7: serial[1] dense(1): not finite: params.1.weight
    """
    with closing("finite", stream) as steps:
        for state, record in steps:
            if record.step % every == 0:
                leaves = core.tree.leaves(state, states=True)
                if not all(map(_is_finite, leaves)):
                    raise _non_finite(net, state, record.step)
            yield state, record


def _is_finite(leaf: object) -> bool:
    if not isinstance(leaf, Tensor):  # such as a step that is an int
        return True
    # A sum is faster than a comparison of every number; the comparison decides if the sum
    # overflows.
    return math.isfinite(leaf.sum().item()) or bool(torch.isfinite(leaf).all())


def _non_finite(net: Layer, state: TrainState, step: int) -> NonFiniteError:
    leaves = core.named_leaves(state, states=True)
    bad = {path: leaf for path, leaf in leaves if not _is_finite(leaf)}
    first = next((leaf for path, leaf in bad.items() if path.startswith("params")), None)
    owner = "" if first is None else f": {_owner(net, state.params, first)}"
    return NonFiniteError(f"step {step}{owner}", f"not finite: {', '.join(bad)}")


def _owner(layer: Layer, params: Params, leaf: Tensor) -> str:
    """Name the layer that a parameter belongs to, with its position: "serial[2] dense(10)"."""
    position = ""
    while (made := composition_of(layer)) is not None:
        try:
            entries = made.split_params(params)
        except LayerError:  # a composition of one's own that does not say how its params are made
            break
        held = [core.tree.leaves(entry, states=True) for entry in entries]
        i = next((i for i, own in enumerate(held) if any(leaf is each for each in own)), None)
        if i is None:
            break
        position += f"{core.called(layer.name)}[{i}] "
        layer, params = made.parts[i], entries[i]
    return f"{position}{layer.name}"
