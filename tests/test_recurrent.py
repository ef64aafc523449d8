"""Recurrent layers: what the table of cases cannot say."""

import pytest
import torch
from cases.case import normal
from cases.recurrent import MASK, SEQUENCE, states

import lincoln_fn as lf

KINDS = {"rnn": (lf.rnn(4), 1), "gru": (lf.gru(4), 1), "lstm": (lf.lstm(4), 2)}
each = pytest.mark.parametrize(("layer", "count"), KINDS.values(), ids=KINDS)


def sigmoid(x):
    return 1 / (1 + torch.exp(-x))


def written_out(name, cell, x, state):
    """Run one step of one example by the formulas of the layer's docstring."""
    a = x @ cell.weight_ih + cell.bias_ih
    b = state[0] @ cell.weight_hh + cell.bias_hh
    if name == "rnn":
        return (torch.tanh(a + b),)
    if name == "gru":
        r = sigmoid(a[:4] + b[:4])
        z = sigmoid(a[4:8] + b[4:8])
        n = torch.tanh(a[8:] + r * b[8:])
        return ((1 - z) * n + z * state[0],)
    i, f, g, o = (a + b).view(4, 4)
    c = sigmoid(f) * state[1] + sigmoid(i) * torch.tanh(g)
    return sigmoid(o) * torch.tanh(c), c


@pytest.mark.parametrize("name", KINDS)
def test_forward_is_the_formula_written_out(name):
    layer, count = KINDS[name]
    params = lf.tree.map(torch.Tensor.double, layer.init(lf.Key(1), SEQUENCE))
    x = SEQUENCE.double()
    y = layer.predict(params, x)
    for n in range(2):
        state = (torch.zeros(4, dtype=torch.float64),) * count
        for t in range(5):
            state = written_out(name, params.cells[0][0], x[n, t], state)
            torch.testing.assert_close(y[n, t], state[0], rtol=1e-12, atol=1e-14)


@each
def test_a_sequence_in_two_pieces_equals_the_whole(layer, count):
    params = layer.init(lf.Key(1), SEQUENCE)
    first = states(count)
    whole, last = layer.predict(params, (SEQUENCE, first))
    head, between = layer.predict(params, (SEQUENCE[:, :2], first))
    tail, last_again = layer.predict(params, (SEQUENCE[:, 2:], between))
    torch.testing.assert_close(torch.cat([head, tail], 1), whole)
    torch.testing.assert_close(last_again, last)


@each
def test_an_empty_sequence_hands_the_state_on(layer, count):
    params = layer.init(lf.Key(1), SEQUENCE)
    x = (SEQUENCE[:, :0], states(count))
    (y, last), cache = layer.forward(params, x)
    assert y.shape == (2, 0, 4)
    torch.testing.assert_close(last, x[1])
    g_state = states(count, seed=9)
    dx, dparams = layer.backward(params, cache, (y, g_state))
    assert dx[0].shape == (2, 0, 3)
    torch.testing.assert_close(dx[1], g_state)
    assert lf.tree.same_structure(dparams, params)
    assert all(not leaf.any() for leaf in lf.tree.leaves(dparams))


@each
def test_an_example_masked_everywhere_keeps_its_state_and_gives_zeros(layer, count):
    params = layer.init(lf.Key(1), SEQUENCE)
    mask = torch.zeros(2, 5, dtype=torch.bool)
    (y, last), cache = layer.forward(params, (SEQUENCE, states(count), mask))
    assert not y.any()
    torch.testing.assert_close(last, states(count))
    g = (torch.ones_like(y), lf.tree.map(torch.ones_like, last))
    (dx, dstate, dmask), dparams = layer.backward(params, cache, g)
    assert dmask is None
    assert not dx.any()
    torch.testing.assert_close(dstate, g[1])
    assert all(not leaf.any() for leaf in lf.tree.leaves(dparams))


@each
def test_what_a_mask_hides_does_not_matter(layer, count):
    params = layer.init(lf.Key(1), SEQUENCE)
    other = torch.where(MASK.unsqueeze(-1), SEQUENCE, 1e4)
    for given, expected in zip(
        lf.tree.leaves(layer.predict(params, (other, None, MASK))),
        lf.tree.leaves(layer.predict(params, (SEQUENCE, None, MASK))),
        strict=True,
    ):
        assert torch.equal(given, expected)


