"""Evaluation: metrics of a network's predictions over a whole set of data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import Arrays, Layer, Params, checked, describe, is_function, unexpected
from lincoln_fn.runtime import adapt_waiting
from lincoln_fn.training.batch_checks import check_batch, check_walkable, count_examples
from lincoln_fn.training.data import Batch
from lincoln_fn.training.gears import recorded
from lincoln_fn.training.metrics import Metrics, Pooled
from lincoln_fn.training.protocols import Reduce


@checked
def evaluate(
    net: Layer,
    params: Params,
    batches: Iterable[Batch],
    metrics: Metrics,
    *,
    reduce: Reduce | None = None,
) -> dict[str, float]:
    """Compute metrics of the predictions for batches of (x, target), averaged over the examples.

    Args:
        metrics: by name, functions (prediction, target) -> mean over the examples; or `Pooled`,
            such as `metrics.f1()`, of all examples together, in one process.
        reduce: adds up the metrics of several processes, each of which has other examples, such as
            `distributed.mean(group)`; None for one process.

    Example:
        >>> rows = [(torch.eye(2), torch.tensor([0, 1])), (torch.eye(2)[:1], torch.tensor([1]))]
        >>> scores = evaluate(lf.softmax(), (), rows, {"accuracy": lf.metrics.accuracy})
        >>> round(scores["accuracy"], 4)
        0.6667
    """
    check_walkable("evaluate", batches)
    check_metrics("evaluate", metrics)
    pooled = {name: each for name, each in metrics.items() if isinstance(each, Pooled)}
    if pooled and reduce is not None:
        expected = "metrics that are means over the examples, with reduce"
        raise unexpected("evaluate", expected, ", ".join(pooled))
    rows: dict[str, list[Tensor]] = {name: [] for name in pooled}
    sums = {name: 0.0 for name in metrics if name not in pooled}
    examples, predict = 0, recorded(net.predict)
    for batch in batches:
        check_batch("evaluate", batch)
        x, target = batch
        if reduce is not None and not _count(x):
            continue  # other processes have all examples of this batch
        adapt_waiting()
        prediction = predict(params, x)
        count = _count(x)
        examples += count
        for name, metric in pooled.items():
            rows[name].append(metric.of_batch(prediction, target))
        for name in sums:
            sums[name] += _number(name, metrics[name](prediction, target)) * count
    if reduce is not None:
        total, *of_metrics = reduce.totals([examples, *sums.values()])
        examples, sums = round(total), dict(zip(metrics, of_metrics, strict=True))
    if examples == 0:
        raise unexpected("evaluate", "at least one example", "none")
    scores = {name: total / examples for name, total in sums.items()}
    scores |= {name: pooled[name].of_rows(torch.cat(each)) for name, each in rows.items()}
    return {name: scores[name] for name in metrics}


def _count(x: Arrays) -> int:
    count = count_examples((x,))
    if count is None:
        expected = "x with an axis of examples"
        raise unexpected("evaluate", expected, describe(x), "one example is x[None]")
    return count


def check_metrics(where: str, metrics: object) -> None:
    """Check that metrics are a mapping from names to functions."""
    if not isinstance(metrics, Mapping):
        mend = 'write {"accuracy": lf.metrics.accuracy}'
        raise core.unexpected(where, "metrics to be functions by name", describe(metrics), mend)
    core.require(bool(metrics), where, "at least one metric by name", metrics)
    for name, metric in metrics.items():
        check_metric(where, f"metrics[{name!r}]", metric)


def check_metric(where: str, name: str, metric: object) -> None:
    """Check that a metric is a function, and not a constructor."""
    is_constructor = getattr(metric, "__annotations__", {}).get("return") == "Metric"
    if not is_function(metric) or is_constructor:
        raise core.wrong_kind(where, name, metric, "a function of a prediction and its target")


def _number(name: str, score: Any) -> float:  # Any: whatever a metric returns
    try:
        return float(score)
    except (TypeError, ValueError, RuntimeError) as error:
        wanted = f"one number of metrics[{name!r}]"
        raise core.unexpected("evaluate", wanted, describe(score)) from error
