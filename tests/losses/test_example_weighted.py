"""Losses whose examples have weights."""

import pytest
import torch
from helpers import assert_says, begin, same_number
from helpers.refusals import refusals

import lincoln_fn as lf
from lincoln_fn.losses import example_weighted

X = lf.keys.normal(lf.Key(0), (5, 3), dtype=torch.float64)
LABELS = torch.tensor([0, 2, 1, 1, 0])
POSITIONS = lf.keys.normal(lf.Key(1), (5, 3, 4), dtype=torch.float64)
W = torch.tensor([0.5, 2.0, 0.0, 1.0, 3.0], dtype=torch.float64)
CASES = [
    (lf.losses.softmax_cross_entropy(), X, LABELS),
    (lf.losses.softmax_cross_entropy(reduction="sum", label_smoothing=0.1), X, LABELS),
    (lf.losses.softmax_cross_entropy(weight=torch.tensor([1.0, 2.0, 0.5])), X, LABELS),
    (lf.losses.softmax_cross_entropy(), POSITIONS, LABELS[:, None].expand(5, 4)),
    (lf.losses.mse(), X, X.flip(0)),
    (lf.losses.kl_div(reduction="batchmean"), X.log_softmax(1), X.flip(0).softmax(1)),
    (lf.losses.gaussian_nll(), (X, X.exp()), X.flip(0)),
]


@pytest.mark.parametrize(("loss", "prediction", "target"), CASES)
def test_weights_of_1_give_the_loss(loss, prediction, target):
    weighted, ones = example_weighted(loss), torch.ones(5, dtype=torch.float64)
    value, cache = loss.forward(prediction, target)
    same, its_cache = weighted.forward(prediction, (target, ones))
    assert same_number((same, weighted.backward(its_cache)), (value, loss.backward(cache)))


@pytest.mark.parametrize(("loss", "prediction", "target"), CASES)
def test_the_gradient_is_proven(loss, prediction, target):
    lf.testing.check_loss(example_weighted(loss), prediction, (target, W))


def test_each_example_counts_as_often_as_its_weight_says():
    loss = lf.losses.softmax_cross_entropy(reduction="none")
    each, _ = loss.forward(X, LABELS)
    value, _ = example_weighted(lf.losses.softmax_cross_entropy()).forward(X, (LABELS, W))
    assert same_number(value, (each * W).sum() / 5)
    by_hand, _ = example_weighted(loss).forward(X, (LABELS, W))
    assert torch.equal(by_hand, each * W)


def test_weights_come_with_the_data():
    x, w = X.float(), W.float()
    net, loss = lf.dense(3), lf.losses.softmax_cross_entropy
    step, start = begin(net, x, example_weighted(loss()))
    batches = lf.data.batches((x, (LABELS, w)), 5)
    (state, _), *_ = lf.train(step, start, batches)
    # A weight of 0 leaves an example out, and 2 is twice the example.
    kept = torch.tensor([0, 1, 1, 3, 4, 4, 4])
    halves = torch.tensor([0.5, *[1.0] * 6])
    other = lf.make_step(net, example_weighted(loss(reduction="sum")), lf.optim.sgd(0.02))
    again, _ = other(start, (x[kept], (LABELS[kept], halves)))
    assert torch.allclose(state.params.weight, again.params.weight, rtol=1e-5)


LOSS = example_weighted(lf.losses.softmax_cross_entropy())
test_what_has_no_weights_is_refused = refusals("""
LOSS.forward(X, LABELS) -> expected target (target, weights), got int64
LOSS.forward(X, (LABELS, W[:3])) -> of shape (5,), one per example
LOSS.forward(X, (LABELS, LABELS)) -> expected weights, a float tensor
LOSS.backward(3.0) -> example_weighted: expected
example_weighted(lf.losses.weighted({"a": (1.0, lf.losses.mse())})) -> expected a loss of the
    library's own formulas, got weighted
""")


@pytest.mark.parametrize("shape", [(), (1,)])
@pytest.mark.parametrize(("loss", "prediction", "target"), [
    (lf.losses.mse(), torch.tensor(1.0), torch.tensor(0.0)),
    (lf.losses.multi_margin(), torch.ones(3), torch.tensor(0)),
])  # fmt: skip
def test_one_value_has_no_examples(loss, prediction, target, shape):
    told = f"expected a prediction with an axis of examples, got one value from {loss.name}"
    given = prediction, (target, torch.ones(shape))
    assert_says(f"^example_weighted: {told}; give it", example_weighted(loss).forward, *given)
