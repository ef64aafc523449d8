"""Training with a state, or params, of one's own, over any iterable of batches."""

import pytest
import torch
from helpers import Operations, assert_says, error_of, normal, same_bits
from helpers.refusals import refusals

import lincoln_fn as lf
from lincoln_fn.initializers import Initializer

NET = lf.serial(lf.dense(4), lf.tanh(), lf.dense(2))
SGD, MSE = lf.optim.sgd(0.1), lf.losses.mse()
X, TARGET = normal(6, 3), normal(6, 2, seed=1)


@lf.record
class Two:
    """The least that `train` asks of a state."""

    first: torch.Tensor
    step: torch.Tensor


def halve(state, batch):
    first = state.first / 2
    return Two(first, state.step + 1), {"loss": first.sum(), "largest": first.max()}


def test_train_takes_a_state_that_has_a_step_and_numbers_by_name():
    begin = Two(torch.tensor([4.0, 8.0]), torch.tensor(5))
    states, records = zip(*lf.train(halve, begin, ["a", "b"]), strict=True)
    assert [record.step for record in records] == [6, 7]
    assert [record.loss for record in records] == [6.0, 3.0]
    assert [record.scores for record in records] == [{"largest": 4.0}, {"largest": 2.0}]
    assert int(states[-1].step) == 7


def test_a_step_may_be_an_int():
    class Counter:
        step = 3

    stream = lf.train(lambda state, batch: (state, torch.tensor(0.5)), Counter(), [1])
    assert [record.step for _, record in stream] == [4]


@lf.record
class Counted:
    """A state that counts by an int."""

    first: torch.Tensor
    step: int


def test_a_state_with_a_step_that_is_an_int_is_saved_and_watched(tmp_path):
    def add(state, batch):
        return Counted(state.first + batch, state.step + 1), batch

    begin, batches = Counted(torch.tensor(0.0), 0), [torch.tensor(2.0)] * 3
    directory = lf.checkpoint.Directory(tmp_path)
    steps = lf.streams.finite(lf.train(add, begin, batches), NET)
    *_, (last, _) = lf.checkpoint.every(steps, directory, steps=2)
    loaded = directory.latest(begin)
    assert (loaded.first, loaded.step) == (6.0, 3) == (last.first, last.step)
    assert type(loaded.step) is int
    *_, (resumed, record) = lf.train(add, loaded, batches)
    assert (resumed.first, resumed.step, record.step) == (12.0, 6, 6)
    # A step of another kind does not fit, nor a number that is no state's.
    lf.checkpoint.save(tmp_path / "tensor", Two(torch.tensor(0.0), torch.tensor(3)))
    with pytest.raises(lf.checkpoint.CheckpointError, match="step: expected 0, got int64"):
        lf.checkpoint.load(tmp_path / "tensor", Counted(torch.tensor(0.0), 0))
    lf.checkpoint.save(tmp_path / "dict", {"step": 3})
    with pytest.raises(lf.checkpoint.CheckpointError, match="step: expected 0, got 3"):
        lf.checkpoint.load(tmp_path / "dict", {"step": 0})


def told(loss=1.0, **numbers):
    """Train by a step that tells of these numbers."""
    value = {name: torch.tensor(number) for name, number in numbers.items()}
    value |= {} if loss is None else {"loss": torch.tensor(loss)}
    return list(lf.train(lambda state, batch: (state, value), Two(X, torch.tensor(6)), [1]))


test_what_is_no_state_or_value_of_a_step_is_refused_with_the_mend = refusals("""
list(lf.train(halve, (X,), [1])) -> a state of your own with an attribute step
list(lf.train(halve, (X,), [1])) -> lf.init_state(net, optimizer, key, x)
told(None, largest=1.0) -> train: expected the step's value ... 'loss'
told(step=999.0) -> ^train: expected no number named 'step' in the step's value, got ['step',
    'loss']; give it another name$
told(float('inf')) -> NonFiniteError: step 7: the loss is inf
""")


# Params given


