"""A compiled step's loops for sequences of lstm compute what its cells do."""

from functools import partial
from operator import getitem

import pytest
import torch
from helpers import assert_compiles, assert_same_after, compiles, drawn, same_number
from helpers.graphs import targets, traced
from helpers.kernels_together import together

import lincoln_fn as lf
from lincoln_fn.compiler.inductor.settings import lanes
from lincoln_fn.compiler.passes import sequences
from lincoln_fn.compiler.passes.rewriting import copy_views
from lincoln_fn.layers.common import scan
from lincoln_fn.layers.lstm import FAMILY

pytestmark = [pytest.mark.full, compiles, pytest.mark.usefixtures("needs_vectors")]


def cells(batch, length, n_in, hidden):
    """Give x, a cell's parameters, the first state, and gradients of y and of the last state."""
    x = drawn(1, batch, length, n_in)
    w_ih, w_hh = drawn(2, n_in, 4 * hidden) / 2, drawn(3, hidden, 4 * hidden) / hidden**0.5
    b_ih, b_hh = drawn(4, 4 * hidden), drawn(5, 4 * hidden)
    state = drawn(6, batch, hidden), drawn(7, batch, hidden)
    g, dstate = drawn(8, batch, length, hidden), (drawn(9, batch, hidden), drawn(10, batch, hidden))
    return x, (w_ih, w_hh, b_ih, b_hh), state, g, dstate


def by_loops(x, params, state, g, dstate, reverse):
    steps = x.transpose(0, 1)
    y, last_h, last_c, notes = sequences.lstm_forward(steps, *params, *state, reverse)
    kept = tuple(note.clone() for note in notes)  # for those that are given are written over
    dx, dw_ih, dw_hh, db, dh, dc = sequences.lstm_backward(
        steps, *params, *state, y, last_h, last_c, g, *dstate, reverse, kept
    )
    forward = y.transpose(0, 1), last_h, last_c
    return (*forward, dx.transpose(0, 1), dw_ih.mT, dw_hh.mT, db, db, dh, dc)


def by_cells(x, params, state, g, dstate, reverse):
    """Compute the same step by step, in float64."""
    x, params, state, g, dstate = lf.tree.map(torch.Tensor.double, (x, params, state, g, dstate))
    cell = scan.Cell(*params)
    y, last, cache = scan.scan(FAMILY.rule, cell, x, state, None, reverse)
    dx, dcell, dfirst = scan.scan_backward(FAMILY.rule, cell, cache, g, dstate)
    return (y, *last, dx, *lf.tree.leaves(dcell), *dfirst)


# Batch, steps, vectors of units, reverse and threads: rows in parts of one size and of two; tiles
# of 1, 2, 3 and 4 vectors on the way back; one step alone; shares of two threads and of three.
SIZES = [
    (1, 4, 1, False, 1), (2, 4, 2, True, 1), (5, 4, 3, False, 1), (17, 4, 5, True, 1),
    (17, 4, 8, False, 1), (3, 1, 1, True, 1), (7, 3, 1, False, 2), (7, 3, 1, True, 3),
]  # fmt: skip


def test_equal_the_cells():
    given = [cells(batch, steps, 3, n * lanes()) for batch, steps, n, *_ in SIZES]

    def run(given, reverse, threads):
        torch.set_num_threads(threads)
        return by_loops(*given, reverse)

    calls = [partial(run, case, *size[3:]) for case, size in zip(given, SIZES, strict=True)]
    for case, size, made in zip(given, SIZES, together(calls), strict=True):
        assert same_number(made, by_cells(*case, size[3]), dtype=torch.float32)


@pytest.mark.parametrize("size", [0.0, 1e-45, 1.5e-37, 1.0, 90.0, 1e4, torch.inf])
@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_gates_at_the_extremes(size, sign):
    number = sign * size
    gates = gates_of(number)
    exact = torch.tensor(number).double()
    sigmoids = exact.sigmoid().expand(3)
    assert same_number(gates[[0, 1, 3]], sigmoids, length=4, dtype=torch.float32)
    assert same_number(gates[2], exact.tanh(), length=4, dtype=torch.float32)


def gates_of(*sums):
    """Give the four gates where their sums are a number, or each its own."""
    bias = torch.tensor(sums).expand(4).repeat_interleave(lanes())
    zero = torch.zeros(1, lanes())
    weights = torch.zeros(1, len(bias)), torch.zeros(lanes(), len(bias))
    *_, (gates, _) = sequences.lstm_forward(
        torch.ones(1, 1, 1), *weights, bias, 0 * zero[0, 0], zero, zero, False
    )
    return gates.view(4, lanes())[:, 0]


@pytest.mark.parametrize("gate", range(4))
def test_a_gate_that_is_not_a_number_stays_so(gate):
    sums = [torch.nan if i == gate else 1.0 for i in range(4)]
    assert gates_of(*sums).isnan().tolist() == [i == gate for i in range(4)]


def sequence_net(hidden, **form):
    return lf.serial(lf.lstm(hidden, **form), lf.flatten(), lf.dense(3))


def test_they_take_the_place_of_onednn_s_kernel():
    net = sequence_net(lanes(), bidirectional=True)
    graph, arguments = traced(net, drawn(1, 6, 4, 3))
    assert_same_after(sequences.rewrite, graph, arguments)
    called = targets(graph)
    assert called.count(sequences.lstm_forward) == called.count(sequences.lstm_backward) == 2
    assert not [target for target in map(str, called) if "lincoln_fn.lstm" in target]


OTHERS = {
    "half a vector": (lambda: lanes() + lanes() // 2, (6, 4, 3)),
    "one example": (lanes, (1, 4, 3)),
    "a large matrix": (lanes, (6, 2, 2**15)),
}


@pytest.mark.parametrize(("hidden", "shape"), OTHERS.values(), ids=OTHERS)
def test_others_are_left_to_onednn(hidden, shape):
    graph, _ = traced(
        sequence_net(hidden()), torch.zeros(shape), target=torch.zeros(shape[0]).long()
    )
    sequences.rewrite(graph)
    assert sequences.lstm_forward not in targets(graph)


def test_notes_that_are_read_twice_are_not_written_over():
    graph, _ = traced(sequence_net(lanes()), drawn(1, 6, 4, 3))
    kernel = torch.ops.lincoln_fn.lstm_backward.default
    (reader,) = graph.graph.find_nodes(op="call_function", target=kernel)
    with graph.graph.inserting_after(reader):
        again = graph.graph.call_function(kernel, reader.args)
    with graph.graph.inserting_after(again):
        graph.graph.call_function(getitem, (again, 0))
    sequences.rewrite(graph)
    assert targets(graph).count(kernel) == 2


def test_views_of_sequences_that_are_length_first_become_copies_where_needed(uncompiled):
    x, target = drawn(1, 4, 6, 3), torch.tensor([0, 1, 2, 0])
    layers = lf.lstm(lanes(), batch_first=False), lf.lstm(lanes(), 2, batch_first=False)
    net = lf.serial(lf.dense(3), *layers, lf.flatten(), lf.dense(3))
    graph, arguments = traced(net, x, target)

    def rewrite(graph):
        sequences.rewrite(graph)
        copy_views(graph)

    assert_same_after(rewrite, graph, arguments)
    assert targets(graph).count(sequences.lstm_forward) == 3
    assert_compiles(net, lf.optim.adam(), x, target, donate=False)
