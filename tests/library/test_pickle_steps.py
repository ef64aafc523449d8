"""Steps, compiled or not, states and batches can be pickled; another process goes on by them."""

import pickle
from functools import partial

import pytest
import torch
from helpers import normal, same_bits
from helpers.children import printed_by_child
from helpers.copies import affine, assert_copies, copies_of
from helpers.optimizers import RICH

import lincoln_fn as lf
from lincoln_fn import losses, optim, schedules
from lincoln_fn.compiler.compile import CompiledRun
from lincoln_fn.optim import chain

X, LABELS = normal(5, 2, 6, 6), torch.arange(5) % 3
NET = lf.serial(
    lf.conv2d(4, 3), lf.batch_norm(), lf.relu(), lf.dropout(0.5), lf.flatten(), lf.dense(3)
)
CROSS_ENTROPY = losses.softmax_cross_entropy()


def begin(optimizer):
    return lf.init_state(NET, optimizer, lf.Key(0), X)


def step_results(optimizer, step):
    state, first = step(begin(optimizer), (X, LABELS))
    state, second = step(state, (X, LABELS))
    return state, first, second


@pytest.mark.parametrize("fast", [True, False], ids=["fast", "formula"])
@pytest.mark.parametrize("donate", [True, False], ids=["donated", "pure"])
@pytest.mark.parametrize(
    "optimizer", [optim.sgd(0.1), optim.adamw(schedules.cosine(0.1, 9))], ids=str
)
def test_a_step(optimizer, donate, fast):
    step = lf.make_step(NET, CROSS_ENTROPY, optimizer, donate=donate, fast=fast)
    assert_copies(step, partial(step_results, optimizer))
    for way, made in copies_of(step):
        assert made.donate == donate, way
        recorded = made.run.args[0] if donate else made.run
        assert recorded.donate == donate, way
        assert not recorded.memos.kinds, way


TWO_LOSSES = losses.weighted({"first": (1.0, losses.mse()), "second": (0.5, losses.nll())})


@pytest.mark.parametrize(
    ("end", "loss", "target", "said"),
    [
        (lf.dense(3), losses.nll(), LABELS, "log_softmax"),
        (
            lf.branch(lf.dense(3), lf.dense(3), merge=lf.identity()), TWO_LOSSES,
            (torch.zeros(5, 3), LABELS), "weighted['second'] nll(): ",
        ),
    ],
    ids=["one loss", "each part of a weighted loss"],
)  # fmt: skip
def test_a_copy_of_a_step_still_asks_the_first_batch_what_its_loss_asks(end, loss, target, said):
    net = lf.serial(lf.flatten(), end)
    step = lf.make_step(net, loss, optim.sgd(0.1))
    state = lf.init_state(net, optim.sgd(0.1), lf.Key(0), X)
    for way, made in copies_of(step):
        with pytest.raises(lf.LayerError) as refused:
            made(state, (X, target))
        assert said in str(refused.value), way


@pytest.mark.full
def test_a_compiled_step_is_the_step_it_was_compiled_from_and_is_compiled_anew():
    optimizer = optim.sgd(0.1)
    compiled = lf.compile(lf.make_step(NET, CROSS_ENTROPY, optimizer, donate=True))
    compiled.run.graphs.kinds["what holds a graph"] = lambda: None  # which no pickle can hold
    expected = step_results(optimizer, compiled.run.step)
    for way, made in copies_of(compiled):
        assert repr(made) == repr(compiled), way
        assert type(made.run) is CompiledRun, way
        assert not made.run.graphs.kinds, way
        assert not made.run.graphs.made, way
        assert made.run.step.donate, way
        assert same_bits(step_results(optimizer, made.run.step), expected), way


@pytest.mark.full
def test_a_compiled_prediction_and_function_leave_their_graphs_behind():
    net = lf.serial(lf.dense(3), lf.tanh())
    x = normal(2, 4)
    params = net.init(lf.Key(0), x)
    compiled = lf.compile(net)
    compiled.predict.graphs.kinds["what holds a graph"] = lambda: None
    function = lf.compile(affine)
    function.graphs.kinds["what holds a graph"] = lambda: None
    for way, made in copies_of((compiled, function)):
        assert not made[0].predict.graphs.kinds, way
        assert same_bits(made[0].predict.program.plain(params, x), net.predict(params, x)), way
        assert not made[1].graphs.kinds, way
        assert made[1].program.plain is affine, way
        assert repr(made) == "(serial(dense(3), tanh()), compile(affine))", way


@pytest.mark.full
def test_a_state_of_each_optimizer_and_a_key():
    for optimizer in (optim.sgd(0.1), *RICH[:-1]):
        state = begin(optimizer)
        for way, made in copies_of(state):
            assert repr(made) == repr(state), way
            assert same_bits(made, state), way
            shapes = [leaf.stride() for leaf in lf.tree.leaves(made, states=True)]
            assert shapes == [leaf.stride() for leaf in lf.tree.leaves(state, states=True)], way
    for way, made in copies_of(lf.Key(7)):
        assert same_bits(made.fold_in(3), lf.Key(7).fold_in(3)), way


def test_batches():
    batches = lf.data.batches((X, LABELS), 2, key=lf.Key(1), epochs=2)
    for way, made in copies_of(batches):
        assert same_bits(list(made), list(batches)), way


TAKE = """
import pathlib, pickle, sys, torch
torch.set_num_threads(1)
given, taken = map(pathlib.Path, sys.argv[1:])
step, state, batch = pickle.loads(given.read_bytes())
taken.write_bytes(pickle.dumps(step(state, batch)))
"""


@pytest.mark.full
def test_another_process_takes_the_same_step(tmp_path):
    optimizer = chain(optim.clip_by_value(0.1), optim.adamw(schedules.cosine(0.1, 9)))
    step = lf.make_step(NET, CROSS_ENTROPY, optimizer)
    state, batch = begin(optimizer), (X, LABELS)
    given, taken = tmp_path / "given", tmp_path / "taken"
    given.write_bytes(pickle.dumps((step, state, batch)))
    printed_by_child(TAKE, given, taken)
    assert same_bits(pickle.loads(taken.read_bytes()), step(state, batch)), "another process"
