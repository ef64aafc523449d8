"""Streams around training: what each adds, where it ends, and that states pass as they are."""

import importlib.util
import io
import math
from functools import cache

import attrs
import pytest
import torch
from helpers import MSE, SGD, assert_refused, assert_says, begin, copied, normal
from helpers.refusals import refusals
from hypothesis import given
from hypothesis import strategies as st

import lincoln_fn as lf
from lincoln_fn import streams
from lincoln_fn.layers import dense

KEY = lf.Key(0)
NET = lf.serial(lf.dense(4), lf.tanh(), lf.dense(3), lf.log_softmax())
X, T = normal(10, 5), torch.arange(10) % 3
VALID = [(normal(4, 5, seed=1), torch.tensor([0, 1, 2, 0])), (normal(3, 5, seed=2), T[:3])]
STEP, START = begin(NET, X, lf.losses.nll())
METRICS = {"accuracy": lf.metrics.accuracy}


@cache
def trained(steps=6):
    source = lf.data.batches((X, T), 4, key=KEY, epochs=steps)
    return [pair for pair, _ in zip(lf.train(STEP, START, source), range(steps), strict=False)]


def scored(*scores, name="f1", first=1):
    """Give records with these scores, None for no score; numbers stand for the states."""
    for i, score in enumerate(scores):
        named = {} if score is None else {name: score}
        yield 100 + i, lf.StepRecord(first + i, 0.5, scores=named)


class Watched:
    """A stream that notes how far it was walked, and whether it was closed."""

    def __init__(self, items):
        self.items, self.taken, self.closed = list(items), 0, 0

    def __iter__(self):
        return self

    def __next__(self):
        if self.taken == len(self.items):
            raise StopIteration
        self.taken += 1
        return self.items[self.taken - 1]

    def close(self):
        self.closed += 1


class Terminal(io.StringIO):
    """A file of which nobody reads what it is told."""

    def isatty(self):
        return True


def wrappers(folder):
    """Give every stream, with arguments that make it do something at each step."""
    made = {
        "evaluated": lambda s: streams.evaluated(s, NET, VALID, METRICS, every=1),
        "evaluated seldom": lambda s: streams.evaluated(s, NET, VALID, METRICS, every=3),
        "early_stopping": lambda s: streams.early_stopping(s, "accuracy", patience=1000),
        "finite": lambda s: streams.finite(s, NET),
        "logged csv": lambda s: streams.logged(s, folder / "log.csv"),
        "logged jsonl": lambda s: streams.logged(s, folder / "log.jsonl", every=2),
        "progress": lambda s: streams.progress(s, total=6, file=Terminal()),
        "tensorboard": lambda s: streams.tensorboard(s, folder / "events"),
        "every": lambda s: lf.checkpoint.every(s, lf.checkpoint.Directory(folder / "c"), steps=2),
    }
    if importlib.util.find_spec("tensorboard") is None:
        del made["tensorboard"]
    return made


NAMES = list(wrappers(None))


# All streams


@pytest.mark.parametrize("name", NAMES)
def test_a_stream_is_lazy(name, tmp_path):
    source = Watched(trained(3))
    stream = wrappers(tmp_path)[name](source)
    assert source.taken == 0
    assert list(tmp_path.iterdir()) == []
    for taken in (1, 2, 3):
        next(stream)
        assert source.taken == taken
    assert source.closed == 0


@pytest.mark.parametrize("name", [name for name in NAMES if name != "every"])
@pytest.mark.parametrize("how", ["close", "end", "error"])
def test_a_stream_closes_what_it_wraps(name, how, tmp_path):
    source = Watched(trained(3))
    stream = wrappers(tmp_path)[name](source)
    next(stream)
    if how == "close":
        stream.close()
    elif how == "end" and name == "early_stopping":  # which misses its score
        assert_says("evaluated adds them", list, stream)
    elif how == "end":
        list(stream)
    else:
        with pytest.raises(KeyboardInterrupt):
            stream.throw(KeyboardInterrupt())
    assert source.closed == 1
    assert source.taken == (3 if how == "end" else 1)


@pytest.mark.full
@given(chosen=st.lists(st.sampled_from(NAMES), max_size=5))
def test_a_composition_hands_on_the_very_states_and_records(chosen, tmp_path_factory):
    made = wrappers(tmp_path_factory.mktemp("streams"))
    source = trained()
    stream = iter(source)
    for i, name in enumerate(chosen):
        # Without a score it ends in an error.
        if name != "early_stopping" or {"evaluated", "evaluated seldom"} & set(chosen[:i]):
            stream = made[name](stream)
    given_on = list(stream)
    assert len(given_on) == len(source)
    scored_every = 1 if "evaluated" in chosen else 3 if "evaluated seldom" in chosen else math.inf
    for (state, record), (expected_state, expected) in zip(given_on, source, strict=True):
        assert state is expected_state
        if record.step % scored_every == 0:
            assert record.scores == lf.evaluate(NET, state.params, VALID, METRICS)
            assert attrs.asdict(record) == {**attrs.asdict(expected), "scores": record.scores}
        else:
            assert record is expected


