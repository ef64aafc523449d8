"""Soft shrinkage: y = x - l for x > l, x + l for x < -l, else 0, element by element.

Derivation. With l = lambd at least 0, dy/dx = 1 for |x| > l and 0 for |x| < l. At |x| = l there is
no derivative, and 0 is taken, as torch does. y is not 0 just where |x| > l, since the difference of
two different numbers does not round to 0, so y tells the two apart and x need not be kept:

    dx = g where |y| > 0, else 0.

Cache: y.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn.shapes import check_cotangent, check_input


def forward(
    params: tuple[()], x: Float[Tensor, "*s"], *, lambd: float = 0.5
) -> tuple[Float[Tensor, "*s"], Float[Tensor, "*s"]]:
    """Compute y = sign(x) max(|x| - lambd, 0).

    Args:
        params: ().
        x: of any shape.
        lambd: how far y is drawn towards 0; at least 0.

    Returns:
        y of x's shape, and the cache.

    Raises:
        LayerError: if x is not a floating tensor, or params are another layer's.

    Example:
        >>> forward((), torch.tensor([-1.0, 0.5, 2.0]))[0]
        tensor([-0.5000,  0.0000,  1.5000])
    """
    check_input("softshrink", params, x)
    y = torch.nn.functional.softshrink(x, lambd)
    return y, y


def backward(
    params: tuple[()], cache: Float[Tensor, "*s"], g: Float[Tensor, "*s"]
) -> tuple[Float[Tensor, "*s"], tuple[()]]:
    """Compute dx = g where |y| > 0, else 0.

    Args:
        params: ().
        cache: what `forward` returned.
        g: dL/dy, of y's shape.

    Returns:
        dx of x's shape, and no dparams.

    Raises:
        LayerError: if g does not mirror y, or the cache is another layer's.

    Example:
        >>> backward((), torch.tensor([-0.5, 0.0, 1.5]), torch.ones(3))[0]
        tensor([1., 0., 1.])
    """
    check_cotangent("softshrink", g, cache)
    return torch.ops.aten.softshrink_backward(g, cache, 0), ()
