"""The whole of training in one call: its history, what it shows, and where it goes on."""

import math
import re
import sys
from contextlib import nullcontext

import attrs
import pytest
import torch
from helpers import SGD, begin, normal, same_bits, same_number, taken

import lincoln_fn as lf
from lincoln_fn import keys, losses
from lincoln_fn.training.data import batches

NET = lf.serial(lf.dense(4), lf.tanh(), lf.dense(3), lf.log_softmax())
X, T = normal(10, 5), keys.uniform(lf.Key(1), (10,), 0, 3).long()
VALID = normal(7, 5, seed=1), keys.uniform(lf.Key(2), (7,), 0, 3).long()
ONE_BATCH = VALID[0][:4], VALID[1][:4]
STEP, STATE = begin(NET, X, losses.nll())
ACCURACY = lf.metrics.accuracy


def fit(data=(X, T), optimizer=SGD, **options):
    options = {"key": lf.Key(0), "epochs": 3, "progress": False, **options}
    size = {"batch_size": 4} if isinstance(data, tuple) else {}
    return lf.fit(NET, losses.nll(), optimizer, data, **{**size, **options})


def by_hand(epochs=3, state=None):
    """Train as `fit` says that it does; give the states and losses after each step."""
    state = state or STATE
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


USED_UP = {
    "all epochs": (4, 3, "state is at step 9, and epochs=3 end at 9"),
    "a larger batch": (10, 4, "state is at step 9, and epochs=4 end at 4"),
}


@pytest.mark.parametrize(("size", "epochs", "said"), USED_UP.values(), ids=USED_UP)
def test_a_state_with_no_step_left_is_warned_of(size, epochs, said):
    whole, _ = fit()
    with pytest.warns(UserWarning, match=rf"^fit: trains nothing, since {said}; .*params=") as told:
        state, history = fit(batch_size=size, epochs=epochs, state=whole)
    assert [warning.filename for warning in told] == [__file__]
    assert same_bits(state, whole)
    assert history == ()
    # What the warning says to write.
    fresh = lf.init_state(NET, SGD, lf.Key(0), X, params=whole.params)
    state, _ = fit(batch_size=size, epochs=epochs, state=fresh)
    assert int(state.step) == epochs * -(-len(X) // size)


@pytest.mark.parametrize("k", [9, 10])
def test_too_few_batches_to_accumulate_are_warned_of(k):
    optimizer = lf.optim.chain(lf.optim.accumulate(k), SGD)
    message = r"^fit: accumulate waits for more than the 9 batches"
    with pytest.warns(UserWarning, match=message) if k == 10 else nullcontext():
        state, _ = fit(optimizer=optimizer)
    assert bool(same_bits(state.params, STATE.params)) == (k == 10)


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
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X, T), batch_size=4)
    state, history = fit(loader, valid=loader, metric=ACCURACY)
    assert same_bits(state, taken(STEP, STATE, *batches((X, T), 4, epochs=3))[0])
    assert [record.step for record in history] == [3, 6, 9]
    assert history[-1].metric == ACCURACY(NET.predict(state.params, X), T)


class Unsized(torch.utils.data.IterableDataset):
    """Batches that can be walked but not counted."""

    def __iter__(self):
        return iter(batches((X, T), 4))


ITERABLES = {
    "iterable": Unsized,
    "mapped": lambda: lf.data.map(lambda x, target: (x, target), Unsized()),
    "loader": lambda: torch.utils.data.DataLoader(Unsized(), batch_size=None),
    "iterator": lambda: iter(Unsized()),
    "generator": lambda: (batch for batch in Unsized()),
}


@pytest.mark.parametrize("name", ITERABLES)
def test_any_iterable_of_batches_serves_and_none_is_lost(name):
    epochs = 1 if name in ("iterator", "generator") else 3
    state, history = fit(ITERABLES[name](), epochs=epochs)
    expected, other = fit(list(Unsized()), epochs=epochs)
    assert same_bits(state, expected)
    assert history[-1].loss == other[-1].loss


def orders(data, epochs):
    """Give the epochs' first labels, as a run of `fit` sees them."""
    seen = []

    def noted(x, target):
        seen.append(target.tolist())
        return x, target

    fit(lf.data.map(noted, data), epochs=epochs)
    return seen[1:]  # the first is the example


def test_keyed_batches_have_another_order_in_each_epoch():
    keyed = batches((X, torch.arange(10) % 3), 10, key=lf.Key(5))
    expected = [target.tolist() for _, target in attrs.evolve(keyed, epochs=3)]
    assert orders(keyed, 3) == expected
    assert expected[0] != expected[1] != expected[2]
    assert same_bits(fit(keyed)[0], fit(lf.data.map(lambda *batch: batch, keyed))[0])


