"""Scaled exponential linear unit: y = s x for x > 0, else s a (e^x - 1), element by element.

Derivation. dy/dx = s for x > 0 and s a e^x for x < 0. At x = 0 the two differ, and s a is taken, as
torch does:

    dx = g s where x > 0, else g s a e^x.

The constants s and a are those for which inputs of mean 0 and variance 1 have outputs of mean 0 and
variance 1 (Klambauer, Unterthiner, Mayr and Hochreiter, "Self-Normalizing Neural Networks", 2017,
equation 2). Cache: x.
"""

from __future__ import annotations

from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn.shapes import check_cotangent, check_input

ALPHA: Final = 1.6732632423543772848170429916717
SCALE: Final = 1.0507009873554804934193349852946


def forward(
    params: tuple[()], x: Float[Tensor, "*s"]
) -> tuple[Float[Tensor, "*s"], Float[Tensor, "*s"]]:
    """Compute y = s x for x > 0, else s a (exp(x) - 1).

    Args:
        params: ().
        x: of any shape.

    Returns:
        y of x's shape, and the cache.

    Raises:
        LayerError: if x is not a floating tensor, or params are another layer's.

    Example:
        >>> forward((), torch.tensor([-1e4, 2.0]))[0]
        tensor([-1.7581,  2.1014])
    """
    check_input("selu", params, x)
    return torch.selu(x), x


def backward(
    params: tuple[()], cache: Float[Tensor, "*s"], g: Float[Tensor, "*s"]
) -> tuple[Float[Tensor, "*s"], tuple[()]]:
    """Compute dx = g s where x > 0, else g s a exp(x).

    Args:
        params: ().
        cache: what `forward` returned.
        g: dL/dy, of y's shape.

    Returns:
        dx of x's shape, and no dparams.

    Raises:
        LayerError: if g does not mirror y, or the cache is another layer's.

    Example:
        >>> backward((), torch.tensor([0.0, 2.0]), torch.ones(2))[0]
        tensor([1.7581, 1.0507])
    """
    check_cotangent("selu", g, cache)
    return torch.ops.aten.elu_backward(g, ALPHA, SCALE, 1, False, cache), ()
