"""Pipelines of several processes compute, bit for bit, what one process computes."""

import os
import signal

import numpy as np
import pytest
import torch
from helpers import MSE, begin, same_bits
from helpers.pipelines import (
    SCHEDULES,
    TIED,
    bits,
    mixed,
    mixed_batch,
    run_of,
    two_losses,
    two_targets,
    writer,
    writer_batch,
)
from helpers.processes import outcomes, run_in_processes, started
from helpers.refusals import assert_told

import lincoln_fn as lf
from lincoln_fn import distributed
from lincoln_fn.compiler import graphs
from lincoln_fn.compiler.passes import products
from lincoln_fn.distributed import alone, grid, one_f_one_b, pipeline
from lincoln_fn.distributed import zero_bubble_h1 as h1
from lincoln_fn.distributed import zero_bubble_h2 as h2

pytestmark = pytest.mark.full

MIXED = [mixed_batch(11), mixed_batch(12), mixed_batch(9)]
WRITER = [writer_batch(7), writer_batch(3)]  # fewer examples than microbatches
COMPILED = lf.serial(lf.dense(5), lf.relu()), lf.serial(lf.dense(3))


def layers():
    return mixed(lf.dropout(0.2))


def functions_of(group):
    """Return what each process gets from the layer's own functions, and from `evaluate`."""
    net = pipeline(layers(), one_f_one_b(4, 2), group).net
    x, _ = mixed_batch(6)
    params = net.init(lf.Key(0), x)
    y, cache = net.forward(params, x)
    dx, dparams = net.backward(params, cache, y)
    metrics = {"mean": lambda prediction, target: prediction.mean().item()}
    scores = lf.evaluate(net, params, lf.data.batches(mixed_batch(10), 5), metrics)
    alike = y, net.predict(params, x), dx, net.input_grad(params, cache, y)
    stages = [bits(each) for each in dparams], [bits(each) for each in net.advance(params, cache)]
    return bits(alike), scores, stages


def uncompiled(group):
    """Train compiled stages, each graph run as it is, without Inductor."""
    products._MOST = 0
    graphs.by_inductor = lambda graph, inputs: lambda leaves: graph(*leaves)
    return run_of(COMPILED, MIXED[:1], h2(2, 3), group, compiled=True)


def failing():
    """Make a layer that cannot take negative numbers."""

    def forward(params, x):
        if not x.is_meta and (x < 0).any():
            raise RuntimeError("a number is negative")
        return x, None

    return lf.Layer("failing()", forward, lambda params, cache, g: (g, ()))


def errors_in(group):
    """Return the error of each wrong use, and the loss of a step that follows them all."""
    x, target = torch.ones(6, 3), torch.zeros(6, 2)

    def step_of(schedule, stages):
        net, reduce = pipeline(stages, schedule, group)
        return begin(net, x, MSE, reduce=reduce)

    positive = lf.dense(4, weight_init=lf.initializers.constant(1.0))
    stages = failing(), positive, failing(), lf.dense(2)
    good, state = step_of(one_f_one_b(4, 3), stages)
    negative = lf.evolve(state, params=lf.tree.map(lambda p: -p.abs() - 1, state.params))
    later = lf.evolve(state, step=state.step + (group.rank == 3))
    rows = 5 if group.rank == 2 else 6
    own = (h1 if group.rank == 1 else one_f_one_b)(4, 3)
    attempts = {
        "in a stage": lambda: good(negative, (x, target)),
        "batch": lambda: good(state, (x[:rows], target[:rows])),
        "step": lambda: good(later, (x, target)),
        "schedule": lambda: step_of(own, stages)[0](state, (x, target)),
        "not finite": lambda: good(state, (x * 1e30, target)),
        "shape": lambda: good(state, (torch.ones(6, 4), target)),
    }
    told = {}
    for name, attempt in attempts.items():
        try:
            attempt()
        except Exception as error:
            told[name] = f"{type(error).__name__}: {error}"
    return told, good(state, (x, target))[1].item()


def in_two_stages(name, microbatches, row, column):
    """Train the writer in two stages, on this process's part of a batch."""
    first, second, third, fourth = writer()
    stages, rows = (lf.serial(first, second), lf.serial(third, fourth)), 6 // column.size
    part = tuple(array[rows * column.rank : rows * (column.rank + 1)] for array in writer_batch(6))
    schedule, tied = SCHEDULES[name](2, microbatches), (("0.0.0", "1.1.1"),)
    return run_of(stages, [part], schedule, row, data=column, tied=tied, max_norm=0.1)


def of_two_losses(group):
    batches, schedule = [two_targets(7), two_targets(6)], h1(2, 3)
    return run_of(layers()[:2], batches, schedule, group, two_losses())


def in_four(group):
    row, column = grid(group, 2)
    part = [tuple(a[6 * column.rank : 6 * column.rank + 6] for a in mixed_batch(12))]
    found = {name: run_of(layers(), MIXED, SCHEDULES[name](4, 4), group) for name in SCHEDULES}
    return {
        **found,
        "two of two": run_of(layers(), MIXED, h2(4, 4), row),
        "grid": run_of(layers(), part, one_f_one_b(4, 2), row, data=column),
        "sharded": run_of(
            layers(), part, one_f_one_b(4, 2), row, data=column,
            optimizer=lf.optim.sharded(lf.optim.adamw(0.01), column),
        ),
        "tied": run_of(writer(), WRITER, h2(4, 4), group, tied=TIED, max_norm=0.1),
        **{f"two stages {name}": in_two_stages(name, 3, row, column) for name in SCHEDULES},
        "two losses": of_two_losses(row),
        "functions": functions_of(group),
        "errors": errors_in(group),
        "compiled": uncompiled(row),
    }  # fmt: skip


