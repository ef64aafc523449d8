from lincoln_fn.schedules.joined import (
    joined as joined, linear_warmup as linear_warmup, one_cycle as one_cycle,
    piecewise as piecewise, wsd as wsd,
)
from lincoln_fn.schedules.schedule import (
    Schedule as Schedule, constant as constant, cosine as cosine,
    cosine_restarts as cosine_restarts, exponential as exponential,
    inverse_sqrt as inverse_sqrt, linear as linear, polynomial as polynomial,
)
