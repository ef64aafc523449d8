"""Recurrent layers: what the table of cases cannot say."""

import pytest
import torch
from helpers import assert_says, cast, normal, run, same_number
from helpers.cases.recurrent import MASK, SEQUENCE, STEP, states, step_state
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


CELLS = {"rnn": lf.rnn_cell(4), "gru": lf.gru_cell(4), "lstm": lf.lstm_cell(4)}


def test_errors_of_a_cell():
    cell, x = CELLS["lstm"], STEP
    params = cell.init(lf.Key(0), x)
    gru_params = CELLS["gru"].init(lf.Key(0), x)
    both = step_state(2, 5)
    for params_given, given, message in (
        (gru_params, x, r"lstm_cell: expected weight_hh of shape \(4, 16\), got \(4, 12\)"),
        (params, (x,), r"lstm_cell: expected x or \(x, state\), got \(float32\[5, 3\],\)"),
        (params, x[:, :2], r"lstm_cell: expected x of shape \(..., 3\), got \(5, 2\)"),
        (params, (x, both[0]), r"the state to have 2 of shape \(5, 4\), got \[\(5, 4\)\]"),
        (params, (x, (both[0], both[1].double())), "the state of dtype torch.float32, got"),
    ):
        with pytest.raises(lf.LayerError, match=message):
            cell.forward(params_given, given)
    _, cache = cell.forward(params, x)
    with pytest.raises(lf.LayerError, match=r"lstm_cell: expected g to have 2 of shape \(5, 4\)"):
        cell.backward(params, cache, both[0])
    with pytest.raises(lf.LayerError, match=r"lstm_cell: expected g of dtype torch.float32"):
        cell.backward(params, cache, (both[0].double(), both[1]))
    assert_says("lstm_cell: expected weight_hh", cell.backward, gru_params, cache, both)


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


RNN, LSTM = lf.rnn(4), lf.lstm(4)
ENTRY = "True where the sequence has an entry, got"
ERRORS = [
    *((layer, x,
            f"rnn: expected a sequence of shape {axes} or (length, n_in), got {tuple(x.shape)}")
        for layer, axes in ((RNN, "(batch, length, n_in)"),
            (lf.rnn(4, batch_first=False), "(length, batch, n_in)"))
        for x in (SEQUENCE[0, 0], SEQUENCE[None])),
    (RNN, SEQUENCE[0, :, :2], "rnn: expected a sequence of shape (length, 3), got (5, 2)"),
    (lf.lstm(4, batch_first=False), (SEQUENCE, states(2)),
        "lstm: expected the state to have 2 of shape (1, 5, 4), got [(1, 2, 4), (1, 2, 4)]"),
    (LSTM, nn.utils.rnn.pack_padded_sequence(SEQUENCE, MASK.sum(1), True, enforce_sorted=False),
        "lstm: expected a padded sequence and a mask, got PackedSequence; use "
        "torch.nn.utils.rnn.pad_packed_sequence"),
    (RNN, SEQUENCE[..., :2], "rnn: expected a sequence of shape (batch, length, 3), got (2, 5, 2)"),
    (RNN, (SEQUENCE,),
        "rnn: expected x or (x, state) or (x, state, mask), got (float32[2, 5, 3],)"),
    (LSTM, (SEQUENCE, states(2, hidden=3)),
        "lstm: expected the state to have 2 of shape (1, 2, 4), got [(1, 2, 3), (1, 2, 3)]"),
    (LSTM, (SEQUENCE, None, MASK.tolist()),
        f"lstm: expected a mask of bools of shape (2, 5), {ENTRY} [[True, True, True, False"),
]  # fmt: skip


@pytest.mark.parametrize(("layer", "x", "message"), ERRORS, ids=range(len(ERRORS)))
def test_errors_say_what_was_expected_and_given(layer, x, message):
    with pytest.raises(lf.LayerError) as caught:
        layer.forward(layer.init(lf.Key(0), SEQUENCE), x)
    assert str(caught.value).startswith(message)


def test_cotangents_of_others_are_refused():
    params = LSTM.init(lf.Key(0), SEQUENCE)
    (y, last), cache = LSTM.forward(params, (SEQUENCE, None))
    with pytest.raises(lf.LayerError, match=r"lstm: expected g to be \(g of the outputs, g of the"):
        LSTM.backward(params, cache, y)
    with pytest.raises(lf.LayerError, match=r"lstm: expected g of shape \(2, 5, 4\), got \(2, 4"):
        LSTM.backward(params, cache, (y[:, :4], last))
    with pytest.raises(
        lf.LayerError, match="lstm: expected g of the last state to have 2 of shape"
    ):
        LSTM.backward(params, cache, (y, last[0]))


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
