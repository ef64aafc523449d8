"""Metrics: what they count, and what they refuse."""

import math
from functools import partial

import pytest
import torch
from helpers.compare import same_number
from helpers.refusals import refusals

import lincoln_fn as lf
from lincoln_fn import metrics

SCORES = torch.tensor([[0.1, 0.7, 0.2], [0.5, 0.2, 0.3], [0.2, 0.3, 0.5], [0.6, 0.3, 0.1]])
LABELS = torch.tensor([1, 2, 2, 2])


@pytest.mark.parametrize("prediction", [SCORES, SCORES.log(), 3 * SCORES + 5], ids="plg")
@pytest.mark.parametrize("target", [LABELS, LABELS.view(4, 1), LABELS.to(torch.uint8)])
def test_accuracy_counts_the_highest_ranked_class(prediction, target):
    assert metrics.accuracy(prediction, target) == 0.5


@pytest.mark.parametrize(("k", "error"), [(1, 0.5), (2, 0.25), (3, 0.0)])
def test_top_k_error_counts_labels_outside_the_k_highest(k, error):
    assert metrics.top_k_error(k)(SCORES, LABELS) == error
    assert metrics.top_k_error(k)(SCORES, LABELS.view(4, 1)) == error


@pytest.mark.parametrize(
    ("metric", "transform"),
    [
        (metrics.binary_accuracy, lambda p: p),
        (partial(metrics.binary_accuracy, threshold=math.log(0.5)), torch.log),
        (partial(metrics.binary_accuracy, threshold=0), torch.logit),
    ],
    ids=["probabilities", "log-probabilities", "logits"],
)
@pytest.mark.parametrize("shape", [(4,), (4, 1)], ids=str)
def test_binary_accuracy_counts_the_right_side_of_the_threshold(metric, transform, shape):
    prediction = transform(torch.tensor([0.9, 0.4, 0.2, 0.6])).view(shape)
    target = torch.tensor([1, 1, 0, 1])
    assert metric(prediction, target) == 0.75
    assert metric(prediction, target.view(4, 1)) == 0.75


def test_nan_is_wrong():
    scores, labels = SCORES.clone(), torch.tensor([1, 0, 2, 0])
    assert metrics.accuracy(scores, labels) == 1.0
    for i in range(3):
        scores[i, i] = torch.nan
        assert metrics.accuracy(scores, labels) == (3 - i) / 4
        for k in (1, 2, 3):
            assert metrics.top_k_error(k)(scores, labels) == (i + 1) / 4
        for label in (0, 1):
            target = torch.full((4,), label)
            assert metrics.binary_accuracy(scores[:, i], target) <= 0.75
    assert metrics.binary_accuracy(torch.tensor([torch.nan, 0.1]), torch.tensor([0, 0])) == 0.5


def test_a_batch_of_one_counts_whole():
    assert metrics.accuracy(SCORES[:1], LABELS[:1]) == 1.0
    assert metrics.top_k_error(1)(SCORES[1:2], LABELS[1:2]) == 1.0
    assert metrics.binary_accuracy(torch.tensor([0.9]), torch.tensor([0])) == 0.0


test_metrics_say_what_does_not_fit = refusals(
    """
metrics.accuracy(SCORES[:, 0], LABELS) -> ^accuracy: expected prediction of shape (N, C) with C >=
    2, got (4,); for two classes with one number an example see binary_accuracy$
metrics.accuracy(SCORES, LABELS[:3]) -> ^accuracy: expected target of shape (4,) for prediction (4,
    3), got (3,)$
metrics.top_k_error(5)(SCORES, LABELS) -> ^top_k_error: expected prediction of shape (N, C) with C
    >= 5, got (4, 3)$
metrics.top_k_error(0) -> ^top_k_error: expected k of at least 1, got 0$
metrics.binary_accuracy(SCORES, LABELS) -> ^binary_accuracy: expected (N,) or (N, 1) of both, got
    prediction (4, 3) and target (4,); see accuracy$
metrics.binary_accuracy(SCORES[:, 0], LABELS[:3]) -> ^binary_accuracy: expected (N,) or (N, 1) of
    both, got prediction (4,) and target (3,)$
""",
    globals(),
)


def test_evaluate_weighs_a_smaller_last_batch_by_its_examples():
    batches = [(SCORES[:3], LABELS[:3]), (SCORES[3:], LABELS[3:])]
    scores = lf.evaluate(
        lf.serial(), (), batches, {"accuracy": metrics.accuracy, "error": metrics.top_k_error(1)}
    )
    assert same_number(scores, {"accuracy": 2 / 4, "error": 2 / 4})
    unweighted = (metrics.accuracy(*batches[0]) + metrics.accuracy(*batches[1])) / 2
    assert same_number(unweighted, 1 / 3)


def test_evaluate_predicts_and_takes_any_function_as_a_metric():
    layer = lf.Layer("mine()", print, print, predict=lambda params, x: params * x)
    scores = lf.evaluate(
        layer, 2.0, [(SCORES, LABELS)], {"mean": lambda p, t: (p.sum(1) * t).mean().item()}
    )
    assert same_number(scores, {"mean": 2 * 7 / 4}, dtype=torch.float32)
