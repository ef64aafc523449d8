"""`scan` runs any cell over a sequence, with backpropagation through time."""

from functools import partial

import pytest
import torch
from helpers.cases.case import normal
from helpers.compare import same_bits, same_number
from helpers.compositions import (
    CONTEXTS,
    cast,
    check_compiled,
    check_trace,
    check_walks,
    peak_bytes,
    run,
)
from torch.utils._python_dispatch import TorchDispatchMode

import lincoln_fn as lf

X = normal(4, 6, 3)
STATE = normal(4, 5, seed=1)
# A cell of one's own, with dropout and batch norm: s' = tanh(bn(x) W + dropout(s) U).
MIXED = lf.serial(
    lf.parallel(lf.serial(lf.batch_norm(), lf.dense(5)), lf.serial(lf.dropout(0.4), lf.dense(5))),
    lf.add(),
    lf.tanh(),
)
# A cell that returns an output beside its state.
WITH_OUTPUT = lf.serial(MIXED, lf.branch(lf.dense(2), lf.identity(), merge=lf.identity()))
# Its output is a pair, of which one is a pair.
OUTPUTS = lf.branch(lf.dense(2), lf.branch(lf.tanh(), lf.dense(3), merge=lf.identity()),
                    merge=lf.identity())  # fmt: skip
WITH_OUTPUTS = lf.serial(MIXED, lf.branch(OUTPUTS, lf.identity(), merge=lf.identity()))
MASK = torch.tensor(
    [[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0], [0, 1, 1, 1, 1, 0], [1, 0, 1, 0, 1, 0]]
)
PAIR = (normal(4, 5, seed=2), normal(4, 5, seed=3))
TOKENS = torch.tensor([[4, 2, 0, 1], [3, 1, 5, 2], [1, 1, 0, 0]])
READER = lf.serial(lf.parallel(lf.embedding(6, 4), lf.identity()), lf.gru_cell(4))
PAIRED = lf.serial(lf.parallel(lf.add(), lf.identity()), lf.gru_cell(5))
NETS = {
    "lstm": (lf.scan(lf.lstm_cell(5)), X),
    "lstm with a state": (lf.scan(lf.lstm_cell(5)), (X, PAIR)),
    "gru without a state": (lf.scan(lf.gru_cell(5)), (X, None)),
    "own cell": (lf.scan(MIXED), (X, STATE)),
    # Its backward pass draws each step's mask again.
    "checkpointed cell": (lf.scan(lf.checkpointed(MIXED)), (X, STATE)),
    "with an output": (lf.scan(WITH_OUTPUT, has_output=True), (X, STATE)),
    "with a tuple": (lf.scan(WITH_OUTPUTS, has_output=True), (X, STATE)),
    "with a tuple and a mask": (
        lf.scan(WITH_OUTPUTS, has_output=True, reverse=True),
        (X, STATE, MASK.bool()),
    ),
    "reversed": (lf.scan(MIXED, reverse=True), (X, STATE)),
    "first axis": (lf.scan(WITH_OUTPUT, dim=0, has_output=True), (X.transpose(0, 1), STATE)),
    "tokens": (lf.scan(READER), (TOKENS, normal(3, 4))),
    "without a batch": (lf.scan(lf.rnn_cell(5), dim=0), X[0]),
    "two sequences": (lf.scan(PAIRED, sequences=2), (X, normal(4, 6, 3, seed=9), STATE)),
}
each = pytest.mark.parametrize("name", NETS)


@each
def test_gradients_are_proven(name):
    layer, x = NETS[name]
    lf.testing.check_layer(layer, layer.init(lf.Key(1), x), x, predict_is_forward=False)


@pytest.mark.parametrize("context", CONTEXTS)
def test_gradients_are_proven_within_other_compositions(context):
    layer = CONTEXTS[context](lf.scan(lf.lstm_cell(3)))
    lf.testing.check_layer(layer, layer.init(lf.Key(1), X), X)


@each
def test_walks_have_the_bits_of_backward(name):
    check_walks(*NETS[name])


def test_every_layer_is_traced():
    check_trace(lf.scan(lf.serial(lf.gru_cell(5), lf.tanh())), X)


@pytest.mark.parametrize(
    ("layer", "cell"),
    [
        (lf.rnn(5), lf.rnn_cell(5)),
        (lf.rnn(5, nonlinearity="relu"), lf.rnn_cell(5, nonlinearity="relu")),
        (lf.gru(5), lf.gru_cell(5)),
        (lf.lstm(5, bias=False), lf.lstm_cell(5, bias=False)),
    ],
    ids=str,
)
@pytest.mark.parametrize("has_state", [False, True])
def test_it_equals_the_recurrent_layers(layer, cell, has_state):
    state = (PAIR if "lstm" in layer.name else STATE) if has_state else None
    x = (X, lf.tree.map(lambda s: s.unsqueeze(0), state)) if has_state else X
    params, y, cache, g = run(layer, x, torch.float64)
    ours = lf.scan(cell)
    x = cast((X, state) if has_state else X)
    own_y, own_cache = ours.forward(params.cells[0][0], x)
    own_g = (g[0], lf.tree.map(lambda s: s[0], g[1])) if has_state else g
    dx, dparams = layer.backward(params, cache, g)
    results = own_y, *ours.backward(params.cells[0][0], own_cache, own_g)
    expected = y, dx, dparams.cells[0][0]
    expected = lf.tree.map(lambda given, wanted: wanted.view(given.shape), results, expected)
    assert same_number(results, expected)


