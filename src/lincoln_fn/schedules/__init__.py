"""Schedules: learning rates that change from step to step, such as `sgd(cosine(0.1, 1000))`.

A schedule is a function from the number of steps taken so far (an int64 tensor) to the rate of the
next step (float64, of the same shape). It uses tensor operations, so it is traced and compiled as
part of a step. Any function of this kind is a schedule.
"""

from lincoln_fn.faces import face

face(__name__, explains=True)
