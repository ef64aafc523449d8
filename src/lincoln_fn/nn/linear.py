"""Constructors of layers that multiply by a matrix."""

from __future__ import annotations

from functools import partial

from lincoln_fn import layers
from lincoln_fn.initializers import Initializer, fan_in_uniform
from lincoln_fn.layer import Layer, spelled
from lincoln_fn.nn.build import layer_of

__all__ = ["dense"]

_DENSE_INIT = fan_in_uniform()


def dense(
    n_out: int,
    *,
    bias: bool = True,
    weight_init: Initializer = _DENSE_INIT,
    bias_init: Initializer = _DENSE_INIT,
) -> Layer:
    """Make a dense layer, y = x W + b on the last axis of x.

    Args:
        n_out: the number of features of y. That of x is found from the example input.
        bias: whether there is a bias.
        weight_init: draws W. The default is torch's: uniform within 1 / sqrt(n_in).
        bias_init: draws b, with the same default.

    Returns:
        The layer, whose params are `layers.dense.Params`.

    Raises:
        ValueError: if n_out is below 1.

    Example:
        >>> from lincoln_fn.initializers import normal
        >>> dense(500, weight_init=normal(0.01))
        dense(500, weight_init=normal(0.01))
    """
    if n_out < 1:
        raise ValueError(f"dense: expected n_out of at least 1, got {n_out}")
    init = partial(
        layers.dense.init, n_out=n_out, bias=bias, weight_init=weight_init, bias_init=bias_init
    )
    name = spelled(
        "dense",
        n_out,
        bias=(bias, True),
        weight_init=(weight_init, _DENSE_INIT),
        bias_init=(bias_init, _DENSE_INIT),
    )
    return layer_of(name, layers.dense, init=init)
