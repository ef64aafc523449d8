"""Layers of a composition by their paths: "2.0" is the first part of the third part."""

from __future__ import annotations

from collections.abc import Callable

from lincoln_fn.layer import Layer


def map_with_paths(f: Callable[[str, Layer], Layer], net: Layer, path: str = "") -> Layer:
    """Replace every layer of a network, from the inside out, the compositions too.

    Args:
        f: takes a layer's path and the layer, a composition with its parts replaced already, and
            returns the one to stand in its place.
        net: a layer.
        path: its path.

    Returns:
        What f makes of the network.

    Example:
        >>> _ = map_with_paths(lambda path, layer: print(repr(path), layer) or layer,
        ...     lf.serial(lf.relu(), lf.residual(lf.tanh())))
        '0' relu()
        '1.0' tanh()
        '1' residual(tanh())
        '' serial(relu(), residual(tanh()))
    """
    if net.rebuild is not None:
        inside = f"{path}." if path else ""
        parts = enumerate(net.parts)
        net = net.rebuild(tuple(map_with_paths(f, part, f"{inside}{i}") for i, part in parts))
    return f(path, net)