def test_batches_without_a_key_keep_their_order_and_epochs_of_their_own():
    plain = batches((X, T), 4)
    state, history = fit(plain)
    assert same_bits(state, fit(list(plain))[0])
    assert [record.step for record in history] == [3, 6, 9]
    keyed = batches((X, T), 4, key=lf.Key(3), epochs=3)
    of_one, history = fit(keyed, epochs=1)
    assert [record.step for record in history] == [9]
    assert same_bits(of_one, fit(attrs.evolve(keyed, epochs=1))[0])


def test_keyed_batches_go_on_where_a_state_stands():
    keyed = batches((X, T), 4, key=lf.Key(3))
    (half, _), (whole, _) = fit(keyed, epochs=1), fit(keyed)
    assert same_bits(fit(keyed, state=half)[0], whole)
    later = attrs.evolve(keyed, epochs=3, start=3)
    assert same_bits(fit(later, epochs=1, state=half)[0], whole)


# Several metrics, and early stopping


def nll(prediction, target):
    return losses.nll().forward(prediction, target)[0].item()


def test_several_metrics_are_scores_by_name_and_lines_are_printed_without_a_terminal(capsys):
    metric = {"nll": nll, "accuracy": ACCURACY}
    _, history = fit(valid=VALID, metric=metric, progress=True)
    _, of_one = fit(valid=VALID, metric=ACCURACY)
    for record, other in zip(history, of_one, strict=True):
        assert list(record.scores) == ["nll", "accuracy"]
        assert record.metric == record.scores["nll"]
        assert record.scores["accuracy"] == other.metric == other.scores["metric"]
    printed = capsys.readouterr()
    assert printed.out.splitlines() == [str(record) for record in history]
    assert printed.err == ""
    number = r"\d\.\d{4}"
    line = rf"epoch 1  step 3  loss {number}  nll {number}  accuracy {number}"
    assert re.fullmatch(line, str(history[0]))


def scripted(scores):
    """Make a metric that gives these scores in turn."""
    given = iter(scores)
    return lambda prediction, target: next(given)


RUNS = [
    ([0.5, 0.9, 0.7, 0.8, 1.0], "max", 4, 2),
    ([0.5, 0.2, 0.3, 0.2, 0.1], "min", 4, 2),
    ([math.nan, 0.1, 0.1, math.nan, 1.0], "max", 4, 2),
    ([math.nan] * 5, "max", 2, 2),
    ([0.1, 0.2, 0.3, 0.4, 0.5], "max", 5, 5),
]


@pytest.mark.parametrize(("scores", "mode", "lines", "best"), RUNS)
def test_training_stops_early_and_gives_the_best_state(scores, mode, lines, best):
    metric = {"f1": scripted(scores)}
    state, history = fit(valid=ONE_BATCH, metric=metric, patience=2, mode=mode, epochs=5)
    assert len(history) == lines
    assert int(state.step) == history[best - 1].step
    states, _ = by_hand(epochs=5)
    assert same_bits(state, states[3 * best - 1])


def test_a_metric_that_only_falls_may_be_a_loss():
    message = (
        r"^fit: the metric only fell, from 0\.9 to 0\.5, and the first state is returned; "
        r"for a metric that should fall, such as a loss, write mode='min'$"
    )
    with pytest.warns(UserWarning, match=message):
        fit(valid=ONE_BATCH, metric=scripted([0.9, 0.7, 0.5]), epochs=5, patience=2)


def test_numpy_arrays_serve():
    valid = (VALID[0].numpy(), VALID[1].numpy())
    state, _ = fit((X.numpy(), T.numpy()), valid=valid, metric=ACCURACY)
    assert same_bits(state, fit()[0])


def test_nothing_is_shown_without_progress(capsys):
    fit(valid=VALID, metric=ACCURACY)
    assert capsys.readouterr() == ("", "")


def test_a_bar_is_shown_on_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    _, history = fit(valid=VALID, metric=ACCURACY, progress=True)
    printed = capsys.readouterr()
    assert [line for line in printed.out.splitlines() if line] == [str(line) for line in history]
    shown = r"9/9 \[.*, loss [\d.]+, metric [\d.]+, [\d,]+ examples/s\]"
    assert re.search(shown, printed.err)


def test_a_line_without_a_metric_says_nothing_of_it():
    assert str(lf.FitRecord(7, 2, 0.123456, None, 1.5)) == "epoch 2  step 7  loss 0.1235"
    text = str(lf.FitRecord(7, 2, math.pi, 0.5, 1.5))
    assert text == "epoch 2  step 7  loss 3.1416  metric 0.5000"
