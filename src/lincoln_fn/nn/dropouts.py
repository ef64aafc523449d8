"""Constructors of layers that drop at random during training, and nothing in `predict`."""

from __future__ import annotations

from types import ModuleType

from lincoln_fn import layers
from lincoln_fn.layer import Layer, call_repr
from lincoln_fn.nn.build import layer_of

__all__ = [
    "alpha_dropout",
    "dropout",
    "dropout1d",
    "dropout2d",
    "dropout3d",
    "feature_alpha_dropout",
]


def dropout(p: float = 0.5) -> Layer:
    """Make a dropout layer, which drops each place and scales up the rest: y = x mask / (1 - p).

    Args:
        p: the probability to drop, from 0 to 1.

    Returns:
        The layer, whose params are `layers.dropout.Params`, the key of the next mask.

    Raises:
        ValueError: if p is not from 0 to 1.

    Example:
        >>> dropout(), dropout(0.1)
        (dropout(), dropout(p=0.1))
    """
    return _dropout("dropout", layers.dropout, p)


def dropout1d(p: float = 0.5) -> Layer:
    """Make a layer that drops whole channels of x of shape (N, C, L) or (C, L).

    Args:
        p: the probability to drop, from 0 to 1.

    Returns:
        The layer, whose params are `layers.dropout.Params`, the key of the next mask.

    Raises:
        ValueError: if p is not from 0 to 1.

    Example:
        >>> dropout1d(0.1)
        dropout1d(p=0.1)
    """
    return _dropout("dropout1d", layers.dropout, p, spatial=1)


def dropout2d(p: float = 0.5) -> Layer:
    """Make a layer that drops whole channels of x of shape (N, C, H, W) or (C, H, W).

    Of three axes the first counts channels; torch's layer, with a warning, takes the first two for
    examples and channels, as `dropout1d` does.

    Args:
        p: the probability to drop, from 0 to 1.

    Returns:
        The layer, whose params are `layers.dropout.Params`, the key of the next mask.

    Raises:
        ValueError: if p is not from 0 to 1.

    Example:
        >>> dropout2d(0.1)
        dropout2d(p=0.1)
    """
    return _dropout("dropout2d", layers.dropout, p, spatial=2)


def dropout3d(p: float = 0.5) -> Layer:
    """Make a layer that drops whole channels of x of shape (N, C, D, H, W) or (C, D, H, W).

    Args:
        p: the probability to drop, from 0 to 1.

    Returns:
        The layer, whose params are `layers.dropout.Params`, the key of the next mask.

    Raises:
        ValueError: if p is not from 0 to 1.

    Example:
        >>> dropout3d(0.1)
        dropout3d(p=0.1)
    """
    return _dropout("dropout3d", layers.dropout, p, spatial=3)


def alpha_dropout(p: float = 0.5) -> Layer:
    """Make a dropout layer for networks of selu, which keeps mean 0 and variance 1.

    Args:
        p: the probability to drop, from 0 to 1.

    Returns:
        The layer, whose params are `layers.dropout.Params`, the key of the next mask.

    Raises:
        ValueError: if p is not from 0 to 1.

    Example:
        >>> alpha_dropout(0.1)
        alpha_dropout(p=0.1)
    """
    return _dropout("alpha_dropout", layers.alpha_dropout, p)


def feature_alpha_dropout(p: float = 0.5) -> Layer:
    """Make an alpha dropout layer that drops whole channels of x of shape (N, C, ...).

    Args:
        p: the probability to drop, from 0 to 1.

    Returns:
        The layer, whose params are `layers.dropout.Params`, the key of the next mask.

    Raises:
        ValueError: if p is not from 0 to 1.

    Example:
        >>> feature_alpha_dropout(0.1)
        feature_alpha_dropout(p=0.1)
    """
    return _dropout("feature_alpha_dropout", layers.alpha_dropout, p, features=True)


def _dropout(name: str, module: ModuleType, p: float, **hyperparameters: int) -> Layer:
    if not 0 <= p <= 1:
        raise ValueError(f"{name}: expected p from 0 to 1, got {p}")
    init = layers.dropout.init
    return layer_of(call_repr(name, p=(p, 0.5)), module, init=init, p=p, **hyperparameters)
