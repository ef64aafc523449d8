"""Fixed positions: y = x + P, with waves of different lengths along a sequence.

P has at position t, in each pair (2 i, 2 i + 1) of the n features,

    P_(t,2i) = sin(t / 10000^(2 i / n))
    P_(t,2i+1) = cos(t / 10000^(2 i / n))

Derivation. P does not depend on x:

    dx = g

Cache: the shape of x. Source: Vaswani et al., "Attention Is All You Need", 2017, section 3.5.
"""

from __future__ import annotations

import torch

from lincoln_fn.core import Layer, Sequence, bare, constructor, stand_in, wrong_shape


def forward(params: tuple[()], x: Sequence) -> tuple[Sequence, Sequence]:
    """Compute y = x + P."""
    if x.ndim < 2:
        raise wrong_shape("sinusoidal_positions", "x", x, "(..., length, features)")
    length, features = x.shape[-2:]
    # In float64: in float32 a phase of 1e4 has only three digits after the point.
    position = torch.arange(length, dtype=torch.float64, device=x.device).unsqueeze(1)
    even = torch.arange(0, features, 2, dtype=torch.float64, device=x.device)
    phase = position / 10000 ** (even / features)
    waves = torch.stack([phase.sin(), phase.cos()], -1).flatten(1)[:, :features]
    return x + waves.to(x.dtype), stand_in(x)


def backward(params: tuple[()], cache: Sequence, g: Sequence) -> tuple[Sequence, tuple[()]]:
    """Compute dx = g."""
    return g, ()


@constructor(kind="addition")
def sinusoidal_positions() -> Layer:
    """Add fixed waves along a sequence: y = x + P.

    x has shape (..., length, features), and so has y. Features 2 i and 2 i + 1 of position t are
    given the sine and the cosine of t / 10000^(2 i / features).

    Example:
        >>> sinusoidal_positions().predict((), torch.zeros(2, 2))
        tensor([[0.0000, 1.0000],
                [0.8415, 0.5403]])
    """
    return bare(Layer, forward, backward)
