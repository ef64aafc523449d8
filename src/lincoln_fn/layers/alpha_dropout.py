"""Alpha dropout: y = a (x where kept, else alpha') + b, for networks of `selu`.

What is dropped becomes alpha', the value that selu tends to far below 0, and a and b are such that
an x of mean 0 and variance 1 gives a y of mean 0 and variance 1 (Klambauer and others,
"Self-Normalizing Neural Networks", NIPS 2017, section 3). With q = 1 - p the probability to keep,

    mean of (x where kept, else alpha') = p alpha'
    its variance                        = q + p alpha'^2 - p^2 alpha'^2 = q (1 + p alpha'^2)
    a = 1 / sqrt(q (1 + p alpha'^2)),   b = -a p alpha'

and a = b = 0 where p = 1, as in torch. `predict` is the identity.

Derivation. The mask does not depend on x, and neither does what stands where x was dropped:

    dx = g mask a,

which is dropout's own `backward` with scale = a. Params, `init` and `advance` are dropout's too.
Cache: the mask, and scale = a.
"""

from __future__ import annotations

import math
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn.layers.dropout import Cache, Params, advance, backward, draw_mask, init
from lincoln_fn.shapes import LayerError, check_input

__all__ = ["Cache", "Params", "advance", "backward", "forward", "init", "predict"]

# alpha' = -lambda alpha, of the constants that selu is defined by.
DROPPED: Final = -1.0507009873554805 * 1.6732632423543772


def forward(
    params: Params, x: Float[Tensor, "*s"], *, p: float = 0.5, features: bool = False
) -> tuple[Float[Tensor, "*s"], Cache]:
    """Compute y = a (x where kept, else alpha') + b, with a mask drawn from the key.

    Args:
        params: the key.
        x: of any shape; with features, of shape (N, C, ...).
        p: the probability to drop, from 0 to 1.
        features: whether each example's channels are kept or dropped whole.

    Returns:
        y of x's shape, and the cache.

    Raises:
        LayerError: if x is not a floating tensor of such a shape, or params are another layer's.

    Example:
        >>> from lincoln_fn.keys import Key
        >>> forward(Params(Key(0)), torch.zeros(5), p=0.5)[0]
        tensor([-0.7792,  0.7792,  0.7792, -0.7792,  0.7792])
    """
    _check(params, x, features)
    mask = draw_mask(params.key, x, p, spatial=x.ndim - 2 if features else 0)
    a = 1 / math.sqrt((1 - p) * (1 + p * DROPPED**2)) if p < 1 else 0.0
    b = -a * p * DROPPED
    return torch.where(mask, x, DROPPED).mul_(a).add_(b), Cache(mask, a, x.dtype)


def predict(
    params: Params, x: Float[Tensor, "*s"], *, p: float = 0.5, features: bool = False
) -> Float[Tensor, "*s"]:
    """Return x itself.

    Args:
        params: the key, unused.
        x: as `forward` takes it.
        p: ignored.
        features: as `forward` takes it.

    Returns:
        x.

    Raises:
        LayerError: as `forward` does.
    """
    _check(params, x, features)
    return x


def _check(params: Params, x: Tensor, features: bool) -> None:
    check_input("alpha_dropout", params, x, Params)
    if features and x.ndim < 2:
        raise LayerError("alpha_dropout", f"expected x of shape (N, C, ...), got {tuple(x.shape)}")
