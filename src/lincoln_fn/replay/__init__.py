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

from lincoln_fn.core.names import export_all as _export_all
from lincoln_fn.replay.attribute import Attribution as Attribution
from lincoln_fn.replay.attribute import attribute as attribute
from lincoln_fn.replay.difference import Difference as Difference
from lincoln_fn.replay.difference import first_difference as first_difference
from lincoln_fn.replay.metagradient import Metagradient as Metagradient
from lincoln_fn.replay.metagradient import metagradient as metagradient
from lincoln_fn.replay.non_finite import Origin as Origin
from lincoln_fn.replay.non_finite import first_non_finite as first_non_finite
from lincoln_fn.replay.place import Place as Place
from lincoln_fn.replay.reweighted import reweighted as reweighted
from lincoln_fn.replay.reweighted import smoothness as smoothness
from lincoln_fn.replay.run import Run as Run

_export_all(globals())
