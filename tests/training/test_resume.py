"""A run that is stopped, or killed, and taken up again ends with the same bits."""

import os
import random
import signal
import time
from functools import partial
from itertools import islice

import pytest
import torch
from helpers.children import started
from helpers.compare import same_bits

import lincoln_fn as lf
from lincoln_fn.checkpoint import Directory, every

X, T = lf.keys.normal(lf.Key(0), (44, 1, 6, 6)), lf.keys.uniform(lf.Key(1), (44,), 0, 3).long()
FLAT = lf.serial(
    lf.flatten(), lf.dense(8), lf.batch_norm(), lf.relu(), lf.dropout(0.5), lf.dense(3)
)
DEEP = lf.serial(
    lf.conv2d(4, 3), lf.batch_norm(), lf.relu(), lf.dropout(0.3), lf.conv2d(5, 3), lf.relu(),
    lf.flatten(), lf.dense(3),
)  # fmt: skip
LOSS = lf.losses.softmax_cross_entropy()
OPTIMIZERS = {
    "adam": lf.optim.adam(0.01, amsgrad=True),
    "adamw under a schedule": lf.optim.adamw(lf.schedules.one_cycle(0.02, total_steps=18)),
    "clipped and accumulated": lf.optim.chain(
        lf.optim.accumulate(2), lf.optim.clip_by_global_norm(1.0), lf.optim.adam(0.01)
    ),
}
EPOCHS = 3  # of six batches


def assert_same_bits(given, expected):
    assert same_bits(given, expected)
    pairs = zip(*(lf.tree.leaves(tree, states=True) for tree in (given, expected)), strict=True)
    assert all(ours.stride() == theirs.stride() for ours, theirs in pairs)


def begin(net, optimizer):
    return lf.init_state(net, optimizer, lf.Key(0), X)


def states(net, optimizer, start, x=X, epochs=EPOCHS):
    batches = lf.data.batches((x, T), 8, key=start.key, epochs=epochs, start=int(start.step))
    return lf.train(lf.make_step(net, LOSS, optimizer), start, batches)


def last_of(stream):
    for state, _ in stream:
        pass
    return state


@pytest.mark.full(but=("clipped",))
@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_a_run_stopped_within_an_epoch_goes_on_as_if_it_had_not(optimizer, tmp_path):
    whole = last_of(states(FLAT, optimizer, begin(FLAT, optimizer)))
    directory = Directory(tmp_path)
    for stop in (2, 9, 10, 15):  # after so many steps in all, none of them an epoch's end
        like = begin(FLAT, optimizer)
        start = directory.latest(like) or like
        steps = stop - int(start.step)
        for state, record in islice(states(FLAT, optimizer, start), steps):
            pass
        assert record.step == stop
        directory.save(state)
    like = begin(FLAT, optimizer)
    resumed = last_of(states(FLAT, optimizer, directory.latest(like)))
    assert int(resumed.step) == int(whole.step) == 18
    assert_same_bits(resumed, whole)


def test_strides_are_taken_up_too(tmp_path):
    def laid_out(tensor):
        return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor

    optimizer = lf.optim.sgd(0.05, momentum=0.9, nesterov=True)
    start = lf.tree.map(laid_out, begin(DEEP, optimizer))
    run = partial(states, DEEP, optimizer, x=laid_out(X))
    whole = last_of(run(start))
    for state, _ in islice(run(start), 7):
        pass
    Directory(tmp_path).save(state)
    # Of the file, not of the state that tells the structure.
    resumed = last_of(run(Directory(tmp_path).latest(begin(DEEP, optimizer))))
    assert_same_bits(resumed, whole)


KILLS = 20
ENDS = signal.SIGKILL, signal.SIGTERM  # in turns: as a machine ends, and as a scheduler ends a run
LONG = 50  # epochs, so many that twenty kills come long before the end


long_states = partial(states, FLAT, OPTIMIZERS["adam"], epochs=LONG)


def run_to_the_end(pipe, folder):
    """Take the run up and end it, and say so after each step."""
    torch.set_num_threads(1)
    like = begin(FLAT, OPTIMIZERS["adam"])
    directory = Directory(folder, keep_last=2)
    for _ in every(long_states(directory.latest(like) or like), directory, steps=1):
        pipe.send("taken")


def killed_after(steps, seconds, folder, end_by):
    """Do so in a process that is killed a moment after so many steps: in a step or in a save."""
    with started(run_to_the_end, folder) as (process, pipe):
        for _ in range(steps):
            pipe.recv()
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            pass
        os.kill(process.pid, end_by)
        process.join()
        return process.exitcode == -end_by


@pytest.mark.full
def test_a_run_killed_twenty_times_ends_the_same(tmp_path):
    whole = last_of(long_states(begin(FLAT, OPTIMIZERS["adam"])))
    draw, step = random.Random(0), 0
    for i in range(KILLS):
        # From within the first step's save on, at moments that are spread over a step and a save.
        ended = killed_after(1 + i % 3, 0.004 * draw.random(), tmp_path, ENDS[i % 2])
        assert ended, "the run ended too soon"
        # No step that was told of is lost.
        least = step + 1 + i % 3
        step = int(Directory(tmp_path).latest(begin(FLAT, OPTIMIZERS["adam"])).step)
        assert step >= least
    directory = Directory(tmp_path, keep_last=2)
    start = directory.latest(begin(FLAT, OPTIMIZERS["adam"]))
    assert KILLS <= int(start.step) < 6 * LONG
    resumed = last_of(every(long_states(start), directory, steps=50))
    assert int(resumed.step) == int(whole.step) == 6 * LONG
    assert_same_bits(resumed, whole)
    assert_same_bits(directory.latest(begin(FLAT, OPTIMIZERS["adam"])), whole)
