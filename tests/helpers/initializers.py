"""Every initializer, and the distribution of what it draws, of 50 inputs and 200 outputs."""

import math

from scipy import stats

from lincoln_fn import initializers as init


def within(bound):
    return stats.uniform(-bound, 2 * bound)


DISTRIBUTIONS = [
    (init.uniform(-1.0, 2.0), stats.uniform(-1, 3)),
    (init.uniform(), stats.uniform(0, 1)),
    (init.normal(0.5, mean=2.0), stats.norm(2, 0.5)),
    (init.truncated_normal(), stats.truncnorm(-2, 2)),
    (init.truncated_normal(0.5, mean=1.0, low=0.0, high=3.0),
        stats.truncnorm(-2, 4, loc=1, scale=0.5)),
    (init.fan_in_uniform(), within(1 / math.sqrt(50))),
    (init.glorot_uniform(), within(math.sqrt(6 / 250))),
    (init.glorot_uniform(gain=2.0), within(2 * math.sqrt(6 / 250))),
    (init.glorot_normal(), stats.norm(0, math.sqrt(2 / 250))),
    (init.glorot_normal(gain=2.0), stats.norm(0, 2 * math.sqrt(2 / 250))),
    (init.he_uniform(), within(math.sqrt(6 / 50))),
    (init.he_uniform(mode="fan_out"), within(math.sqrt(6 / 200))),
    (init.he_normal(), stats.norm(0, math.sqrt(2 / 50))),
    (init.he_normal(mode="fan_out", nonlinearity="tanh"), stats.norm(0, 5 / 3 / math.sqrt(200))),
    (init.he_normal(nonlinearity="leaky_relu", negative_slope=0.5),
        stats.norm(0, math.sqrt(2 / 1.25 / 50))),
    (init.lecun_uniform(), within(math.sqrt(3 / 50))),
    (init.lecun_normal(), stats.norm(0, math.sqrt(1 / 50))),
]  # fmt: skip
ALL = [
    *(row[0] for row in DISTRIBUTIONS), init.constant(0.5), init.zeros(), init.ones(),
    init.normal(0.5), init.orthogonal(), init.orthogonal(gain=2.0), init.identity(), init.dirac(),
    init.dirac(groups=2), init.sparse(0.3), init.sparse(0.3, std=1.0),
]  # fmt: skip