def evaluated(metrics=METRICS, batches=VALID, every=1):
    return streams.evaluated([], NET, batches, metrics, every=every)


test_arguments_are_refused_at_the_call = refusals("""
evaluated(every=0) -> ^evaluated: expected every of at least 1, got 0$
evaluated({}) -> ^evaluated: expected metrics by name, at least one, and none named 'step' or
    'loss', got []$
evaluated({'loss': metrics.accuracy}) -> ^evaluated: expected metrics by name, ... , got ['loss']$
evaluated(batches=iter(VALID)) -> ^evaluated: expected batches that can be iterated over each time,
    got an iterator; give a list, a DataLoader or data.batches$
streams.best([], 'f1', mode='highest') -> ^best: expected mode to be 'max' or 'min', got 'highest'$
streams.early_stopping([], 'f1', patience=1, mode='highest') -> ^early_stopping: expected mode to be
    'max' or 'min', got 'highest'$
streams.early_stopping([], 'f1', patience=0) -> ^early_stopping: expected patience of at least 1,
    got 0$
streams.early_stopping([], 'f1', patience=1, min_delta=-0.1) -> ^early_stopping: expected min_delta
    of at least 0, got -0.1$
streams.finite([], NET, every=0) -> ^finite: expected every of at least 1, got 0$
streams.logged([], 'log.csv', every=0) -> ^logged: expected every of at least 1, got 0$
streams.logged([], 'log.txt') -> ValueError: ^logged: expected a path that ends in .csv or .jsonl,
    got log.txt$
streams.progress([], total=-1) -> ^progress: expected total of at least 0 or None, got -1$
streams.progress([], seconds=float('nan')) -> ^progress: expected seconds to be a number of at least
    0, got nan$
streams.tensorboard([], 'events', every=0) -> ^tensorboard: expected every of at least 1, got 0$
""")


# train


def test_a_record_counts_the_examples_of_its_batch():
    batches = [(X, T), (X[:7], T[:7]), (X[:1], T[:1])]
    assert [record.examples for _, record in lf.train(STEP, START, batches)] == [10, 7, 1]


COUNTS = [
    (((torch.zeros(3, 2), torch.zeros(3)), torch.zeros(3)), 3),
    ({"x": torch.zeros(6, 2)}, 6),
    ((torch.tensor(1.0), torch.zeros(3)), None),
    ((1, 2), None),
    ((), None),
]


@pytest.mark.parametrize(("batch", "examples"), COUNTS)
def test_a_record_counts_where_it_can(batch, examples):
    ((_, record),) = lf.train(lambda state, batch: (state, torch.tensor(0.5)), START, [batch])
    assert record.examples == examples


# evaluated


def test_evaluated_goes_by_the_number_of_the_step():
    later = [(state, lf.StepRecord(record.step + 10, 0.5)) for state, record in trained(6)]
    given_on = streams.evaluated(later, NET, VALID, METRICS, every=5)
    assert [record.step for _, record in given_on if record.scores] == [15]


def test_two_evaluations_add_up():
    once = streams.evaluated(trained(4), NET, VALID, METRICS, every=2)
    twice = streams.evaluated(once, NET, [(X, T)], {"on_train": lf.metrics.accuracy}, every=4)
    names = [sorted(record.scores) for _, record in twice]
    assert names == [[], ["accuracy"], [], ["accuracy", "on_train"]]


# best


BEST = [
    ((0.5, 0.9, 0.7), "max", 101),
    ((0.5, 0.9, 0.7), "min", 100),
    ((0.5, 0.9, 0.9), "max", 101),
    ((0.5, 0.3, 0.3), "min", 101),
    ((None, math.nan, 0.1, None, math.nan), "max", 102),
    ((math.nan, 0.2, 0.1), "min", 102),
    ((-math.inf, None, -math.inf), "max", 100),
    ((1.0, math.inf), "max", 101),
]


@pytest.mark.parametrize(("scores", "mode", "expected"), BEST)
def test_best_gives_the_state_with_the_best_score(scores, mode, expected):
    state, record = streams.best(scored(*scores), "f1", mode=mode)
    assert state == expected
    assert record.step == expected - 99


