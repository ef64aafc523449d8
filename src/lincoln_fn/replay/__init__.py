"""Replay a training run: to find what went wrong, and to differentiate it.

A step is a pure function of a state and a batch, and batch i is a function of i. So any part of a
run can be repeated from a saved state, bit for bit.
"""

from lincoln_fn.faces import face

face(__name__)
