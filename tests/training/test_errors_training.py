"""What training is wrongly given: one message each, and the state stays as it was."""

import pytest
import torch
from helpers import assert_says, copied, same_bits, same_number
from helpers.given import KEY, LOGITS, NET, NLL, SGD, STATE, T, X, fit
from helpers.refusals import refusals

import lincoln_fn as lf
from lincoln_fn import NonFiniteError, losses

NESTED = lf.serial(lf.tanh(), NET)
ACCURACY = lf.metrics.accuracy


def state_with(weight_factor, steps=0, net=NET):
    state = lf.init_state(net, SGD, KEY, X)
    params = lf.tree.map(lambda p: p * weight_factor, state.params)
    return lf.TrainState(params, (), state.key, state.step + steps)


NAN_LOSS = lf.Loss("mine()", lambda y, target: (y.sum() * torch.inf, y), lambda cache, g=1.0: cache)
RAISING = lf.Layer("mine()", lambda params, x: x @ x, lambda params, cache, g: (g, ()))


def take(batch, net=NET, loss=NLL, state=STATE):
    """Try a step, which leaves the state as it was."""
    before, versions = copied(state), [p._version for p in lf.tree.leaves(state, states=True)]
    try:
        lf.make_step(net, loss, SGD)(state, batch)
    finally:
        assert [p._version for p in lf.tree.leaves(state, states=True)] == versions
        assert same_bits(state, before)


test_a_failing_step_says_why_and_leaves_the_state_as_it_was = refusals("""
take((X[:, :2], T)) -> ^serial[0] dense(4): expected x of shape (..., 3), got (6, 2)$
take((X, T + 1)) -> ^nll: expected labels from 0 to 3, got 4$
take((X, T[:5])) -> ^nll: expected target of shape (6,) for prediction (6, 4), got (5,)$
take((X[:0], T[:0])) -> ^nll: expected at least one example, got prediction of shape (0, 4)$
take(X) -> ^step: expected a batch (x, target), got float32[6, 3]$
take((X, T, T)) -> ^step: expected a batch (x, target), got (float32[6, 3], int64[6], int64[6])$
take((X, T), loss=losses.nll(reduction='none')) -> ^nll(reduction='none'): expected one number, got
    (6,); use reduction='mean' or 'sum'$
take((X, T), serial(dense(4), RAISING)) -> ^serial[1] mine(): forward raised RuntimeError on
    float32[6, 4]: ... mat1
take((X * torch.nan, T)) -> NonFiniteError: ^step 1: x holds values that are not finite$
take((X, T), state=state_with(torch.nan)) -> NonFiniteError: ^step 1: serial[0] dense(4): the output
    is not finite; nor is its weight or bias$
take((X, T), NESTED, state=state_with(torch.nan, 7, NESTED)) -> NonFiniteError: ^step 8: serial[1]
    serial[0] dense(4): the output is not finite; nor is its weight or bias$
take((X * 1e5, T), state=state_with(1e38, 41)) -> NonFiniteError: ^step 42: serial[0] dense(4): the
    output is not finite, though its x and params are$
""")


LARGEST = r"the value is not finite, though the prediction is; the largest \|prediction\| is"


def test_a_loss_that_is_not_finite_tells_of_the_largest_prediction():
    with pytest.raises(NonFiniteError, match=rf"^step 1: mine\(\): {LARGEST} \d\.\d+$"):
        take((X, T), loss=NAN_LOSS)
    state, batch = state_with(1.0, 6, LOGITS), (X * 1e20, torch.zeros(6, 4))
    diverges = r"\d\.?\d*e\+\d\d; the run diverges: lower the learning rate$"
    with pytest.raises(NonFiniteError, match=rf"^step 7: mse\(\): {LARGEST} {diverges}"):
        take(batch, LOGITS, losses.mse(), state)


