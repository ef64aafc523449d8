"""Constructors of layers that multiply by a matrix."""

from __future__ import annotations

from functools import partial

from lincoln_fn import layers
from lincoln_fn.initializers import Initializer, fan_in_uniform
from lincoln_fn.layer import Layer, call_repr
from lincoln_fn.nn.build import layer_of

__all__ = ["bilinear", "dense"]

_FAN_IN_INIT = fan_in_uniform()


def dense(
    n_out: int,
    *,
    bias: bool = True,
    weight_init: Initializer = _FAN_IN_INIT,
    bias_init: Initializer = _FAN_IN_INIT,
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
    name = call_repr(
        "dense",
        n_out,
        bias=(bias, True),
        weight_init=(weight_init, _FAN_IN_INIT),
        bias_init=(bias_init, _FAN_IN_INIT),
    )
    return layer_of(name, layers.dense, init=init)


def bilinear(
    out_features: int,
    *,
    bias: bool = True,
    weight_init: Initializer = _FAN_IN_INIT,
    bias_init: Initializer = _FAN_IN_INIT,
) -> Layer:
    """Make a bilinear layer on two inputs (u, v): y_k = sum_ij u_i A_kij v_j + b_k.

    Args:
        out_features: the number of features of y. Those of u and v are found from the example.
        bias: whether there is a bias.
        weight_init: draws A. The default is torch's: uniform within 1 / sqrt(features of u).
        bias_init: draws b, with the same default.

    Returns:
        The layer, whose params are `layers.bilinear.Params`.

    Raises:
        ValueError: if out_features is below 1.

    Example:
        >>> bilinear(4), bilinear(4, bias=False)
        (bilinear(4), bilinear(4, bias=False))
    """
    if out_features < 1:
        raise ValueError(f"bilinear: expected out_features of at least 1, got {out_features}")
    init = partial(
        layers.bilinear.init,
        out_features=out_features,
        bias=bias,
        weight_init=weight_init,
        bias_init=bias_init,
    )
    name = call_repr(
        "bilinear",
        out_features,
        bias=(bias, True),
        weight_init=(weight_init, _FAN_IN_INIT),
        bias_init=(bias_init, _FAN_IN_INIT),
    )
    return layer_of(name, layers.bilinear, init=init)
