"""Several heads: a weighted sum of losses, whose parts are told at every step."""

import pytest
import torch
from helpers import begin, normal, same_number
from helpers.refusals import assert_says, refusals

import lincoln_fn as lf

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
