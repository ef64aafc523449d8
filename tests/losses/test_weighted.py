"""Weighted losses: sums for several heads, whose parts are told, and weights of the examples."""

import pytest
import torch
from helpers import begin, normal, same_number
from helpers.refusals import assert_says, refusals

import lincoln_fn as lf
from lincoln_fn.losses import example_weighted

NET = lf.serial(
    lf.dense(6),
    lf.tanh(),
    lf.branch(lf.serial(lf.dense(4), lf.log_softmax()), lf.dense(2), merge=lf.identity()),
)
NLL, MSE = lf.losses.nll(), lf.losses.mse()
LOSS = lf.losses.weighted({"kind": (2.0, NLL), "place": (0.5, MSE)})
X, TARGET = normal(5, 3), (torch.tensor([0, 3, 1, 1, 2]), normal(5, 2, seed=1))


def test_the_value_and_the_gradient_are_the_weighted_sums():
    prediction = NET.predict(NET.init(lf.Key(0), X), X)
    value, cache = LOSS.forward(prediction, TARGET)
    nll, of_nll = NLL.forward(prediction[0], TARGET[0])
    mse, of_mse = MSE.forward(prediction[1], TARGET[1])
    assert same_number(value, 2 * nll + 0.5 * mse)
    first, second = LOSS.backward(cache, 3.0)
    assert same_number((first, second), (6 * NLL.backward(of_nll), 1.5 * MSE.backward(of_mse)))
    lf.testing.check_loss(LOSS, prediction, TARGET)


def test_its_name_is_the_code_that_makes_it():
    assert str(LOSS) == "weighted({'kind': (2.0, nll()), 'place': (0.5, mse())})"


def expected(state):
    kind, place = NET.predict(state.params, X)
    return NLL.forward(kind, TARGET[0])[0].item(), MSE.forward(place, TARGET[1])[0].item()


@pytest.mark.full(but=("[False-",))
@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize("donate", [False, True])
@pytest.mark.parametrize("compiled", [False, True])
def test_the_record_shows_each_part(compiled, donate):
    step, state = begin(NET, X, LOSS, donate=donate)
    step = lf.compile(step) if compiled else step
    kind, place = expected(state)
    records = [record for _, record in lf.train(step, state, [(X, TARGET)] * 3)]
    assert same_number(records[0].scores, {"kind": kind, "place": place}, dtype=torch.float32)
    assert same_number(records[0].loss, 2 * kind + 0.5 * place, dtype=torch.float32)
    assert records[2].loss < records[0].loss


def test_a_step_called_by_hand_gives_one_number():
    step, state = begin(NET, X, LOSS)
    _, value = step(state, (X, TARGET))
    assert value.shape == ()
    _, told = step.with_parts(state, (X, TARGET))
    assert (list(told), told["loss"]) == (["loss", "kind", "place"], value)


@pytest.mark.parametrize("fast", [False, True])
def test_fit_tells_the_mean_of_each_part(fast):
    options = {"key": lf.Key(0), "epochs": 2, "progress": False, "fast": fast}
    _, history = lf.fit(NET, LOSS, lf.optim.sgd(0.1), [(X, TARGET)] * 2, **options)
    for line in history:
        kind, place = line.parts["kind"], line.parts["place"]
        assert same_number(line.loss, 2 * kind + 0.5 * place, dtype=torch.float32)
    assert f"  kind {history[-1].parts['kind']:.4f}  place" in str(history[-1])


def test_scores_are_added_beside_the_parts():
    step, state = begin(NET, X, LOSS)
    first = {"first": lambda prediction, target: 0.25}
    steps = lf.train(step, state, [(X, TARGET)])
    (_, record), *_ = lf.streams.evaluated(steps, NET, [(X, TARGET)], first, every=1)
    assert set(record.scores) == {"kind", "place", "first"}


KIND, PLACE = NET.predict(NET.init(lf.Key(0), X), X)
SEVERAL = lf.losses.weighted({"place": (1.0, lf.losses.mse(reduction="none"))})
test_wrong_parts_predictions_and_targets_are_refused_by_name = refusals("""
lf.losses.weighted({}) -> weighted: expected parts ... at least one entry
lf.losses.weighted({"kind": NLL}) -> weighted: expected parts['kind'] ... nll()
lf.losses.weighted([(1.0, NLL)]) -> weighted: expected parts to be a mapping
lf.losses.weighted({"loss": (1.0, NLL)}) -> no part named 'step' or 'loss'
LOSS.forward(KIND, TARGET) -> expected prediction to be a tuple (kind, place)
LOSS.forward((KIND, PLACE), TARGET[:1]) -> target to be a tuple (kind, place)
LOSS.forward((KIND, PLACE), (TARGET[0], TARGET[1][:3])) -> weighted['place'] mse() ... (5, 2)
SEVERAL.forward((PLACE,), TARGET[1:]) -> weighted['place'] mse(reduction='none') ... expected one
    number, got (5, 2); use reduction='mean'
""")


def test_a_part_that_is_no_probability_is_refused_at_the_first_step():
    net = lf.serial(lf.dense(3), lf.branch(lf.dense(4), lf.dense(2), merge=lf.identity()))
    step, state = begin(net, X, LOSS)
    assert_says("weighted['kind'] nll() ... softmax_cross_entropy", step, state, (X, TARGET))


# Losses whose examples have weights.


ROWS = lf.keys.normal(lf.Key(0), (5, 3), dtype=torch.float64)
LABELS = torch.tensor([0, 2, 1, 1, 0])
POSITIONS = lf.keys.normal(lf.Key(1), (5, 3, 4), dtype=torch.float64)
W = torch.tensor([0.5, 2.0, 0.0, 1.0, 3.0], dtype=torch.float64)
CASES = [
    (lf.losses.softmax_cross_entropy(), ROWS, LABELS),
    (lf.losses.softmax_cross_entropy(reduction="sum", label_smoothing=0.1), ROWS, LABELS),
    (lf.losses.softmax_cross_entropy(weight=torch.tensor([1.0, 2.0, 0.5])), ROWS, LABELS),
    (lf.losses.softmax_cross_entropy(), POSITIONS, LABELS[:, None].expand(5, 4)),
    (lf.losses.mse(), ROWS, ROWS.flip(0)),
    (lf.losses.kl_div(reduction="batchmean"), ROWS.log_softmax(1), ROWS.flip(0).softmax(1)),
    (lf.losses.gaussian_nll(), (ROWS, ROWS.exp()), ROWS.flip(0)),
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
    each, _ = loss.forward(ROWS, LABELS)
    value, _ = example_weighted(lf.losses.softmax_cross_entropy()).forward(ROWS, (LABELS, W))
    assert same_number(value, (each * W).sum() / 5)
    by_hand, _ = example_weighted(loss).forward(ROWS, (LABELS, W))
    assert torch.equal(by_hand, each * W)


def test_weights_come_with_the_data():
    x, w = ROWS.float(), W.float()
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


COUNTED = example_weighted(lf.losses.softmax_cross_entropy())
test_what_has_no_weights_is_refused = refusals("""
COUNTED.forward(ROWS, LABELS) -> expected target (target, weights), got int64
COUNTED.forward(ROWS, (LABELS, W[:3])) -> of shape (5,), one per example
COUNTED.forward(ROWS, (LABELS, LABELS)) -> expected weights, a float tensor
COUNTED.backward(3.0) -> example_weighted: expected
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
