from lincoln_fn.schedules.schedule import (
    Schedule as Schedule, constant as constant, cosine as cosine,
    cosine_restarts as cosine_restarts, exponential as exponential, inverse_sqrt as inverse_sqrt,
    joined as joined, linear as linear, linear_warmup as linear_warmup, one_cycle as one_cycle,
    piecewise as piecewise, polynomial as polynomial, wsd as wsd,
)
