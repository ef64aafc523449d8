"""Identity: y = x.

Derivation.

    (dy)/(dx) = 1
    dx = g

Cache: nothing.
"""

from __future__ import annotations

from lincoln_fn.core import Arrays, Layer, bare, constructor


def forward(params: tuple[()], x: Arrays) -> tuple[Arrays, None]:
    """Return y = x."""
    return x, None


def backward(params: tuple[()], cache: None, g: Arrays) -> tuple[Arrays, tuple[()]]:
    """Return dx = g."""
    return g, ()


@constructor(kind="moving", mask="position")
def identity() -> Layer:
    """Return the input unchanged: y = x, for any x.

    Example:
        >>> identity().predict((), torch.ones(2))
        tensor([1., 1.])
    """
    return bare(Layer, forward, backward)
