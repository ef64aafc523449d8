"""Hard shrinkage: y = x where |x| > l, else 0, element by element.

Derivation. With l = lambd at least 0, y = x and dy/dx = 1 for |x| > l, and y = 0 and dy/dx = 0 for
|x| < l. At |x| = l, where y jumps, 0 is taken, as torch does. y is not 0 just where |x| > l, so y
tells the two apart and x need not be kept:

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
    """Compute y = x where |x| > lambd, else 0.

    Args:
        params: ().
        x: of any shape.
        lambd: the largest |x| that becomes 0; at least 0.

    Returns:
        y of x's shape, and the cache.

    Raises:
        LayerError: if x is not a floating tensor, or params are another layer's.

    Example:
        >>> forward((), torch.tensor([-1.0, 0.5, 2.0]))[0]
        tensor([-1.,  0.,  2.])
    """
    check_input("hardshrink", params, x)
    y = torch.nn.functional.hardshrink(x, lambd)
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
        >>> backward((), torch.tensor([-1.0, 0.0, 2.0]), torch.ones(3))[0]
        tensor([1., 0., 1.])
    """
    check_cotangent("hardshrink", g, cache)
    return torch.ops.aten.hardshrink_backward(g, cache, 0), ()
