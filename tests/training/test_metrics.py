"""Metrics: what they count, and what they refuse."""

import math

import pytest
import torch
from helpers.compare import same_number
from helpers.refusals import refusals

import lincoln_fn as lf
from lincoln_fn import metrics

SCORES = torch.tensor([[0.1, 0.7, 0.2], [0.5, 0.2, 0.3], [0.2, 0.3, 0.5], [0.6, 0.3, 0.1]])
LABELS = torch.tensor([1, 2, 2, 2])
ONE = lf.distributed.mean(lf.distributed.alone())


@pytest.mark.parametrize("prediction", [SCORES, SCORES.log(), 3 * SCORES + 5], ids="plg")
@pytest.mark.parametrize("target", [LABELS, LABELS.view(4, 1), LABELS.to(torch.uint8)])
def test_accuracy_counts_the_highest_ranked_class(prediction, target):
    assert metrics.accuracy(prediction, target) == 0.5


@pytest.mark.parametrize(("k", "error"), [(1, 0.5), (2, 0.25), (3, 0.0)])
def test_top_k_error_counts_labels_outside_the_k_highest(k, error):
    assert metrics.top_k_error(k)(SCORES, LABELS) == error
    assert metrics.top_k_error(k)(SCORES, LABELS.view(4, 1)) == error


@pytest.mark.parametrize("shape", [(4,), (4, 1)], ids=str)
def test_binary_accuracy_counts_the_right_side_of_the_threshold(shape):
    p, target = torch.tensor([0.9, 0.4, 0.2, 0.6]).view(shape), torch.tensor([1, 1, 0, 1])
    for labels in (target, target.view(4, 1)):
        assert metrics.binary_accuracy(p, labels) == 0.75
        assert metrics.binary_accuracy(p.log(), labels, threshold=math.log(0.5)) == 0.75
        assert metrics.binary_accuracy(p.logit(), labels, threshold=0) == 0.75


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


test_metrics_say_what_does_not_fit = refusals("""
metrics.accuracy(SCORES[:, 0], LABELS) -> ^accuracy: expected prediction of shape (N, C) with C >=
    2, got (4,); for two classes with one number an example see binary_accuracy$
metrics.accuracy(SCORES, LABELS[:3]) -> ^accuracy: expected target of shape (4,) for prediction (4,
    3), got (3,)$
metrics.top_k_error(5)(SCORES, LABELS) -> ^top_k_error: expected prediction of shape (N, C) with C
    >= 5, got (4, 3)$
metrics.top_k_error(0) -> ^top_k_error: expected k of at least 1, got 0$
metrics.binary_accuracy(SCORES, LABELS) -> ^binary_accuracy: expected (N,) or (N, 1) of both, got
    prediction (4, 3) and target (4,); see accuracy$
metrics.f1()(SCORES[:, 0], LABELS) -> ^f1: expected prediction of shape (N, C) or (N, C, ...)
metrics.iou()(SCORES, LABELS + 1) -> ^iou: expected labels from 0 to 2, got 3$
metrics.auc()(SCORES, LABELS) -> ^auc: expected (N,) or (N, 1) of both
metrics.auc()(SCORES[:, 0], LABELS) -> ^auc: expected labels 0 or 1, got 2$
metrics.perplexity()(SCORES, LABELS + 1) -> ^perplexity: expected labels from 0 to 2, got 3$
lf.evaluate(lf.serial(), (), [(SCORES, LABELS)], {"f1": metrics.f1}) -> a function of a prediction
lf.evaluate(lf.serial(), (), [(SCORES, LABELS)], {"f1": metrics.f1()}, reduce=ONE) -> with reduce
metrics.binary_accuracy(SCORES[:, 0], LABELS[:3]) -> ^binary_accuracy: expected (N,) or (N, 1) of
    both, got prediction (4,) and target (3,)$
""")


def drawn(*shape):
    """Give scores, of which some are equal, and labels, of which one lacks."""
    scores = lf.keys.normal(lf.Key(1), shape).mul(2).round() / 2
    return scores, (lf.keys.uniform(lf.Key(2), (shape[0], *shape[2:]), 0, shape[1] - 1)).long()


@pytest.mark.parametrize("shape", [(40, 5), (4, 3, 5, 6)], ids=str)
@pytest.mark.parametrize("average", ["macro", "micro", "weighted"])
def test_f1_and_iou_are_scikit_learns(average, shape):
    learn = pytest.importorskip("sklearn.metrics")
    scores, labels = drawn(*shape)
    flat = labels.flatten(), scores.argmax(1).flatten()
    for ours, theirs in ((metrics.f1, learn.f1_score), (metrics.iou, learn.jaccard_score)):
        expected = theirs(*flat, average=average)
        assert ours(average)(scores, labels) == pytest.approx(expected, rel=1e-12)
    absent = torch.tensor([[0.0, 1.0, 0.0]]), torch.tensor([1])  # two classes are nowhere
    assert metrics.f1(average)(*absent) == metrics.iou(average)(*absent) == 1.0


def test_auc_is_scikit_learns():
    learn = pytest.importorskip("sklearn.metrics")
    scores, labels = drawn(50, 3)
    for column in (scores[:, 0], scores[:, :1]):
        expected = learn.roc_auc_score(labels, scores[:, 0])
        assert metrics.auc()(column, labels) == pytest.approx(expected, rel=1e-12)
    assert metrics.auc()(torch.tensor([0.0, 1.0, 0.5]).log(), torch.tensor([0, 1, 0])) == 1
    assert math.isnan(metrics.auc()(scores[:, 0], torch.ones(50)))
    assert math.isnan(metrics.auc()(torch.tensor([1.0, torch.nan]), torch.tensor([0, 1])))


@pytest.mark.parametrize("dim", [1, -1])
def test_perplexity_is_that_of_scikit_learns_log_loss(dim):
    learn = pytest.importorskip("sklearn.metrics")
    logits, labels = drawn(4, 7, 9)
    p = logits.double().softmax(1).movedim(1, -1).flatten(0, 1)
    labels[0, :5] = -100
    counts = labels.flatten() >= 0
    expected = learn.log_loss(labels.flatten()[counts], p[counts], labels=range(7))
    given = logits.movedim(1, dim)
    assert metrics.perplexity(dim)(given, labels) == pytest.approx(math.exp(expected), rel=1e-9)
    other = metrics.perplexity(dim, ignore_index=2)(given, labels.clamp(min=2))
    assert other != metrics.perplexity(dim)(given, labels)


def test_evaluate_pools_what_is_no_mean_over_batches():
    scores, labels = drawn(41, 3)
    order = labels.argsort()
    scores, labels = scores[order], labels[order]
    batches = [(scores[:9], labels[:9]), (scores[9:], labels[9:])]
    several = {"f1": metrics.f1(), "accuracy": metrics.accuracy, "perplexity": metrics.perplexity()}
    found = lf.evaluate(lf.serial(), (), batches, several)
    assert list(found) == [*several]
    for name, metric in several.items():
        assert found[name] == pytest.approx(metric(scores, labels), rel=1e-12)
    halves = sum(metrics.f1()(*batch) * len(batch[0]) for batch in batches) / 41
    assert abs(found["f1"] - halves) > 0.01
    column = lf.Layer("column()", print, print, predict=lambda params, x: x[:, 0])
    one = [(each, (label > 0).long()) for each, label in batches]
    area = lf.evaluate(column, (), one, {"auc": metrics.auc()})
    assert area["auc"] == pytest.approx(metrics.auc()(scores[:, 0], (labels > 0).long()))


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
