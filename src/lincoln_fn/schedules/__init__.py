"""Schedules: learning rates that change from step to step, such as `sgd(cosine(0.1, 1000))`.

A schedule is a function from the number of steps taken so far (an int64 tensor) to the rate of the
next step (float64, of the same shape). It uses tensor operations, so it is traced and compiled as
part of a step. Any function of this kind is a schedule.
"""

from lincoln_fn.core.names import export_all as _export_all
from lincoln_fn.schedules.cycle import one_cycle as one_cycle
from lincoln_fn.schedules.joined import joined as joined
from lincoln_fn.schedules.joined import linear_warmup as linear_warmup
from lincoln_fn.schedules.joined import piecewise as piecewise
from lincoln_fn.schedules.joined import wsd as wsd
from lincoln_fn.schedules.schedule import Schedule as Schedule
from lincoln_fn.schedules.single import constant as constant
from lincoln_fn.schedules.single import cosine as cosine
from lincoln_fn.schedules.single import cosine_restarts as cosine_restarts
from lincoln_fn.schedules.single import exponential as exponential
from lincoln_fn.schedules.single import inverse_sqrt as inverse_sqrt
from lincoln_fn.schedules.single import linear as linear
from lincoln_fn.schedules.single import polynomial as polynomial

_export_all(globals())
