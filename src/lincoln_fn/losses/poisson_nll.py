"""Negative log-likelihood of counts t under a Poisson distribution of rate r.

The prediction is x = log r or, without `log_input`, x = r. log t! does not depend on x and is left
out. With `full`, it is added: by Stirling's formula where t > 1, and as 0 elsewhere.

Derivation. The probability of t is e^(-r) r^t / t!, so

    l = r - t log r + log t!
    log t! = t log t - t + log(2 pi t) / 2    Stirling's formula

With x = log r,

    (dl)/(dx) = e^x - t
    dx = (e^x - t) dl

With x = r, log r is computed as log(x + epsilon), so that it stays finite:

    (dl)/(dx) = 1 - t / (x + epsilon)
    dx = (1 - t / (x + epsilon)) dl

Cache: x, or x + epsilon where x is the rate, and t.
"""

from __future__ import annotations

import math

import torch

from lincoln_fn.core import Elements, Positive, constructor
from lincoln_fn.losses.internal import Cotangent, Loss, Reduction, Tensors, make_loss, same_shape


def forward(
    x: Elements, t: Elements, *, log_input: bool, full: bool, eps: float
) -> tuple[Elements, Tensors]:
    """Compute l = r - t log r, with log t! if `full`."""
    eps = max(eps, torch.finfo(x.dtype).tiny)  # a short dtype would round eps to 0
    above = x if log_input else x + eps
    loss = torch.exp(x) - t * x if log_input else x - t * torch.log(above)
    if full:
        log_factorial = t * torch.log(t) - t + 0.5 * torch.log(2 * math.pi * t)
        loss = loss + torch.where(t > 1, log_factorial, 0)
    return loss, (above, t)


def backward(cache: Tensors, dl: Cotangent, *, log_input: bool) -> Elements:
    """Compute dx = (e^x - t) dl, or (1 - t / (x + eps)) dl where the rate is predicted."""
    x, t = cache
    return (torch.exp(x) - t if log_input else 1 - t / x) * dl


@constructor
def poisson_nll(
    *,
    log_input: bool = True,
    full: bool = False,
    eps: Positive = 1e-8,
    reduction: Reduction = "mean",
) -> Loss:
    """Make the negative log-likelihood of counts t under a Poisson distribution of rate r.

    l = r - t log r + log t!, where x = log r is predicted, or x = r itself. x has any shape, and
    the counts the same.

    Args:
        log_input: whether log r is predicted.
        full: whether to include log t!, by Stirling's formula; it does not depend on x.
        eps: added to r if r is predicted.

    Example:
        >>> loss = lf.losses.poisson_nll(reduction="sum")
        >>> value, cache = loss.forward(torch.tensor([0.0, 0.0]), torch.tensor([3, 0]))
        >>> value, loss.backward(cache)
        (tensor(2.), tensor([-2.,  1.]))
    """
    return make_loss(forward, backward, reads=same_shape)
