"""The whole of training in one call: its history, what it shows, and where it goes on."""

import math
import re
import sys

import pytest
import torch
from helpers.cases.case import normal
from helpers.compare import same_bits, same_number

import lincoln_fn as lf
from lincoln_fn import keys, losses
from lincoln_fn.training.data import batches

SGD = lf.optim.sgd(0.1)
NET = lf.serial(lf.dense(4), lf.tanh(), lf.dense(3), lf.log_softmax())
X, T = normal(10, 5), keys.uniform(lf.Key(1), (10,), 0, 3).long()
VALID = normal(7, 5, seed=1), keys.uniform(lf.Key(2), (7,), 0, 3).long()
STEP = lf.make_step(NET, losses.nll(), SGD)
ACCURACY = lf.metrics.accuracy


def fit(data=(X, T), **options):
    options = {"key": lf.Key(0), "batch_size": 4, "epochs": 3, "progress": False, **options}
    return lf.fit(NET, losses.nll(), SGD, data, **options)


def by_hand(epochs=3, state=None):
    """Train as `fit` says that it does; give the states and losses after each step."""
    state = state or lf.init_state(NET, SGD, lf.Key(0), X)
    source = batches((X, T), 4, key=state.key, epochs=epochs, start=int(state.step))
    taken = list(lf.train(STEP, state, source))
    return [state for state, _ in taken], [record.loss for _, record in taken]


def test_fit_is_init_state_make_step_and_train():
    state, history = fit()
    states, values = by_hand()
    assert same_bits(state, states[-1])
    assert [record.step for record in history] == [3, 6, 9]
    assert [record.epoch for record in history] == [1, 2, 3]
    for i, record in enumerate(history):
        assert same_number(record.loss, sum(values[3 * i : 3 * i + 3]) / 3)
        assert record.metric is None
    seconds = [record.seconds for record in history]
    assert seconds == sorted(seconds)
    assert seconds[0] > 0


def test_fit_learns():
    state, history = fit(epochs=200)
    assert history[-1].loss < history[0].loss / 2
    assert ACCURACY(NET.predict(state.params, X), T) > ACCURACY(
        NET.predict(lf.init_state(NET, SGD, lf.Key(0), X).params, X), T
    )


def test_every_line_averages_the_steps_since_the_line_before():
    _, history = fit(every=4)
    _, values = by_hand()
    assert [(record.step, record.epoch) for record in history] == [(4, 2), (8, 3), (9, 3)]
    means = [sum(values[:4]) / 4, sum(values[4:8]) / 4, values[8]]
    assert same_number([record.loss for record in history], means)


def test_a_line_that_falls_on_the_end_is_written_once():
    _, history = fit(every=3)
    assert [record.step for record in history] == [3, 6, 9]


def test_the_metric_is_that_of_the_state_at_its_line():
    _, history = fit(valid=VALID, metric=ACCURACY, every=2)
    states, _ = by_hand()
    for record in history:
        prediction = NET.predict(states[record.step - 1].params, VALID[0])
        assert same_number(record.metric, ACCURACY(prediction, VALID[1]))


@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_a_state_goes_on_where_it_stands(epochs):
    whole, _ = fit()
    half, first = fit(epochs=epochs)
    resumed, rest = fit(state=half)
    assert same_bits(resumed, whole)
    assert [record.step for record in (*first, *rest)] == [3, 6, 9]
    assert [record.epoch for record in (*first, *rest)] == [1, 2, 3]


def test_a_state_from_the_middle_of_an_epoch_goes_on_there():
    states, _ = by_hand()
    resumed, history = fit(state=states[4])
    assert same_bits(resumed, states[-1])
    assert [record.step for record in history] == [6, 9]


def test_fit_does_not_change_the_state_that_it_goes_on_from():
    states, _ = by_hand()
    leaves = lf.tree.leaves(states[4], states=True)
    before = [(leaf._version, leaf.clone()) for leaf in leaves]
    fit(state=states[4])
    for leaf, (version, values) in zip(leaves, before, strict=True):
        assert leaf._version == version
        assert same_bits(leaf, values)


def test_a_data_loader_is_walked_once_an_epoch():
    dataset = torch.utils.data.TensorDataset(X, T)
    loader = torch.utils.data.DataLoader(dataset, batch_size=4)
    state, history = fit(loader, batch_size=None, valid=loader, metric=ACCURACY)
    expected = lf.init_state(NET, SGD, lf.Key(0), X)
    for _ in range(3):
        for batch in batches((X, T), 4):
            expected, _ = STEP(expected, batch)
    assert same_bits(state, expected)
    assert [record.step for record in history] == [3, 6, 9]
    assert history[-1].metric == ACCURACY(NET.predict(state.params, X), T)


class Unsized(torch.utils.data.IterableDataset):
    """Batches that can be walked but not counted."""

    def __iter__(self):
        return iter(batches((X, T), 4))


@pytest.mark.parametrize(
    "data",
    [
        Unsized(),
        lf.data.map(lambda x, target: (x, target), Unsized()),
        torch.utils.data.DataLoader(Unsized(), batch_size=None),
    ],
    ids=["iterable", "mapped", "loader"],
)
def test_data_without_a_length_serves_too(data):
    state, _ = fit(data, batch_size=None)
    assert same_bits(state, fit(list(batches((X, T), 4)), batch_size=None)[0])


def test_numpy_arrays_serve():
    valid = (VALID[0].numpy(), VALID[1].numpy())
    state, _ = fit((X.numpy(), T.numpy()), valid=valid, metric=ACCURACY)
    assert same_bits(state, fit()[0])


def test_lines_are_printed_where_there_is_no_terminal(capsys):
    _, history = fit(valid=VALID, metric=ACCURACY, progress=True)
    printed = capsys.readouterr()
    assert printed.out.splitlines() == [str(record) for record in history]
    line = r"epoch 1  step 3  loss \d\.\d{4}  metric [01]\.\d{4}"
    assert re.fullmatch(line, printed.out.splitlines()[0])
    assert printed.err == ""


def test_nothing_is_shown_without_progress(capsys):
    fit(valid=VALID, metric=ACCURACY)
    assert capsys.readouterr() == ("", "")


def test_a_bar_is_shown_on_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    _, history = fit(progress=True)
    printed = capsys.readouterr()
    assert [line for line in printed.out.splitlines() if line] == [str(line) for line in history]
    assert "9/9" in printed.err


def test_a_line_without_a_metric_says_nothing_of_it():
    assert str(lf.FitRecord(7, 2, 0.123456, None, 1.5)) == "epoch 2  step 7  loss 0.1235"
    text = str(lf.FitRecord(7, 2, math.pi, 0.5, 1.5))
    assert text == "epoch 2  step 7  loss 3.1416  metric 0.5000"
