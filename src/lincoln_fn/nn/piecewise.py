"""Constructors of activations that are cut off, shrunk or replaced piece by piece."""

from __future__ import annotations

from lincoln_fn import layers
from lincoln_fn.layer import Layer, call_repr
from lincoln_fn.nn.build import layer_of

__all__ = ["hardshrink", "hardsigmoid", "hardswish", "hardtanh", "softshrink", "threshold"]


def hardtanh(min_val: float = -1.0, max_val: float = 1.0) -> Layer:
    """Make a hard tanh layer, y = min(max(x, min_val), max_val).

    Args:
        min_val: the smallest value of y.
        max_val: the largest value of y, above min_val.

    Returns:
        The layer, without parameters.

    Raises:
        ValueError: if max_val is not above min_val.

    Example:
        >>> hardtanh(), hardtanh(0.0, 2.0)
        (hardtanh(), hardtanh(min_val=0.0, max_val=2.0))
    """
    if not min_val < max_val:
        raise ValueError(f"hardtanh: expected min_val below max_val, got {min_val} and {max_val}")
    name = call_repr("hardtanh", min_val=(min_val, -1.0), max_val=(max_val, 1.0))
    return layer_of(name, layers.hardtanh, min_val=min_val, max_val=max_val)


def hardswish() -> Layer:
    """Make a hard swish layer, y = x min(max(x + 3, 0), 6) / 6.

    Returns:
        The layer, without parameters.

    Example:
        >>> hardswish()
        hardswish()
    """
    return layer_of("hardswish()", layers.hardswish)


def hardsigmoid() -> Layer:
    """Make a hard sigmoid layer, y = min(max(x + 3, 0), 6) / 6.

    Returns:
        The layer, without parameters.

    Example:
        >>> hardsigmoid()
        hardsigmoid()
    """
    return layer_of("hardsigmoid()", layers.hardsigmoid)


def hardshrink(lambd: float = 0.5) -> Layer:
    """Make a hard shrinkage layer, y = x where |x| > lambd, else 0.

    Args:
        lambd: the largest |x| that becomes 0; at least 0.

    Returns:
        The layer, without parameters.

    Raises:
        ValueError: if lambd is below 0.

    Example:
        >>> hardshrink(), hardshrink(0.2)
        (hardshrink(), hardshrink(lambd=0.2))
    """
    if not lambd >= 0:
        raise ValueError(f"hardshrink: expected lambd of at least 0, got {lambd}")
    return layer_of(call_repr("hardshrink", lambd=(lambd, 0.5)), layers.hardshrink, lambd=lambd)


def softshrink(lambd: float = 0.5) -> Layer:
    """Make a soft shrinkage layer, y = sign(x) max(|x| - lambd, 0).

    Args:
        lambd: how far y is drawn towards 0; at least 0.

    Returns:
        The layer, without parameters.

    Raises:
        ValueError: if lambd is below 0.

    Example:
        >>> softshrink(), softshrink(0.2)
        (softshrink(), softshrink(lambd=0.2))
    """
    if not lambd >= 0:
        raise ValueError(f"softshrink: expected lambd of at least 0, got {lambd}")
    return layer_of(call_repr("softshrink", lambd=(lambd, 0.5)), layers.softshrink, lambd=lambd)


def threshold(threshold: float, value: float) -> Layer:
    """Make a threshold layer, y = x where x > threshold, else value.

    Args:
        threshold: the largest x that is replaced.
        value: what it is replaced by.

    Returns:
        The layer, without parameters.

    Example:
        >>> threshold(0.1, 20.0)
        threshold(0.1, 20.0)
    """
    name = call_repr("threshold", threshold, value)
    return layer_of(name, layers.threshold, threshold=threshold, value=value)
