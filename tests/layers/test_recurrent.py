"""Recurrent layers: what the table of cases cannot say."""

import pytest
import torch
from helpers import cast, normal, run, same_number
from helpers.cases.recurrent import MASK, SEQUENCE, STEP, states, step_state
from helpers.refusals import refusals
from torch import nn

import lincoln_fn as lf

KINDS = {"rnn": (lf.rnn(4), 1), "gru": (lf.gru(4), 1), "lstm": (lf.lstm(4), 2)}
each = pytest.mark.parametrize(("layer", "count"), KINDS.values(), ids=KINDS)


@each
def test_an_empty_sequence_hands_the_state_on(layer, count):
    params = layer.init(lf.Key(1), SEQUENCE)
    x = (SEQUENCE[:, :0], states(count))
    (y, last), cache = layer.forward(params, x)
    assert y.shape == (2, 0, 4)
    assert same_number(last, x[1])
    g_state = states(count, seed=9)
    dx, dparams = layer.backward(params, cache, (y, g_state))
    assert dx[0].shape == (2, 0, 3)
    assert same_number(dx[1], g_state)
    assert lf.tree.same_structure(dparams, params)
    assert all(not leaf.any() for leaf in lf.tree.leaves(dparams))
    y, cache = layer.forward(params, SEQUENCE[:, :0])
    assert lf.per_example.squared_norms(layer, params, cache, y).tolist() == [0, 0]


@each
def test_an_example_masked_everywhere_keeps_its_state_and_gives_zeros(layer, count):
    params = layer.init(lf.Key(1), SEQUENCE)
    mask = torch.zeros(2, 5, dtype=torch.bool)
    (y, last), (dx, dstate, dmask), dparams = run(
        layer, params, (SEQUENCE, states(count), mask), lambda y: lf.tree.map(torch.ones_like, y)
    )
    assert dmask is None
    assert not y.any()
    assert not dx.any()
    assert same_number((last, dstate), (states(count), lf.tree.map(torch.ones_like, last)))
    assert all(not leaf.any() for leaf in lf.tree.leaves(dparams))


def test_initial_values_are_uniform_within_the_inverse_root_of_the_hidden_size():
    layer = lf.lstm(16, num_layers=2, bidirectional=True)
    params = layer.init(lf.Key(0), normal(2, 5, 3))
    leaves = lf.tree.leaves(params)
    assert [tuple(cell.weight_ih.shape) for pair in params.cells for cell in pair] == [
        (3, 64),
        (3, 64),
        (32, 64),
        (32, 64),
    ]
    assert len({leaf.flatten()[0].item() for leaf in leaves}) == len(leaves)
    for leaf in leaves:
        assert leaf.abs().max() < 0.25
        assert leaf.abs().max() > 0.2


RNN, BATCH_LAST, LSTM = lf.rnn(4), lf.rnn(4, batch_first=False), lf.lstm(4)
PARAMS = LSTM.init(lf.Key(0), SEQUENCE)
(Y, LAST), CACHE = LSTM.forward(PARAMS, (SEQUENCE, None))
PACKED = nn.utils.rnn.pack_padded_sequence(SEQUENCE, MASK.sum(1), True, enforce_sorted=False)
CELL, (H, C) = lf.lstm_cell(4), step_state(2, 5)
OF_CELL, OF_GRU = (cell.init(lf.Key(0), STEP) for cell in (CELL, lf.gru_cell(4)))
_, OF_STEP = CELL.forward(OF_CELL, STEP)


def given(layer, x):
    return layer.forward(layer.init(lf.Key(0), SEQUENCE), x)