@pytest.fixture(scope="module")
def four():
    """Give what four processes found."""
    return run_in_processes(4, in_four)


def check(found, expected, stages=4):
    """Check that processes have the losses, and together the params, of one process."""
    losses, params = expected
    seen = set()
    for their_losses, their_params in found:
        assert their_losses == losses
        for stage, (ours, theirs) in enumerate(zip(params, their_params, strict=True)):
            if theirs or not ours:
                seen.add(stage)
                assert same_bits(theirs, ours)
    assert seen == set(range(stages))


def mixed_alone():
    return run_of(layers(), MIXED, one_f_one_b(4, 4), alone())


def batch_alone():
    return run_of(layers(), [mixed_batch(12)], one_f_one_b(4, 4), alone())


# By what several processes compute: what one process computes, and of how many stages.
IN_ONE = {
    **dict.fromkeys([*SCHEDULES, "two of two"], (mixed_alone, 4)),
    "grid": (batch_alone, 4),  # pipelines beside each other, with all microbatches in one
    "sharded": (batch_alone, 4),
    "tied": (
        lambda: run_of(writer(), WRITER, one_f_one_b(4, 4), alone(), tied=TIED, max_norm=0.1),
        4,
    ),
    **dict.fromkeys(
        [f"two stages {name}" for name in SCHEDULES],
        (lambda: in_two_stages("1f1b", 6, alone(), alone()), 2),
    ),
    "two losses": (lambda: of_two_losses(alone()), 2),
}


@pytest.mark.parametrize("name", IN_ONE)
def test_several_processes_give_the_bits_of_one(four, name):
    in_one, stages = IN_ONE[name]
    check([each[name] for each in four], in_one(), stages)


def test_a_process_has_the_params_of_its_stages_and_copies_of_tied_ones(four):
    for name in SCHEDULES:
        assert [[bool(params) for params in each[name][1]] for each in four] == np.eye(4).tolist()
    first, last = four[0]["tied"][1][0], four[3]["tied"][1][3]
    assert same_bits(first[0], last[2])


def test_the_functions_of_the_layer_give_the_same_to_all(four):
    alike, scores, (dparams, advanced) = functions_of(alone())
    for rank, each in enumerate(four):
        theirs, their_scores, (their_dparams, their_advanced) = each["functions"]
        assert their_scores == scores
        assert same_bits(theirs, alike)
        assert same_bits(their_dparams[rank], dparams[rank])
        assert same_bits(their_advanced[rank], advanced[rank])


def test_compiled_stages_give_the_bits_of_one_process(four, uncompiled):
    expected = run_of(COMPILED, MIXED[:1], one_f_one_b(2, 3), alone(), compiled=True)
    check([each["compiled"] for each in four], expected, 2)


# The errors that all processes raise.
TOLD = {
    "in a stage": "^LayerError: pipeline[2] failing(): forward raised RuntimeError on "
    "float32[2, 4]: a number",
    "batch": "^LayerError: pipeline: expected the same batch in all processes, got rank 0: (6, 3), "
    "(6, 2); rank 1: (6, 3), (6, 2); rank 2: (5, 3), (5, 2); rank 3: (6, 3), (6, 2)$",
    "step": "the same step in all processes, ... ; rank 3: step 1 of",
    "schedule": "the same settings in all processes, got rank 0: max_norm=None",
    "not finite": "NonFiniteError: step 1",
    "shape": "pipeline[1] dense(4",
}


def test_all_processes_raise_the_same_error(four):
    told, loss = four[0]["errors"]
    for each in four:
        assert each["errors"] == (told, loss)
    assert_told(told, TOLD)
    assert "(2, 4)" in told["shape"] or "(6, 4)" in told["shape"]


# A process that is killed, or stopped, ends the others with an error that names it.


def train_until_killed(group):
    stages = lf.dense(3), lf.dense(3)
    net, reduce = distributed.pipeline(stages, distributed.zero_bubble_h1(2, 3), group)
    x = torch.ones(6, 3)
    step, state = begin(net, x, MSE, reduce=reduce)
    try:
        for i in range(3):
            if i == 2 and group.rank == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            state, _ = step(state, (x, x))
    except distributed.LostProcessError as error:
        return i, str(error)
    return None


def test_a_process_that_is_killed_is_named():
    with started(2, train_until_killed) as running:
        found = outcomes(running, patience=60)
        running[1][0].join()
        assert running[1][0].exitcode == -signal.SIGKILL
    lost = 2, "rank 1 is gone; start the run again from its last checkpoint"
    assert found == {0: ("returned", lost), 1: ("killed", None)}


def train_until_stopped(group):
    """Stop rank 0, which keeps the store that tells who is gone."""
    x = torch.ones(6, 3)
    step, state = begin(lf.dense(3), x, MSE, reduce=distributed.mean(group))
    state, _ = step(state, (x, x))
    if group.rank == 0:
        os.kill(os.getpid(), signal.SIGSTOP)
    try:
        step(state, (x, x))
    except distributed.LostProcessError as error:
        return error.ranks
    return None


def test_a_first_process_that_is_stopped_is_named():
    with started(3, train_until_stopped, timeout=5) as running:
        found = outcomes(running[1:], patience=60)
    assert found == {0: ("returned", (0,)), 1: ("returned", (0,))}
