"""A process that is killed, or stopped, ends the others with an error that names it."""

import os
import signal

import pytest
import torch
from helpers import MSE, begin
from helpers.processes import outcomes, started

import lincoln_fn as lf
from lincoln_fn import distributed

pytestmark = pytest.mark.full


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
