"""A compiled step's loops for sequences of lstm take an embedding's codes as its input."""

import pytest
import torch
from test_compile import assert_compiles, compiles
from test_compile_rewrites import assert_same_after, drawn, run, targets, traced
from test_lstm_loops import by_cells, cells

import lincoln_fn as lf
from lincoln_fn.compiled import lstm, lstm_of_codes
from lincoln_fn.compiled.loops import lanes

aten = torch.ops.aten
pytestmark = pytest.mark.usefixtures("needs_vectors")

CODES = torch.tensor([[0, 2, 2, 5], [5, 1, 5, 0], [2, 2, 2, 2], [1, 5, 0, 0], [5, 5, 1, 1]])
TARGET = torch.tensor([0, 1, 2, 1, 0])


def by_codes(table, params, state, g, dstate, reverse):
    y, *last, notes = lstm_of_codes.forward(table, CODES, *params, *state, reverse)
    dtable, dw_ih, dw_hh, db, *first = lstm_of_codes.backward(
        table, CODES, *params, *state, y, *last, g, *dstate, reverse, notes
    )
    return (y.transpose(0, 1), *last, dtable, dw_ih.mT, dw_hh.mT, db, db, *first)


@compiles
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("threads", [1, 2])
def test_equal_the_cells(reverse, threads):
    _, *given = cells(5, 4, 3, 2 * lanes())
    table = drawn(11, 7, 3)  # of which rows 3, 4 and 6 are not used
    torch.set_num_threads(threads)
    ours = by_codes(table, *given, reverse)
    y, h, c, dx, *others = by_cells(table[CODES], *given, reverse)
    dtable = torch.zeros(7, 3).double().index_add(0, CODES.flatten(), dx.flatten(0, 1))
    for made, exact in zip(ours, (y, h, c, dtable, *others), strict=True):
        assert made.shape == exact.shape
        assert (made - exact).abs().max() <= 4e-6 * exact.abs().max()


def reader(*between, entries=7, padding_idx=None, **form):
    table = lf.embedding(entries, 3, padding_idx=padding_idx)
    return lf.serial(table, *between, lf.lstm(lanes(), **form), lf.flatten(), lf.dense(3))


def rewritten(graph):
    lstm.rewrite(graph)
    lstm_of_codes.rewrite(graph)


@compiles
@pytest.mark.parametrize("dtype", [torch.int64, torch.int32])
@pytest.mark.parametrize("layers", [1, 2])
def test_they_take_the_place_of_the_embedding(dtype, layers):
    graph, arguments = traced(reader(num_layers=layers), CODES.to(dtype), TARGET)
    assert_same_after(rewritten, graph, arguments)
    called = targets(graph)
    assert called.count(lstm_of_codes.forward) == called.count(lstm_of_codes.backward) == 1
    assert called.count(lstm.forward) == called.count(lstm.backward) == layers - 1
    assert aten.embedding_dense_backward.default not in called


@compiles
def test_a_table_that_is_not_trained_has_no_gradient():
    net = lf.serial(lf.frozen(lf.embedding(7, 3)), reader().parts[1], lf.flatten(), lf.dense(3))
    graph, arguments = traced(net, CODES, TARGET)
    assert_same_after(rewritten, graph, arguments)
    assert targets(graph).count(lstm_of_codes.backward) == 1


OTHERS = {
    "padding_idx": (lambda: reader(padding_idx=2), True),
    "two directions": (lambda: reader(bidirectional=True), True),
    "a layer between": (lambda: reader(lf.tanh()), False),
    "a table longer than the sequences": (lambda: reader(entries=21), True),
    "as long as they are": (lambda: reader(entries=20), False),
}


@compiles
@pytest.mark.parametrize("name", OTHERS)
def test_which_embeddings_stay(name):
    make, has_table = OTHERS[name]
    graph, arguments = traced(make(), CODES, TARGET)
    before = run(graph, arguments)
    rewritten(graph)
    taken = lstm_of_codes.forward in targets(graph)
    assert taken == (name == "as long as they are")
    assert (lstm.forward in targets(graph)) != taken
    assert (aten.embedding_dense_backward.default in targets(graph)) == (has_table or not taken)
    for ours, theirs in zip(run(graph, arguments), before, strict=True):
        torch.testing.assert_close(ours, theirs)


@compiles
def test_a_table_whose_rows_are_too_many_for_the_cache_stays(monkeypatch):
    monkeypatch.setattr(lstm_of_codes, "_MOST", 7 * 4 * lanes() - 1)
    graph, _ = traced(reader(), CODES, TARGET)
    rewritten(graph)
    assert lstm_of_codes.forward not in targets(graph)


@compiles
def test_an_embedding_that_is_used_twice_stays():
    net = lf.serial(
        lf.embedding(7, lanes()), lf.residual(lf.lstm(lanes())), lf.flatten(), lf.dense(3)
    )
    graph, arguments = traced(net, CODES, TARGET)
    assert_same_after(rewritten, graph, arguments)
    assert lstm_of_codes.forward not in targets(graph)


@compiles
@pytest.mark.parametrize("donate", [False, True])
def test_a_compiled_step_is_the_step(donate):
    assert_compiles(reader(), lf.optim.adam(), CODES, TARGET, donate=donate)


@compiles
def test_a_code_out_of_range_is_named():
    net, loss = reader(), lf.losses.softmax_cross_entropy()
    step = lf.make_step(net, loss, lf.optim.sgd(0.1))
    state = lf.init_state(net, step.optimizer, lf.Key(0), CODES)
    with pytest.raises(lf.LayerError, match=r"embedding\(7, 3\): expected .* got .*7"):
        lf.compile(step)(state, (CODES.clamp(max=3) + 4, TARGET))


@compiles
def test_a_gradient_of_other_codes_stays():
    graph, _ = traced(reader(), CODES, TARGET)
    kernel = aten.embedding_dense_backward.default
    (dtable,) = graph.graph.find_nodes(op="call_function", target=kernel)
    g, codes, *others = dtable.args
    with graph.graph.inserting_before(dtable):
        flipped = graph.graph.call_function(aten.flip.default, (codes, [0]))
    dtable.args = (g, flipped, *others)
    rewritten(graph)
    assert lstm_of_codes.forward not in targets(graph)
