"""A mask in `scan`: a masked step keeps the state, as if each sequence were truncated."""

import pytest
import torch
from helpers.cases.case import normal
from helpers.compare import same_number
from helpers.compositions import check_compiled, check_walks, run

import lincoln_fn as lf
from lincoln_fn import per_example

LENGTHS = torch.tensor([3, 1, 6, 4])
MASK = torch.arange(6) < LENGTHS[:, None]
X = normal(4, 6, 3)
STATE = normal(4, 5, seed=1)
PAIR = (normal(4, 5, seed=2), normal(4, 5, seed=3))
TOKENS = torch.tensor(
    [[4, 2, 0, 1, 0, 2], [3, 1, 5, 2, 1, 1], [1, 1, 0, 0, 3, 4], [2, 3, 1, 0, 5, 1]]
)
OWN = lf.serial(lf.parallel(lf.dense(5), lf.dense(5)), lf.add(), lf.tanh())
WITH_OUTPUT = lf.serial(OWN, lf.branch(lf.dense(2), lf.identity(), merge=lf.identity()))
READER = lf.serial(lf.parallel(lf.embedding(6, 4), lf.identity()), lf.gru_cell(4))
NETS = {
    "lstm": (lf.scan(lf.lstm_cell(5)), (X, PAIR, MASK)),
    "lstm without a state": (lf.scan(lf.lstm_cell(5)), (X, None, MASK)),
    "reversed": (lf.scan(lf.gru_cell(5), reverse=True), (X, None, MASK)),
    "own cell": (lf.scan(OWN), (X, STATE, MASK)),
    "with an output": (lf.scan(WITH_OUTPUT, has_output=True), (X, STATE, MASK)),
    "gaps": (lf.scan(OWN), (X, STATE, MASK.flip(1) ^ MASK)),
    "first axis": (lf.scan(OWN, dim=0), (X.transpose(0, 1), STATE, MASK.mT)),
    "from the last axis": (lf.scan(OWN, dim=-2), (X, STATE, MASK)),
    "tokens": (lf.scan(READER), (TOKENS, normal(4, 4), MASK)),
    "without a batch": (lf.scan(lf.rnn_cell(5), dim=0), (X[0], None, MASK[0])),
    "no mask": (lf.scan(OWN), (X, STATE, None)),
}
each = pytest.mark.parametrize("name", NETS)


@each
def test_gradients_are_proven(name):
    layer, x = NETS[name]
    lf.testing.check_layer(layer, layer.init(lf.Key(1), x), x)


@each
def test_walks_have_the_bits_of_backward(name):
    check_walks(*NETS[name])


def example(n, arrays):
    return lf.tree.map(lambda leaf: leaf[n : n + 1], arrays)


@pytest.mark.parametrize("name", ["lstm", "reversed", "own cell", "with an output"])
def test_it_equals_each_sequence_truncated(name):
    net, x = NETS[name]
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


@pytest.mark.parametrize(
    ("layer", "cell"),
    [(lf.rnn(5), lf.rnn_cell(5)), (lf.gru(5), lf.gru_cell(5)), (lf.lstm(5), lf.lstm_cell(5))],
    ids=["rnn", "gru", "lstm"],
)
@pytest.mark.parametrize("mask", [MASK, MASK.flip(1)], ids=["after", "before"])
def test_it_equals_the_recurrent_layers(layer, cell, mask):
    params, y, cache, g = run(layer, (X, None, mask), torch.float64)
    net = lf.scan(cell)
    own = params.cells[0][0]
    own_y, own_cache = net.forward(own, (X.double(), None, mask))
    own_g = (g[0], lf.tree.map(lambda leaf: leaf[0], g[1]))
    dx, dparams = layer.backward(params, cache, g)
    results = own_y, *net.backward(own, own_cache, own_g)
    expected = y, dx, dparams.cells[0][0]
    expected = lf.tree.map(lambda given, wanted: wanted.view(given.shape), results, expected)
    assert same_number(results, expected)


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


def test_each_example_has_a_gradient_of_its_own():
    net = lf.serial(lf.scan(lf.lstm_cell(5)), lf.select(0))
    x = (X.double(), None, MASK)
    params = net.init(lf.Key(1), x)
    y, cache = net.forward(params, x)
    g = normal(*y.shape, seed=7).double()
    found = per_example.gradients(net, params, cache, g)
    norms = per_example.squared_norms(net, params, cache, g)
    for n in range(4):
        only = torch.zeros_like(g).index_copy(0, torch.tensor([n]), g[n : n + 1])
        of_n = lf.tree.map(lambda leaf, n=n: leaf[n], found)
        assert same_number(of_n, net.grads(params, cache, only))
    squares = sum(leaf.flatten(1).square().sum(1) for leaf in lf.tree.leaves(found))
    assert same_number(norms, squares)


@pytest.mark.usefixtures("uncompiled")
def test_a_compiled_step_gives_the_same():
    check_compiled(lf.serial(lf.scan(lf.gru_cell(5)), lf.select(0)), (X, STATE, MASK))


@pytest.mark.parametrize(
    ("net", "x", "message"),
    [
        (OWN, (X, STATE, MASK[:, :5]), r"scan: expected a bool mask of shape \(4, 6\), got bool"),
        (OWN, (X, STATE, MASK.float()), r"a bool mask of shape \(4, 6\), got float32\[4, 6\]"),
        (OWN, (X, STATE, MASK[:, 0]), r"a bool mask of shape \(4, 6\), got bool\[4\]"),
        (
            lf.serial(lf.select(0), lf.permute(1, 0)),
            (X, STATE, MASK),
            r"begin with the axes of the mask, \(4,\), got \(3, 4\)",
        ),
    ],
    ids=["length", "dtype", "axes", "state"],
)
def test_what_does_not_fit_is_refused(net, x, message):
    with pytest.raises(lf.LayerError, match=message):
        run(lf.scan(net), x)
