"""Replay a training run: to find what went wrong, and to differentiate it.

    run = replay.Run(step, batches, start, saved)
    replay.first_difference(run, other)     where two runs, or a run and its repetition, part
    replay.first_non_finite(run)            where the first nan or infinity was made
    replay.metagradient(run, of)            what a number after training owes to all that went in
    replay.attribute(run, test)             which examples help, and which harm
    replay.reweighted(run, weights)         the run with other weights of its examples
    replay.smoothness(run)                  how smoothly training depends on them

A step is a pure function of a state and a batch, and batch i is a function of i. So any part of a
run can be repeated from a saved state, bit for bit.
"""

from lincoln_fn.faces import face

face(__name__)
