"""Replay a training run, to find the first step, layer and array that went wrong.

    run = replay.Run(step, batches, start, saved)
    replay.first_difference(run, other)     where two runs, or a run and its repetition, part
    replay.first_non_finite(run)            where the first nan or infinity was made

A step is a pure function of a state and a batch, and batch i is a function of i. So any part of a
run can be repeated from a saved state, bit for bit.
"""

from lincoln_fn.replay.difference import Difference, first_difference
from lincoln_fn.replay.non_finite import Origin, first_non_finite
from lincoln_fn.replay.place import Place
from lincoln_fn.replay.run import Run

__all__ = ["Difference", "Origin", "Place", "Run", "first_difference", "first_non_finite"]