def test_train_looks_at_the_loss_of_a_step_that_does_not_look_itself():
    step = lf.make_step(NET, NAN_LOSS, SGD)
    with pytest.raises(NonFiniteError, match=r"^step 1: the loss is -?inf$"):
        list(lf.train(step.run, STATE, [(X, T)]))


def test_training_stops_at_the_step_that_diverges():
    training = lf.train(lf.make_step(NET, NLL, SGD), STATE, [(X, T), (X, T), (X / 0, T)])
    assert [next(training)[1].step for _ in range(2)] == [1, 2]
    assert_says("NonFiniteError: ^step 3: x holds values that are not finite$", next, training)


class Once:
    """An iterable that can be iterated over once, and does not say so."""

    def __init__(self, batches):
        self.walked = iter(batches)

    def __iter__(self):
        return iter([*self.walked])


def over(data, **options):
    """Fit to an iterable of batches."""
    return fit(data, batch_size=None, **options)


test_numbers_and_data_that_do_not_fit_are_refused = refusals("""
fit(epochs=0) -> ^fit: expected epochs of at least 1, got 0$
fit(every=0) -> ^fit: expected every of at least 1 or None, got 0$
fit(batch_size=None) -> ^fit: expected a batch_size for data given as arrays, got None; write
    batch_size=32, or give batches$
fit(metric=ACCURACY) -> ^fit: expected validation data, got None$
fit(valid=(X, T)) -> ^fit: expected a metric for the validation data, got None$
fit([(X, T)], batch_size=2) -> ^fit: expected no batch_size for data given as batches, got 2; leave
    it out, or give arrays (x, target) or DataLoader(dataset, 2)$
over([X, T]) -> ^fit: expected arrays as a tuple (x, target), got a list; write a tuple in place of
    the list$
over([(X, T)], valid=(X, T), metric=ACCURACY) -> ^fit: expected a batch_size for
    valid given as arrays, got None; write batch_size=32, or give batches$
fit(patience=2) -> ^fit: expected a metric and validation data for patience=2, got None; write
    metric=lf.metrics.accuracy, valid=(x, target)$
fit(valid=(X, T), metric={}) -> ^fit: expected at least one metric by name, got {}$
over(iter([(X, T)]), epochs=2) -> ^fit: expected data that can be walked once an epoch, got an
    iterator; give a list or a DataLoader, or epochs=1$
over(iter([(X, T)]), state=STATE, epochs=2) -> ^fit: expected data that can be walked once an epoch,
    got an iterator; give a list or a DataLoader, or epochs=1$
over([]) -> ^fit: expected at least one batch, got none$
over([], state=STATE) -> ^fit: expected at least one batch in epoch 1, got none; give a list, a
    DataLoader or data.batches with a batch in each epoch$
over(data.map(lambda x, target: (x, target), Once([(X, T)])), epochs=2, state=STATE) -> ^fit:
    expected at least one batch in epoch 2, got none; give a list, a DataLoader or data.batches with
    a batch in each epoch$
fit(valid=(X, T), metric={'loss': ACCURACY}) -> ^fit: expected no metric named 'step' or 'loss', got
    'loss'$
fit(valid=(X, T), metric={'f1': ACCURACY, 'step': ACCURACY}) -> ^fit: expected no metric named
    'step' or 'loss', got 'step'$
fit((X, T[:5])) -> ^batches: expected arrays of one length, at least 1, got lengths [6, 5]$
fit(valid=(X[:2], T), metric=ACCURACY) -> ^batches: expected arrays of one length, at least 1, got
    lengths [2, 6]$
data.batches((X, T), 0) -> ^batches: expected batch_size of at least 1, got 0$
data.batches((X, T), 2, epochs=0) -> ^batches: expected epochs of at least 1, got 0$
data.batches((X, T), 2, start=-1) -> ^batches: expected start of at least 0, got -1$
data.batches((X[:0], T[:0]), 2) -> ^batches: expected arrays of one length, at least 1, got lengths
    [0, 0]$
data.batches((torch.tensor(1.0), T), 2) -> ^batches: expected arrays of one length, at least 1, got
    lengths [0, 6]$
data.batches((X, T), 7, drop_last=True) -> ^batches: drop_last leaves no batch of 7 in 6 examples$
evaluate(NET, STATE.params, [], {'accuracy': ACCURACY}) -> ^evaluate: expected at least one example,
    got none$
evaluate(tanh(), (), [(torch.tensor(1.0), T)], {'accuracy': ACCURACY}) -> ^evaluate: expected x with
    an axis of examples, got float32 1.0; one example is x[None]$
evaluate(serial(), (), [((), T)], {'accuracy': ACCURACY}) -> ^evaluate: expected x with an axis of
    examples, got (); one example is x[None]$
evaluate(NET, STATE.params, [(X[:, :2], T)], {'accuracy': ACCURACY}) -> ^serial[0] dense(4):
    expected x of shape (..., 3), got (6, 2)$
SGD.update(STATE.params, (layers.dense.Params(torch.zeros(4, 3), torch.zeros(4)), ()), ()) -> ^sgd:
    expected a gradient of its parameter's shape (3, 4) at 0.weight, got (4, 3)$
SGD.update(STATE.params, ((), ()), ()) -> ^sgd: expected gradients of the parameters' structure
""")


