"""Loops of a traced step: the body of a long `scan` is traced once, and compiled once."""

from functools import partial

import pytest
import torch
from helpers import MSE, assert_says, begin, drawn, largest, same_number, targets, traced
from helpers.compiling import compiles_in_full
from helpers.graphs import MOMENTUM

import lincoln_fn as lf
from lincoln_fn.combine import _steps as loops
from lincoln_fn.compiler.compile import of_function
from lincoln_fn.compiler.inductor import disk_cache
from lincoln_fn.compiler.tracing import graphs_in, write_down

NOTE_ON = disk_cache.note_on
STEPS = 7
X = drawn(1, 4, STEPS, 3)
STATE = drawn(2, 4, 5)
MASK = torch.arange(STEPS) < torch.tensor([[STEPS], [5], [1], [3]])
TOKENS = torch.arange(4 * STEPS).view(4, STEPS) % 6
# Its key, its running statistics and its frozen matrix are no part of what the steps add up.
OWN = lf.serial(
    lf.parallel(
        lf.serial(lf.frozen(lf.dense(4)), lf.batch_norm(), lf.dense(5)),
        lf.serial(lf.dropout(0.4), lf.dense(5)),
    ),
    lf.add(),
    lf.tanh(),
)
# Two sequences, the first of tokens, which get no gradient, and an output beside the state.
TWO = lf.serial(
    lf.parallel(lf.serial(lf.parallel(lf.embedding(6, 3), lf.identity()), lf.add()), lf.identity()),
    lf.gru_cell(5),
    lf.branch(lf.dense(2), lf.identity(), merge=lf.identity()),
)
WITHIN = lf.serial(
    lf.parallel(lf.serial(lf.scan(lf.gru_cell(3)), lf.flatten(), lf.dense(5)), lf.identity()),
    lf.gru_cell(5),
)
# A pair as the output beside the state.
PAIRED = lf.branch(lf.dense(2), lf.tanh(), merge=lf.identity())
PAIRED = lf.serial(lf.gru_cell(5), lf.branch(PAIRED, lf.identity(), merge=lf.identity()))


def behind_dense(net):
    """Put a dense layer before a scan of a sequence and a state, so that dx is needed."""
    return lf.serial(lf.parallel(lf.dense(3), lf.identity()), net, lf.select(0))


LOOPS = {
    "without a state": (lf.serial(lf.dense(3), lf.scan(lf.lstm_cell(5))), X),
    "own cell": (behind_dense(lf.scan(OWN, dim=0, reverse=True)), (X.transpose(0, 1), STATE)),
    "two sequences": (
        lf.serial(lf.scan(TWO, sequences=2, has_output=True), lf.select(0)),
        (TOKENS, X, STATE, MASK),
    ),
    "a tuple": (lf.serial(lf.scan(PAIRED, has_output=True), lf.concatenate()), X),
    "within another": (lf.scan(WITHIN), drawn(4, 2, STEPS, 5, 2)),
}


@pytest.fixture(autouse=True)
def every_loop_is_long(monkeypatch):
    """Trace the loops of a few steps as those of many."""
    monkeypatch.setattr(loops, "LONG", 4)


def loops_in(graph):
    return sum(targets(module).count(torch.ops.higher_order.scan) for module in graphs_in(graph))


def trained(net, x):
    """Make a step for a network, and the state and the batch for it."""
    step, state = begin(net, x, MSE, MOMENTUM, key=5)
    return step, state, (x, drawn(7, *net.predict(state.params, x).shape))


def same_state(step, state, batch):
    expected, value = step(state, batch)
    given, same = lf.compile(step)(state, batch)
    # A bias before a norm has no effect: its gradient is a sum that cancels.
    return same_number(same, value) and same_number(given, expected, terms=largest(expected))


@pytest.mark.full
def test_a_step_has_as_many_operations_for_a_sequence_of_any_length():
    counts = set()
    for steps in (STEPS, 4 * STEPS):
        x = drawn(1, 2, steps, 3)
        graph, _ = traced(lf.scan(lf.gru_cell(4)), x, drawn(2, 2, steps, 4), lf.losses.mse())
        counts.add(sum(len(module.graph.nodes) for module in graphs_in(graph)))
        assert loops_in(graph) == 2  # there and back
    assert len(counts) == 1


@pytest.mark.full(but=("own cell",))
@pytest.mark.parametrize("name", LOOPS)
def test_a_loop_gives_the_same(name, uncompiled):
    assert same_state(*trained(*LOOPS[name]))


@compiles_in_full
def test_a_compiled_loop_gives_the_same():
    step, state, (x, target) = trained(*LOOPS["two sequences"])
    expected, value = step(state, (x, target))
    compiled = lf.compile(step)
    given, same = compiled(state, (x, target))
    assert same_number(same, value)
    assert same_number(given, expected)
    # An index out of range within the loop is an error as in the step itself.
    wrong = TOKENS.clone()
    wrong[0, -1] = 6
    message = "embedding(6, 3): expected indices from 0 to 5"
    assert_says(message, compiled, state, ((wrong, *x[1:]), target))


def growing():
    """Make a cell whose state has three numbers more after each step."""

    def forward(params, x):
        s = torch.cat([x[1], x[0]], 1)
        return (s.sum(1, keepdim=True), s), x

    def backward(params, x, g):
        ds = g[0] + g[1]
        return (ds[:, -3:], ds[:, :-3]), ()

    return lf.Layer("growing()", forward, backward)


def test_the_note_of_a_loop_on_disk_depends_on_its_body():
    def run(f, x, y):
        return loops.loop(lambda carry, x_t: (f(carry + x_t), None), y[:, 0], x.transpose(0, 1))[0]

    notes = [
        NOTE_ON(write_down(of_function(partial(run, f)), X, X), donate=False)
        for f in (torch.sin, torch.cos, torch.cos)
    ]
    assert None not in notes
    assert notes[0] != notes[1] == notes[2]


@pytest.mark.full
def test_a_state_that_changes_its_shape_is_traced_step_by_step(uncompiled):
    net = behind_dense(lf.scan(growing(), has_output=True))
    x = X, STATE
    graph, _ = traced(net, x, drawn(7, 4, STEPS, 1), lf.losses.mse())
    assert loops_in(graph) == 0
    assert same_state(*trained(net, x))


@pytest.mark.full
def test_a_visitor_of_ones_own_sees_each_step(uncompiled):
    net = lf.scan(lf.gru_cell(5))
    params = net.init(lf.Key(0), X)

    def count_steps(params, x):
        seen = []

        def visit(layer, path, params, x):
            seen.append(path)
            return layer.forward(params, x)

        y, _ = lf.walk.there(visit, net, params, x)
        return y, torch.tensor(len(seen))

    assert lf.compile(count_steps)(params, X)[1] == STEPS


@pytest.mark.full
def test_the_cache_of_a_compiled_forward_pass_is_read_outside_of_it(uncompiled):
    net, x = lf.scan(OWN), (X, STATE)
    params = net.init(lf.Key(5), x)
    y, cache = lf.compile(net.forward)(params, x)
    g = lf.tree.map(lambda leaf: drawn(8, *leaf.shape), y)
    expected, its_cache = net.forward(params, x)
    assert same_number(y, expected)
    assert same_number(net.advance(params, cache), net.advance(params, its_cache))
    given = net.backward(params, cache, g)
    assert same_number(given, net.backward(params, its_cache, g))
