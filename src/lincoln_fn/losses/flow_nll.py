"""Negative log-likelihood of a normalizing flow, which maps examples to a normal distribution.

The flow maps x of D numbers to z, with log |det| of its Jacobian c. If z is from the standard
normal distribution, the density of x is that of z times |det|:

    l = |z|^2 / 2 + D / 2 log(2 pi) - c

Derivation.

    dz = z dl
    dc = -dl

Cache: z. Source: Dinh et al., "Density Estimation Using Real NVP", 2017, equation 2.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn.core import constructor, unexpected
from lincoln_fn.losses.internal import Cotangent, Loss, Reduction, make_loss

ZAndLogDet = tuple[Float[Tensor, " N *s"], Float[Tensor, " N"]]


def forward(prediction: ZAndLogDet, target: None) -> tuple[Float[Tensor, " N"], Tensor]:
    """Compute l = |z|^2 / 2 + D / 2 log(2 pi) - c."""
    z, log_det = prediction
    if z.ndim < 2 or log_det.shape != z.shape[:1]:
        wanted = "z of shape (N, ...) and log_det of (N,)"
        raise unexpected("flow_nll", wanted, f"{tuple(z.shape)} and {tuple(log_det.shape)}")
    constant = z[0].numel() / 2 * math.log(2 * math.pi)
    return z.square().flatten(1).sum(1) / 2 + constant - log_det, z


def backward(cache: Tensor, dl: Cotangent) -> ZAndLogDet:
    """Compute dz = z dl and dc = -dl."""
    z = cache
    each = torch.as_tensor(dl, dtype=z.dtype, device=z.device).expand(len(z))
    return z * each.reshape(-1, *[1] * (z.ndim - 1)), -each


@constructor
def flow_nll(*, reduction: Reduction = "mean") -> Loss:
    """Make the negative log-likelihood of a flow's examples, in nats.

    l = |z|^2 / 2 + D / 2 log(2 pi) - log_det, where D is the number of elements of z of one
    example. The prediction is (z, log_det) of shapes (N, ...) and (N,), as `coupling` returns them,
    and the target None.

    Args:
        reduction: "mean" over the examples, "sum" of them, or "none".

    Example:
        >>> z, log_det = torch.tensor([[3.0, 4.0]]), torch.tensor([1.0])
        >>> value, cache = lf.losses.flow_nll().forward((z, log_det), None)
        >>> value, lf.losses.flow_nll().backward(cache)  # 12.5 + log(2 pi) - 1
        (tensor(13.3379), (tensor([[3., 4.]]), tensor([-1.])))
    """
    return make_loss(forward, backward, inputs=("z", "log_det"), targets=())
