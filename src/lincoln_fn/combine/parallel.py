"""Layers side by side: y_i = layer_i(x_i).

Derivation. y_i depends on x_i alone, so dx_i is layer i's backward of g_i.
"""

from __future__ import annotations

from functools import cache

from lincoln_fn.combine._wiring import Wiring, wired
from lincoln_fn.core import Layer, checked


@cache
def _wiring(n: int) -> Wiring:
    return Wiring(tuple(range(n)), tuple(range(n, 2 * n)), entries=n)


@checked
def parallel(*layers: Layer) -> Layer:
    """Put layers side by side, each with an input of its own: y_i = layer_i(x_i).

    Args:
        *layers: the parts.

    Returns:
        The layer. Its x, y, params, caches and gradients are tuples with one entry per part.

    Raises:
        LayerError: from its functions, if a part raises one, or a tuple has the wrong number of
            entries.

    Example:
        >>> net = parallel(lf.relu(), lf.tanh())
        >>> net.predict(((), ()), (torch.tensor([-1.0]), torch.tensor([0.0])))
        (tensor([0.]), tensor([0.]))
    """
    return wired(parallel, layers, _wiring(len(layers)))