def test_best_refuses_a_step_that_updates_the_best_state_in_place():
    def run(change):
        steps = lf.train(*begin(NET, X, lf.losses.nll(), donate=True), [(X, T)] * 3)
        pairs = zip(steps, scored(0.9, 0.5, 0.4), strict=True)
        return streams.best(((change(state), record) for (state, _), (_, record) in pairs), "f1")

    message = (
        "best: expected a state that no step has updated in place, got params.0.weight empty; "
        "make the step with donate=False, or give copies of the states"
    )
    assert_refused(message, run, lambda state: state)
    state, record = run(copied)
    assert record.step == state.step == 1
    assert state.params[0].weight.shape == (5, 4)


NO_SCORES = "scores []; evaluated adds them, every so many steps"
STOPPING = {"patience": 1}


WITHOUT = [
    (streams.best, {}, (), "f1", NO_SCORES),
    (streams.best, {}, (None, None), "f1", NO_SCORES),
    (streams.best, {}, (math.nan, None), "f1", "only nan"),
    (streams.best, {}, (0.5,), "accuracy", "scores ['accuracy']"),
    (streams.early_stopping, STOPPING, (None, None), "f1", NO_SCORES),
    (streams.early_stopping, STOPPING, (0.5, 0.6), "accuracy", "scores ['accuracy']"),
]


@pytest.mark.parametrize(("stream", "options", "scores", "name", "got"), WITHOUT)
def test_a_score_that_never_comes_is_named_at_the_end(stream, options, scores, name, got):
    source = Watched(scored(*scores, name=name))
    message = f"{stream.__name__}: expected a record with a score 'f1', got {got}"
    assert_says(f"^{message}$", lambda: [*stream(source, "f1", **options)])
    assert (source.taken, source.closed) == (len(scores), 1)


# early_stopping


STOPS = [
    ((1, 2, 1, 1, 3), {"patience": 2}, 4),
    ((1, 2, 1, 3, 1, 1, 4), {"patience": 2}, 6),  # a gain begins the count anew
    ((1, 2, 2, 3), {"patience": 1}, 3),  # the same is no gain
    ((1, None, None, 0, None, 5), {"patience": 1}, 4),  # only evaluations count
    ((3, 2, 2.5, 1), {"patience": 1, "mode": "min"}, 3),
    ((1, 1.4, 1.45, 2), {"patience": 2, "min_delta": 0.5}, 3),
    ((1, 1.4, 1.6, 1.7, 1.8), {"patience": 2, "min_delta": 0.5}, 5),
    ((3, 2.8, 1), {"patience": 1, "min_delta": 0.5, "mode": "min"}, 2),
    ((math.nan, math.nan, 1), {"patience": 2}, 2),
    ((math.nan, -math.inf, 1), {"patience": 2}, 3),
    ((1, 2, 3), {"patience": 1}, 3),
]


@pytest.mark.parametrize(("scores", "options", "length"), STOPS)
def test_early_stopping_ends_after_so_many_evaluations_without_gain(scores, options, length):
    source = Watched(scored(*scores))
    taken = list(streams.early_stopping(source, "f1", **options))
    assert [state for state, _ in taken] == [100 + i for i in range(length)]
    assert source.taken == length
    assert source.closed == 1


def test_early_stopping_of_no_steps_ends():
    assert list(streams.early_stopping([], "f1", patience=1)) == []


# finite


@cache
def begun(net):
    return lf.init_state(net, lf.optim.adam(), KEY, X)


def broken(net, change, step=7):
    """Give a step with a state that `change` has spoilt."""
    return [(change(begun(net)), lf.StepRecord(step, 0.5))]


def spoilt(path, value=math.nan):
    def change(state):
        paths = iter(lf.tree.paths(state, states=True))

        def at(leaf):
            return torch.full_like(leaf, value) if next(paths) == path else leaf

        return lf.tree.map(at, state, states=True)

    return change


DEEP = lf.serial(
    lf.checkpointed(lf.serial(lf.tanh(), lf.dense(5))),
    lf.residual(lf.serial(lf.frozen(lf.dense(5)), lf.batch_norm())),
    lf.branch(lf.dense(2), lf.dense(2), merge=lf.concatenate()),
    lf.repeat(2, lf.dense(4)),
    lf.ode(lf.reversible((lf.dense(2), lf.tanh())), steps=1),
    lf.tapped(lf.serial(lf.tanh(), lf.dense(2)), "0"),
    lf.select(0),
    lf.rules.straight_through(lf.serial(lf.dense(2), lf.relu())),
    lf.rules.feedback_alignment(lf.dense(2)),
    lf.reshape(1, 2),
    lf.transformer_encoder_block(1, 4, dropout=0.0),
)