def test_each_step_draws_another_mask_and_moves_the_statistics_on():
    net, x = NETS["own cell"]
    params, y, cache, _ = run(net, x)
    step, state, expected = params, STATE, []
    for t in range(6):
        state, of_step = MIXED.forward(step, (X[:, t], state))
        step = MIXED.advance(step, of_step)
        expected.append(state)
    assert same_bits(y[0], torch.stack(expected, 1))
    assert same_bits(y[1], state)
    assert same_bits(net.advance(params, cache), step)


def test_predict_keeps_the_states_still():
    net, x = NETS["own cell"]
    params, y, _, _ = run(net, x)
    state = STATE
    for t in range(6):
        state = MIXED.predict(params, (X[:, t], state))
    assert same_bits(net.predict(params, x)[1], state)
    assert not same_bits(state, y[1])


def test_a_reversed_scan_is_a_scan_of_the_reversed_sequence():
    net = lf.scan(lf.lstm_cell(5), reverse=True)
    params, y, cache, g = run(net, X, torch.float64)
    forward = lf.scan(lf.lstm_cell(5))
    flipped, of_flipped = forward.forward(params, X.double().flip(1))
    assert same_bits(y, flipped.flip(1))
    dx, dparams = forward.backward(params, of_flipped, g.flip(1))
    assert same_bits(net.backward(params, cache, g), (dx.flip(1), dparams))


def test_the_gradient_of_the_parameters_takes_its_memory_once():
    # The states are small, and the matrix is large: the memory is that of the gradients.
    net = lf.scan(lf.serial(lf.parallel(lf.dense(200), lf.identity()), lf.add()))
    params, _, cache, g = run(net, (normal(1, 12, 100), normal(1, 200)))
    weight = params[0][0].weight.nbytes
    for backward in (net.backward, net.grads, partial(lf.walk.gradients, net)):
        assert 2 * weight <= peak_bytes(backward, params, cache, g) < 4 * weight


@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize("name", ["own cell", "lstm"])
def test_a_compiled_step_gives_the_same(name):
    net, x = NETS[name]
    first = lf.serial(net, lf.select(0)) if type(x) is tuple else net
    check_compiled(first, x)


@pytest.mark.parametrize(
    ("run_it", "message"),
    [
        (
            lambda: run(lf.scan(lf.rnn_cell(5)), (X, STATE, None, None)),
            r"a sequence, \(sequence, state\) or \(sequence, state, mask\)",
        ),
        (lambda: run(lf.scan(lf.rnn_cell(5), dim=3), X), "an axis dim=3"),
        (lambda: run(lf.scan(lf.rnn_cell(5)), X[:, :0]), "at least one step in axis 1"),
        (
            lambda: run(lf.scan(lf.rnn_cell(5), has_output=True), X),
            r"scan\[0\] rnn_cell\(5\): expected the cell to return \(y_t, s_t\)",
        ),
        (lambda: run(lf.scan(lf.rnn_cell(5)), (X, STATE[:, :2])), r"scan\[0\] rnn_cell\(5\): "),
        (lambda: lf.scan(3), "expected cell to be a Layer"),
    ],
)
def test_what_does_not_fit_is_refused(run_it, message):
    with pytest.raises(lf.LayerError, match=message):
        run_it()


def test_a_wrong_cotangent_is_refused():
    net = lf.scan(lf.rnn_cell(5))
    params, _, cache, g = run(net, (X, STATE))
    for wrong in (g[0], (g[0][:, 1:], g[1])):
        with pytest.raises(lf.LayerError, match="scan: expected g"):
            net.backward(params, cache, wrong)


def test_the_name_is_the_code_that_makes_it():
    assert lf.scan(lf.rnn_cell(5)).name == "scan(rnn_cell(5))"
    net = lf.scan(lf.rnn_cell(5), dim=0, reverse=True, has_output=True)
    assert net.name == "scan(rnn_cell(5), dim=0, reverse=True, has_output=True)"


class Operations(TorchDispatchMode):
    """Counts operations, and the bytes of their results."""

    def __init__(self):
        super().__init__()
        self.counts = torch.zeros(2, dtype=torch.int64)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        self.counts += torch.tensor([1, sum(leaf.nbytes for leaf in lf.tree.leaves((made,)))])
        return made


@pytest.mark.parametrize("mask", [False, True], ids=["whole", "masked"])
@pytest.mark.parametrize("cell", [lf.lstm_cell(5), MIXED], ids=["lstm", "with states"])
def test_each_further_step_costs_as_much_as_the_one_before(cell, mask):
    def costs(length):
        x = normal(4, length, 3)
        net, given = lf.scan(cell), (x, None, torch.ones(4, length, dtype=torch.bool))
        given = (given[0], *((PAIR if cell is not MIXED else STATE), given[2])[: 1 + mask])
        params = net.init(lf.Key(0), given)
        with Operations() as counted:
            y, cache = net.forward(params, given)
            net.backward(params, cache, lf.tree.map(torch.ones_like, y))
            net.advance(params, cache)
        kept = {leaf.untyped_storage() for leaf in lf.tree.leaves(cache, states=True)}
        return torch.cat((counted.counts, torch.tensor([sum(each.nbytes() for each in kept)])))

    once, twice, thrice = map(costs, (20, 40, 60))
    assert same_bits(thrice - twice, twice - once)
