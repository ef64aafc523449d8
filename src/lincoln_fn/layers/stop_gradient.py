"""Stop of the gradient: y = x, and what comes before gets no gradient through it.

Derivation. x is taken for a constant, so by definition

    dx = 0

It is the one layer whose backward is not the derivative of its forward. `check_layer` and
`check_loss` know it: they hold y at its first value, of which 0 is the true derivative.

Cache: the shapes of x.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lincoln_fn.core import Arrays, Layer, bare, constructor, stand_in, tree


def forward(params: tuple[()], x: Arrays) -> tuple[Arrays, Arrays]:
    """Return y = x."""
    # torch.func differentiates `forward`, and has to find a constant, too.
    return tree.map(Tensor.detach, x), tree.map(stand_in, x)


def backward(params: tuple[()], cache: Arrays, g: Arrays) -> tuple[Arrays, tuple[()]]:
    """Return dx = 0."""
    return tree.map(zero, cache), ()


def zero(x: Tensor) -> Tensor | None:
    """Return the gradient of an input on which nothing depends; one without floats has none."""
    return torch.zeros_like(x) if x.is_floating_point() else None


@constructor(kind="activation")
def stop_gradient() -> Layer:
    """Return the input unchanged, and pass no gradient on: y = x, dx = 0.

    It is `detach` of torch, as a layer. x is a tensor, or a tuple of them.

    Example:
        >>> layer, x = stop_gradient(), torch.tensor([2.0, 3.0])
        >>> y, cache = layer.forward((), x)
        >>> y, layer.input_grad((), cache, torch.ones(2))
        (tensor([2., 3.]), tensor([0., 0.]))
    """
    return bare(Layer, forward, backward)