@each
def test_bfloat16_and_views_are_taken(layer, count):
    x = normal(5, 2, 3).transpose(0, 1)
    params = layer.init(lf.Key(1), x)
    y, cache = layer.forward(params, x)
    dense, _ = layer.forward(params, x.contiguous())
    torch.testing.assert_close(y, dense)
    g = normal(5, 2, 4, seed=2).transpose(0, 1)
    for given, expected in zip(
        lf.tree.leaves(layer.backward(params, cache, g)),
        lf.tree.leaves(layer.backward(params, cache, g.contiguous())),
        strict=True,
    ):
        torch.testing.assert_close(given, expected)

    half = lf.tree.map(torch.Tensor.bfloat16, params)
    y_half, cache_half = layer.forward(half, x.bfloat16())
    dx, dparams = layer.backward(half, cache_half, g.bfloat16())
    assert {leaf.dtype for leaf in (y_half, dx, *lf.tree.leaves(dparams))} == {torch.bfloat16}
    torch.testing.assert_close(y_half.float(), y, rtol=0.05, atol=0.05)


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


def test_names_spell_the_code_that_makes_them():
    for spelling in (
        "rnn(4, nonlinearity='relu')",
        "gru(4, num_layers=2, bias=False)",
        "lstm(4, bidirectional=True)",
    ):
        assert repr(eval(spelling, vars(lf))) == spelling


RNN, LSTM = lf.rnn(4), lf.lstm(4)
ERRORS = [
    (RNN, SEQUENCE[0], "rnn: expected a sequence of shape (batch, length, n_in), got (5, 3)"),
    (
        RNN,
        SEQUENCE.long(),
        "rnn: expected x of a floating dtype, got torch.int64; convert it first",
    ),
    (RNN, SEQUENCE.double(), "rnn: expected x of dtype torch.float32, got torch.float64"),
    (RNN, SEQUENCE[..., :2], "rnn: expected a sequence of shape (batch, length, 3), got (2, 5, 2)"),
    (
        RNN,
        (SEQUENCE,),
        "rnn: expected x or (x, state) or (x, state, mask), got (float32[2, 5, 3],)",
    ),
    (
        RNN,
        (SEQUENCE, states(2)),
        "rnn: expected the state to have 1 of shape (1, 2, 4), got [(1, 2, 4), (1, 2, 4)]",
    ),
    (
        LSTM,
        (SEQUENCE, states(2, hidden=3)),
        "lstm: expected the state to have 2 of shape (1, 2, 4), got [(1, 2, 3), (1, 2, 3)]",
    ),
    (
        LSTM,
        (SEQUENCE, None, MASK[:, :2]),
        "lstm: expected a bool mask of shape (2, 5), got bool[2, 2]",
    ),
    (
        LSTM,
        (SEQUENCE, None, MASK.float()),
        "lstm: expected a bool mask of shape (2, 5), got float32",
    ),
]


@pytest.mark.parametrize(("layer", "x", "message"), ERRORS, ids=range(len(ERRORS)))
def test_errors_say_what_was_expected_and_given(layer, x, message):
    with pytest.raises(lf.LayerError) as caught:
        layer.forward(layer.init(lf.Key(0), SEQUENCE), x)
    assert str(caught.value).startswith(message)


def test_caches_params_and_cotangents_of_others_are_refused():
    params = LSTM.init(lf.Key(0), SEQUENCE)
    (y, last), cache = LSTM.forward(params, (SEQUENCE, None))
    gru = lf.gru(4)
    gru_params = gru.init(lf.Key(0), SEQUENCE)
    with pytest.raises(lf.LayerError, match=r"gru: expected params gru.Params, got Params\(cells"):
        gru.forward(params, SEQUENCE)
    with pytest.raises(lf.LayerError, match="gru: expected the cache of its own forward"):
        gru.backward(gru_params, cache, y)
    with pytest.raises(lf.LayerError, match=r"lstm: expected g to be \(g of the outputs, g of the"):
        LSTM.backward(params, cache, y)
    with pytest.raises(lf.LayerError, match=r"lstm: expected g of shape \(2, 5, 4\), got \(2, 4"):
        LSTM.backward(params, cache, (y[:, :4], last))
    with pytest.raises(
        lf.LayerError, match="lstm: expected g of the last state to have 2 of shape"
    ):
        LSTM.backward(params, cache, (y, last[0]))


def test_hyperparameters_are_checked():
    with pytest.raises(ValueError, match="lstm: expected hidden_size of at least 1, got 0"):
        lf.lstm(0)
    with pytest.raises(ValueError, match="gru: expected num_layers of at least 1, got 0"):
        lf.gru(3, num_layers=0)
    with pytest.raises(ValueError, match="rnn: expected nonlinearity tanh or relu, got 'gelu'"):
        lf.rnn(3, nonlinearity="gelu")
