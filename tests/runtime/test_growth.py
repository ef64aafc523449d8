"""A process that goes on making and taking steps keeps nothing of those before."""

import gc
from collections import Counter
from itertools import pairwise

import pytest
import torch
from helpers import begin

import lincoln_fn as lf

X, TARGET = lf.keys.normal(lf.Key(0), (4, 6)), torch.zeros(4, 3)

pytestmark = pytest.mark.full


def make(i, *, donate):
    """Make a step like no other, and its first state."""
    net = lf.serial(
        lf.dense(5), lf.batch_norm(), lf.dropout(0.1 + i / 1000), lf.elu(1 + i / 1000), lf.dense(3)
    )
    optimizer = lf.optim.chain(lf.optim.clip_by_global_norm(1.0 + i), lf.optim.adamw(1e-3))
    return begin(net, X, lf.losses.mse(), optimizer, key=i, donate=donate)


def live():
    """Count the objects that are alive, by their types."""
    gc.collect()
    return Counter(type(each) for each in gc.get_objects())


def grown(use, times):
    """Tell which types grow in both halves of the uses, by an object for every second use."""
    counts = []
    for start, end in ((0, 10), (10, times // 2), (times // 2, times)):
        for i in range(start, end):
            use(i)
        counts.append(live())
    # Python's own caches of isinstance may be filled anew, once.
    first, second = (after - before for before, after in pairwise(counts))
    return {kind: more for kind, more in (first & second).items() if more > times / 4}


def test_steps_that_are_made_leave_nothing_behind():
    def use(i):
        for donate in (False, True):
            step, state = make(i, donate=donate)
            step(state, (X, TARGET))

    assert grown(use, 120) == {}


def test_steps_that_are_taken_leave_nothing_behind():
    step, state = make(0, donate=False)

    def use(_):
        nonlocal state
        state, _ = step(state, (X, TARGET))

    assert grown(use, 300) == {}
