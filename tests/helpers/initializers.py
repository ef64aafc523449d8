"""Every initializer."""

from lincoln_fn.initializers import (
    constant,
    dirac,
    fan_in_uniform,
    glorot_normal,
    glorot_uniform,
    he_normal,
    he_uniform,
    identity,
    lecun_normal,
    lecun_uniform,
    normal,
    ones,
    orthogonal,
    sparse,
    truncated_normal,
    uniform,
    zeros,
)

ALL = [
    constant(0.5), zeros(), ones(), uniform(), uniform(-1.0, 2.0), normal(0.5),
    normal(0.5, mean=2.0), truncated_normal(), truncated_normal(0.5, mean=1.0, low=0.0, high=3.0),
    fan_in_uniform(), glorot_uniform(), glorot_uniform(gain=2.0), glorot_normal(),
    glorot_normal(gain=2.0), he_uniform(), he_normal(), he_uniform(mode="fan_out"),
    he_normal(mode="fan_out", nonlinearity="tanh"),
    he_normal(nonlinearity="leaky_relu", negative_slope=0.5), lecun_uniform(), lecun_normal(),
    orthogonal(), orthogonal(gain=2.0), identity(), dirac(), dirac(groups=2), sparse(0.3),
    sparse(0.3, std=1.0),
]  # fmt: skip
