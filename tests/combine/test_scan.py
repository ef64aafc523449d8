"""`scan` runs any cell over a sequence; a masked step keeps the state, as if it were not there."""

from functools import partial

import pytest
import torch
from helpers import normal, same_bits, same_number
from helpers.compositions import cast, peak_bytes, run
from helpers.loops import LENGTHS, MASK, MIXED, OWN, OWN_OUTPUT, PAIR, STATE
from helpers.loops import SEQUENCE as X
from torch.utils._python_dispatch import TorchDispatchMode

import lincoln_fn as lf


@pytest.mark.parametrize(("layer", "cell"), [
    (lf.rnn(5), lf.rnn_cell(5)),
    (lf.rnn(5, nonlinearity="relu"), lf.rnn_cell(5, nonlinearity="relu")),
    (lf.gru(5), lf.gru_cell(5)),
    (lf.lstm(5, bias=False), lf.lstm_cell(5, bias=False)),
], ids=str)  # fmt: skip
@pytest.mark.parametrize("given", ["alone", "state", "mask after", "mask before"])
def test_it_equals_the_recurrent_layers(layer, cell, given):
    state = (PAIR if "lstm" in layer.name else STATE) if given == "state" else None
    mask = {"mask after": MASK, "mask before": MASK.flip(1)}.get(given)

    def x_of(state):
        return X if given == "alone" else (X, state) if mask is None else (X, state, mask)

    x = x_of(lf.tree.map(lambda s: s.unsqueeze(0), state))
    params, y, cache, g = run(layer, x, torch.float64)
    ours = lf.scan(cell)
    own_y, own_cache = ours.forward(params.cells[0][0], cast(x_of(state)))
    own_g = g if given == "alone" else (g[0], lf.tree.map(lambda s: s[0], g[1]))
    dx, dparams = layer.backward(params, cache, g)
    results = own_y, *ours.backward(params.cells[0][0], own_cache, own_g)
    expected = y, dx, dparams.cells[0][0]
    expected = lf.tree.map(lambda given, wanted: wanted.view(given.shape), results, expected)
    assert same_number(results, expected)


TRUNCATED = {
    "lstm": (lf.scan(lf.lstm_cell(5)), PAIR),
    "reversed": (lf.scan(lf.gru_cell(5), reverse=True), None),
    "own cell": (lf.scan(OWN), STATE),
    "with an output": (lf.scan(OWN_OUTPUT, has_output=True), STATE),
}


def example(n, arrays):
    return lf.tree.map(lambda leaf: leaf[n : n + 1], arrays)


@pytest.mark.parametrize(("net", "state"), TRUNCATED.values(), ids=TRUNCATED)
def test_it_equals_each_sequence_truncated(net, state):
    x = X, state, MASK
    params, (y, last), cache, (g, of_last) = run(net, x, torch.float64)
    x = lf.tree.map(lambda leaf: leaf.double() if leaf.is_floating_point() else leaf, x)
    (dx, of_state, of_mask), dparams = net.backward(params, cache, (g, of_last))
    assert of_mask is None
    total = lf.tree.map(torch.zeros_like, dparams)
    for n, length in enumerate(LENGTHS):
        rows = slice(n, n + 1)
        state, of_end, end, of_start = (
            example(n, each) for each in (x[1], of_last, last, of_state)
        )
        (own, own_last), own_cache = net.forward(params, (x[0][rows, :length], state))
        given = (g[rows, :length], of_end)
        (own_dx, own_of_state), own_dparams = net.backward(params, own_cache, given)
        total = lf.tree.map(torch.add, total, own_dparams)
        given = y[rows, :length], end, dx[rows, :length], of_start
        assert same_number(given, (own, own_last, own_dx, own_of_state))
        assert not y[n, length:].any()
        assert not dx[n, length:].any()
    assert same_number(dparams, total)


def test_masked_gives_the_mask_to_a_scan():
    cell = lf.lstm_cell(5)
    body = lf.masked(lf.dense(4), lf.frozen(lf.scan(cell)), lf.checkpointed(lf.scan(cell)))
    net = lf.serial(body, lf.last_state(), lf.dense(2))
    x = torch.where(MASK.unsqueeze(-1), X, 7.0).double()
    params = net.init(lf.Key(0), (x, MASK))
    y = net.predict(params, (x, MASK))
    other = torch.where(MASK.unsqueeze(-1), x, -3.0)
    assert same_number(net.predict(params, (other, MASK)), y)
    for n, length in enumerate(LENGTHS):
        alone = x[n : n + 1, :length], MASK[n : n + 1, :length]
        assert same_number(net.predict(params, alone), y[n : n + 1])
    lf.testing.check_layer(net, params, (x, MASK))


def test_each_step_draws_another_mask_and_moves_the_statistics_on():
    net, x = lf.scan(MIXED), (X, STATE)
    params, y, cache, _ = run(net, x)
    step, state, expected = params, STATE, []
    for t in range(6):
        state, of_step = MIXED.forward(step, (X[:, t], state))
        step = MIXED.advance(step, of_step)
        expected.append(state)
    assert same_bits((y[0], y[1]), (torch.stack(expected, 1), state))
    assert same_bits(net.advance(params, cache), step)


def test_predict_keeps_the_states_still():
    net, x = lf.scan(MIXED), (X, STATE)
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


class Operations(TorchDispatchMode):
    """Counts operations, and the bytes of their results."""

    def __init__(self):
        super().__init__()
        self.counts = torch.zeros(2, dtype=torch.int64)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        self.counts += torch.tensor([1, sum(leaf.nbytes for leaf in lf.tree.leaves((made,)))])
        return made


@pytest.mark.full(but=("lstm-masked",))
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