test_what_does_not_fit_is_refused = refusals("""
given(RNN, SEQUENCE[0, 0]) -> ^rnn: expected a sequence of shape (batch, length, n_in) or (length,
    n_in), got (3,)
given(RNN, SEQUENCE[None]) -> ^rnn: expected a sequence of shape (batch, length, n_in) or (length,
    n_in), got (1, 2, 5, 3)
given(BATCH_LAST, SEQUENCE[0, 0]) -> ^rnn: expected a sequence of shape (length, batch, n_in) or
    (length, n_in), got (3,)
given(BATCH_LAST, SEQUENCE[None]) -> ^rnn: expected a sequence of shape (length, batch, n_in) or
    (length, n_in), got (1, 2, 5, 3)
given(RNN, SEQUENCE[0, :, :2]) -> ^rnn: expected a sequence of shape (length, 3), got (5, 2)
given(lstm(4, batch_first=False), (SEQUENCE, states(2))) -> ^lstm: expected the state to have 2 of
    shape (1, 5, 4), got [(1, 2, 4), (1, 2, 4)]
given(LSTM, PACKED) -> ^lstm: expected a padded sequence and a mask, got PackedSequence; use
    torch.nn.utils.rnn.pad_packed_sequence
given(RNN, SEQUENCE[..., :2]) -> ^rnn: expected a sequence of shape (batch, length, 3), got (2, 5,
    2)
given(RNN, (SEQUENCE,)) -> ^rnn: expected x or (x, state) or (x, state, mask), got (float32[2, 5,
    3],)
given(LSTM, (SEQUENCE, states(2, hidden=3))) -> ^lstm: expected the state to have 2 of shape (1, 2,
    4), got [(1, 2, 3), (1, 2, 3)]
given(LSTM, (SEQUENCE, None, MASK.tolist())) -> ^lstm: expected a mask of bools of shape (2, 5),
    True where the sequence has an entry, got [[True, True, True, False
LSTM.backward(PARAMS, CACHE, Y) -> lstm: expected g to be (g of the outputs, g of the
LSTM.backward(PARAMS, CACHE, (Y[:, :4], LAST)) -> lstm: expected g of shape (2, 5, 4), got (2, 4
LSTM.backward(PARAMS, CACHE, (Y, LAST[0])) -> lstm: expected g of the last state to have 2 of shape
CELL.forward(OF_GRU, STEP) -> lstm_cell: expected weight_hh of shape (4, 16), got (4, 12)
CELL.forward(OF_CELL, (STEP,)) -> lstm_cell: expected x or (x, state), got (float32[5, 3],)
CELL.forward(OF_CELL, STEP[:, :2]) -> lstm_cell: expected x of shape (..., 3), got (5, 2)
CELL.forward(OF_CELL, (STEP, H)) -> the state to have 2 of shape (5, 4), got [(5, 4)]
CELL.forward(OF_CELL, (STEP, (H, C.double()))) -> the state of dtype torch.float32, got
CELL.backward(OF_CELL, OF_STEP, H) -> lstm_cell: expected g to have 2 of shape (5, 4)
CELL.backward(OF_CELL, OF_STEP, (H.double(), C)) -> lstm_cell: expected g of dtype torch.float32
CELL.backward(OF_GRU, OF_STEP, (H, C)) -> lstm_cell: expected weight_hh
""")


@pytest.mark.parametrize("make", [lambda layer: layer, lf.fast], ids=["formula", "fast"])
@pytest.mark.parametrize("large", ["x", "the state", "g"])
def test_two_layers_of_two_directions_are_right_at_1e30(large, make):
    layer = make(lf.lstm(3, num_layers=2, bidirectional=True))
    sizes = {name: 1e30 if name == large else 1.0 for name in ("x", "the state", "g")}
    x = sizes["x"] * normal(2, 5, 4)
    state = normal(4, 2, 3, seed=1), sizes["the state"] * normal(4, 2, 3, seed=2)
    params = layer.init(lf.Key(0), x)
    g = lf.tree.map(lambda y: sizes["g"] * normal(*y.shape, seed=3), layer.predict(params, x))
    results = []
    for dtype in (torch.float32, torch.float64):
        own, given, cotangent = lf.tree.map(lambda t, d=dtype: t.to(d), (params, (x, state), g))
        of_last = lf.tree.map(torch.ones_like, given[1])
        results.append(cast(run(layer, own, given, (cotangent, of_last)), torch.float32))
    assert same_number(*results)
