"""Initial values for parameters, chosen by keyword: `dense(10, weight_init=normal(0.01))`."""

from lincoln_fn.initializers.initializer import Fans, Initializer
from lincoln_fn.initializers.plain import (
    constant,
    normal,
    ones,
    truncated_normal,
    uniform,
    zeros,
)
from lincoln_fn.initializers.scaled import (
    fan_in_uniform,
    gain,
    glorot_normal,
    glorot_uniform,
    he_normal,
    he_uniform,
    lecun_normal,
    lecun_uniform,
)
from lincoln_fn.initializers.structured import dirac, identity, orthogonal, sparse

__all__ = [
    "Fans",
    "Initializer",
    "constant",
    "dirac",
    "fan_in_uniform",
    "gain",
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "identity",
    "lecun_normal",
    "lecun_uniform",
    "normal",
    "ones",
    "orthogonal",
    "sparse",
    "truncated_normal",
    "uniform",
    "zeros",
]