def test_given_params_of_another_dtype_keep_it():
    params = lf.tree.map(lambda leaf: leaf.double(), lf.dense(2).init(lf.Key(0), X))
    state = lf.init_state(lf.dense(2), SGD, lf.Key(1), X, params=params)
    assert state.params.weight.dtype is torch.float64


def begun(params):
    return lf.init_state(lf.serial(lf.dense(2), lf.tanh()), SGD, lf.Key(0), X, params=params)


def of_dense(n, **options):
    return lf.dense(n, **options).init(lf.Key(0), X)


test_params_that_do_not_fit_are_refused_with_their_path = refusals("""
begun(of_dense(2)) -> ^init_state: expected params like the network's own
begun((of_dense(3), ())) -> ^init_state: expected ... params.0.weight of shape (3, 2), got (3, 3)
begun((of_dense(2, bias=False), ())) -> ^init_state: expected ... missing params.0.bias
begun({'0.weight': X}) -> ^init_state: expected ... lf.interop.from_state_dict
begun(()) -> ^init_state: expected ... missing params.0.weight, params.0.bias
""")


# Any iterable


def batches():
    yield X[:2], TARGET[:2]
    yield X[2:4], TARGET[2:4]
    yield X[4:], TARGET[4:]


def fit(data, **options):
    return lf.fit(lf.dense(2), MSE, SGD, data, key=lf.Key(0), progress=False, **options)


def test_a_tuple_of_batches_is_refused_for_a_tuple_holds_arrays():
    assert_says("(x, target), got 3 entries; give batches as a list", fit, tuple(batches()))


def test_fit_goes_on_over_a_generator_from_a_state():
    state, _ = fit(batches())
    state, history = fit(batches(), state=state)
    assert int(state.step) == history[-1].step == 6


# `init_state(params=…)` copies what it is given, and draws nothing.


WIDE = torch.ones(2, 60)


def numbers_in(operations):
    """Count the numbers in the tensors that operations make, but not on `meta`."""
    made = [lf.tree.leaves(result) for f, _, result in operations.calls if not f.is_view]
    leaves = [leaf for each in made for leaf in each if isinstance(leaf, torch.Tensor)]
    return sum(leaf.numel() for leaf in leaves if not leaf.is_meta)


def test_given_params_are_copied_and_none_are_drawn():
    net = lf.serial(
        lf.dense(50), lf.batch_norm(), lf.dropout(), lf.repeat(2, lf.dense(50)), lf.dense(10)
    )
    params = net.init(lf.Key(0), WIDE)
    with Operations() as operations:
        state = lf.init_state(net, SGD, lf.Key(1), WIDE, params=params)
    assert same_bits(state.params, params)
    given, kept = (lf.tree.leaves(p, states=True) for p in (params, state.params))
    assert not {leaf.data_ptr() for leaf in given} & {leaf.data_ptr() for leaf in kept}
    assert int(state.step) == 0
    drawn = lf.init_state(net, SGD, lf.Key(1), WIDE)
    assert same_bits(state.key, drawn.key)
    strides = [[leaf.stride() for leaf in lf.tree.leaves(s.params)] for s in (state, drawn)]
    assert strides[0] == strides[1]
    total = sum(leaf.numel() for leaf in given)
    # An empty copy, and the operation that fills it; the rest is of the run's key.
    assert numbers_in(operations) <= 2 * total + 100


def test_an_init_that_reads_numbers_serves_too():
    def by_values(key, shape, fans, dtype):
        drawn = lf.keys.normal(key, shape, dtype=dtype)
        return drawn / drawn.abs().max().item()

    net = lf.serial(lf.dense(4, weight_init=Initializer("mine()", by_values)), lf.dense(3))
    params = net.init(lf.Key(0), WIDE)
    state = lf.init_state(net, SGD, lf.Key(1), WIDE, params=params)
    assert same_bits(state.params, params)


@pytest.mark.parametrize("features", [7, 60])
def test_an_x_that_does_not_fit_is_told_as_without_params(features):
    net = lf.serial(lf.dense(4), lf.reshape(2, 3))
    given = net, SGD, lf.Key(0), WIDE[:, :features]
    assert error_of(lf.init_state, *given, params=()) == error_of(lf.init_state, *given)