OWNERS = [
    (DEEP, "params.0.1.weight", "serial[0] checkpointed[0] serial[1] dense(5)"),
    (DEEP, "params.1.0.0.params.bias", "serial[1] residual[0] serial[0] frozen[0] dense(5)"),
    (DEEP, "params.1.0.1.running.var", "serial[1] residual[0] serial[1] batch_norm()"),
    (DEEP, "params.2.1.weight", "serial[2] branch[1] dense(2)"),
    (DEEP, "params.3.1.bias", "serial[3] repeat[1] dense(4)"),
    (DEEP, "params.4.0.weight", "serial[4] ode[0] reversible[0] dense(2)"),
    (DEEP, "params.5.1.weight", "serial[5] tapped[0] serial[1] dense(2)"),
    (DEEP, "params.7.0.bias", "serial[7] straight_through[0] serial[0] dense(2)"),
    (DEEP, "params.8.params.weight", "serial[8] feedback_alignment[0] dense(2)"),
    (DEEP, "params.8.feedback.matrices.0", "serial[8] feedback_alignment[1] fixed()"),
    (
        DEEP, "params.10.1.0.0.1.query.weight",
        "serial[10] transformer_encoder_block[1] serial[0] residual[0] serial[1] "
        "multi_head_attention[0] projection()",
    ),
    (lf.dense(2), "params.bias", "dense(2)"),
    (NET, "opt_state.m.0.weight", None),  # which belongs to no layer
]  # fmt: skip


@pytest.mark.parametrize(("net", "path", "owner"), OWNERS)
def test_finite_names_the_step_the_layer_and_the_path(net, path, owner):
    assert path in lf.tree.paths(begun(net), states=True)
    message = ": ".join(filter(None, ("step 7", owner, "not finite", path)))
    for value in (math.nan, math.inf, -math.inf):
        stream = streams.finite(broken(net, spoilt(path, value)), net)
        assert_says(f"NonFiniteError: ^{message}$", list, stream)


CLIPPED = lf.optim.chain(lf.optim.clip_by_value(1.0), lf.optim.adam())


@pytest.mark.parametrize("optimizer", [SGD, lf.optim.lion(), CLIPPED], ids=str)
def test_finite_finds_a_gradient_of_nan_behind_a_finite_loss(optimizer):
    net, x = lf.serial(lf.dense(2, bias=False), lf.sqrt(), lf.dense(1)), torch.zeros(3, 4)
    step, state = begin(net, x, MSE, optimizer)
    assert step(state, (x, torch.ones(3, 1)))[1].isfinite()
    stream = streams.finite(lf.train(step, state, [(x, torch.ones(3, 1))]), net)
    assert_says("NonFiniteError: ^step 1: ... not finite: ... .0.weight", list, stream)


def test_a_sum_that_overflows_is_no_fault():
    assert len(list(streams.finite(broken(NET, spoilt("params.0.weight", 3e38)), NET))) == 1


def test_finite_looks_at_every_kth_step():
    state = spoilt("params.0.weight")(START)
    steps = [(state, lf.StepRecord(i, 0.5)) for i in range(1, 5)]
    stream = streams.finite(iter(steps), NET, every=4)
    assert [next(stream)[1].step for _ in range(3)] == [1, 2, 3]
    assert_says("NonFiniteError: ^step 4: serial[0] dense(4)", next, stream)


def test_a_step_that_spoils_its_parameters_is_found_before_the_next():
    def update(params, grads, state):
        return lf.tree.map(lambda p, g: p - math.inf * g, params, grads), state

    huge = lf.make_step(NET, lf.losses.nll(), lf.Optimizer("huge()", lambda params: (), update))
    batches = Watched([(X, T), (X, T)])
    message = "^step 1: serial[0] dense(4): not finite: params.0.weight, params.0.bias, "
    stream = streams.finite(lf.train(huge, START, batches), NET)
    assert_says(f"NonFiniteError: {message}", list, stream)
    assert batches.taken == 1


def test_a_users_composition_without_such_params_is_named_as_a_whole():
    net = lf.walk.composition(
        "mine", (lf.dense(2),), lambda visit, *given: visit(0, *given),
        lambda visit, *given: visit(0, *given), gather=lambda visit, *given: visit(0, *given),
        init=lambda parts, key, x: parts[0].init(key, x), call=lambda parts: "mine()",
    )  # fmt: skip
    assert isinstance(net.init(KEY, X), dense.Params)
    stream = streams.finite(broken(net, spoilt("params.weight")), net)
    assert_says("NonFiniteError: ^step 7: mine(): not finite: params.weight$", list, stream)
