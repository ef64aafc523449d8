"""Evaluate at intervals, and add the scores to the records."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from lincoln_fn import training
from lincoln_fn.core import Layer, LayerError, PositiveInt, checked, describe, evolve
from lincoln_fn.streams.stream import Stream, closing
from lincoln_fn.training import Batch, Metrics, StepRecord, TrainState, check_metrics, evaluate


@checked
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
        net: the network, of which `predict` is used.
        batches: batches of (x, target), which can be iterated over several times.
        metrics: by name, functions (prediction, target) -> mean over the examples.
        every: evaluate after each step that is a multiple of it.

    Yields:
        The states and their records; those of evaluated steps have `scores`.

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
        got = list(metrics) if isinstance(metrics, Mapping) else describe(metrics)
        names = f"at least one, and none named 'step' or 'loss', got {got}"
        raise LayerError("evaluated", f"expected metrics by name, {names}")
    check_metrics("evaluated", metrics)
    if training.is_used_once(batches):
        problem = "expected batches that can be iterated over each time, got an iterator"
        mend = "give a list, a DataLoader or data.batches"
        raise LayerError("evaluated", f"{problem}; {mend}")
    training.check_walkable("evaluated", batches)

    def evaluating() -> Iterator[tuple[TrainState, StepRecord]]:
        with closing("evaluated", stream) as steps:
            for state, record in steps:
                if record.step % every == 0:
                    scores = evaluate(net, state.params, batches, metrics)
                    record = evolve(record, scores={**record.scores, **scores})
                yield state, record

    return evaluating()