@pytest.mark.parametrize("loss", [losses.nll(), losses.nll(reduction="sum")], ids=str)
def test_a_batch_of_one_works(loss):
    step = lf.make_step(NET, loss, SGD)
    state, value = step(STATE, (X[:1], T[:1]))
    expected = -NET.predict(STATE.params, X[:1])[0, T[0]]
    assert same_number(value, expected)
    assert not same_bits(state.params[0].weight, STATE.params[0].weight)
    state, history = fit((X, T), batch_size=1, epochs=2, valid=(X[:1], T[:1]), metric=ACCURACY)
    assert int(state.step) == 12
    assert history[-1].metric in (0.0, 1.0)


TWICE = {
    "softmax": (lf.serial(LOGITS, lf.softmax()), losses.softmax_cross_entropy(), "cross_entropy"),
    "nested": (
        lf.serial(LOGITS, lf.serial(lf.relu(), lf.fast(lf.softmax(1)))),
        losses.softmax_cross_entropy(reduction="sum"), "cross_entropy",
    ),
    "sigmoid": (lf.serial(LOGITS, lf.sigmoid()), losses.sigmoid_cross_entropy(), "log_loss"),
    "alone": (lf.sigmoid(), losses.sigmoid_cross_entropy(), "log_loss"),
}  # fmt: skip


@pytest.mark.parametrize(("net", "loss", "other"), TWICE.values(), ids=TWICE)
def test_a_softmax_before_a_loss_that_computes_it_is_warned_of(net, loss, other):
    message = rf"^make_step: .* computes the s\w+ itself, and the network ends in .*{other}\(\)$"
    with pytest.warns(UserWarning, match=message) as caught:
        lf.make_step(net, loss, SGD)
    assert [warning.filename for warning in caught] == [__file__]


OTHER_ENDS = [
    (LOGITS, losses.softmax_cross_entropy()),
    (lf.serial(LOGITS, lf.softmax()), losses.cross_entropy()),
    (lf.serial(LOGITS, lf.log_softmax()), losses.softmax_cross_entropy()),
    (lf.serial(lf.softmax(), LOGITS), losses.softmax_cross_entropy()),
    (lf.serial(LOGITS, lf.sigmoid()), losses.mse()),
    (lf.residual(lf.serial(LOGITS, lf.softmax())), losses.softmax_cross_entropy()),
]


@pytest.mark.parametrize(("net", "loss"), OTHER_ENDS)
def test_any_other_end_is_not_warned_of(net, loss):
    lf.make_step(net, loss, SGD)
