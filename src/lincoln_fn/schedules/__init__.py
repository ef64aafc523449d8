"""Schedules: learning rates that change from step to step, such as `sgd(cosine(0.1, 1000))`.

A schedule is a function of how many steps were taken before (an int64 tensor) that returns the rate
of the next one (float64, of the same shape). It consists of tensor operations, so that it is traced
and compiled as part of a step; any function of this kind serves as one.
"""

from lincoln_fn.schedules.cycle import one_cycle
from lincoln_fn.schedules.joined import joined, linear_warmup, piecewise
from lincoln_fn.schedules.schedule import Schedule
from lincoln_fn.schedules.single import constant, cosine, exponential, linear, polynomial

__all__ = [
    "Schedule",
    "constant",
    "cosine",
    "exponential",
    "joined",
    "linear",
    "linear_warmup",
    "one_cycle",
    "piecewise",
    "polynomial",
]
