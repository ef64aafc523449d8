"""Identity: y = x.

Derivation. dy/dx = 1, so dx = g. Cache: nothing.
"""

from __future__ import annotations

from lincoln_fn.layer import Arrays
from lincoln_fn.shapes import check_params


def forward(params: tuple[()], x: Arrays) -> tuple[Arrays, None]:
    """Return x.

    Args:
        params: ().
        x: anything.

    Returns:
        x, and no cache.

    Raises:
        LayerError: if params are another layer's.

    Example:
        >>> forward((), torch.ones(2))
        (tensor([1., 1.]), None)
    """
    check_params("identity", params, None)
    return x, None


def backward(params: tuple[()], cache: None, g: Arrays) -> tuple[Arrays, tuple[()]]:
    """Return dx = g.

    Args:
        params: ().
        cache: None.
        g: dL/dy.

    Returns:
        dx, and no dparams.

    Example:
        >>> backward((), None, torch.ones(2))
        (tensor([1., 1.]), ())
    """
    return g, ()
