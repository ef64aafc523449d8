"""Scale: y = s x, with a fixed factor s, element by element.

Derivation. y is linear in x, so

    dx = s g

Cache: the shape of x, and s.
"""

from __future__ import annotations

from lincoln_fn.core import Elements, Layer, bare, constructor, record, static


@record
class Cache:
    x: Elements
    factor: float = static()


def forward(params: tuple[()], x: Elements, *, factor: float) -> tuple[Elements, Cache]:
    """Compute y = s x."""
    return factor * x, Cache(x.new_zeros(()).expand(x.shape), factor)


def backward(params: tuple[()], cache: Cache, g: Elements) -> tuple[Elements, tuple[()]]:
    """Compute dx = s g."""
    return cache.factor * g, ()


@constructor(kind="average", mask="position")
def scale(factor: float) -> Layer:
    """Multiply by a fixed factor: y = factor x.

    Gemma multiplies its embeddings by the square root of the number of features.

    Example:
        >>> scale(0.5).predict((), torch.tensor([-2.0, 3.0]))
        tensor([-1.0000,  1.5000])
    """
    return bare(Layer, forward, backward)
