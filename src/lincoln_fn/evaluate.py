"""Evaluation: metrics of a network's predictions over a whole set of data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lincoln_fn import tree
from lincoln_fn.data import Batch
from lincoln_fn.layer import Layer, Params
from lincoln_fn.metrics import Metric


def evaluate(
    net: Layer, params: Params, batches: Iterable[Batch], metrics: Mapping[str, Metric]
) -> dict[str, float]:
    """Compute metrics of a network's predictions, averaged over the examples.

    Args:
        net: the network, of which `predict` is used.
        params: its parameters.
        batches: an iterable of (x, target).
        metrics: by name, functions (prediction, target) -> mean over the examples.

    Returns:
        The metrics by name.

    Raises:
        ValueError: if there is no batch.
        LayerError: if a batch does not fit.

    Example:
        >>> import torch, lincoln_fn as lf
        >>> rows = [(torch.eye(2), torch.tensor([0, 1])), (torch.eye(2)[:1], torch.tensor([1]))]
        >>> scores = evaluate(lf.softmax(), (), rows, {"accuracy": lf.metrics.accuracy})
        >>> round(scores["accuracy"], 4)
        0.6667
    """
    sums = dict.fromkeys(metrics, 0.0)
    examples = 0
    for x, target in batches:
        prediction = net.predict(params, x)
        count = len(tree.leaves(x)[0])
        examples += count
        for name, metric in metrics.items():
            sums[name] += metric(prediction, target) * count
    if examples == 0:
        raise ValueError("evaluate: expected at least one example, got none")
    return {name: total / examples for name, total in sums.items()}
