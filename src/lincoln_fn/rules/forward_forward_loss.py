"""The loss of Forward-Forward: high goodness for true labels, low for false ones.

Derivation. s = 1 for an example with a true label and -1 for one with a false label. The logistic
loss of each block's goodness G_j, summed over the blocks, with the sigmoid sigma, is

    l = sum_j log(1 + e^(-s G_j))
    dG_j = -s sigma(-s G_j) dl

Cache: G and s.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn.core import constructor
from lincoln_fn.losses import Loss, Reduction
from lincoln_fn.losses.internal import Cotangent, Tensors, make_loss, per_example, probabilities


def forward(goodness: Float[Tensor, "N blocks"], target: Tensor) -> tuple[Tensor, Tensors]:
    """Compute l = sum_j log(1 + e^(-s G_j))."""
    s = 2 * probabilities("forward_forward_loss", target, goodness[:, :1]) - 1
    return torch.nn.functional.softplus(-s * goodness).sum(1), (goodness, s)


def backward(cache: Tensors, dl: Cotangent) -> Float[Tensor, "N blocks"]:
    """Compute dG_j = -s sigma(-s G_j) dl."""
    goodness, s = cache
    return -s * torch.sigmoid(-s * goodness) * per_example(dl, 1)


@constructor
def forward_forward_loss(*, reduction: Reduction = "mean") -> Loss:
    """Make the logistic loss of each block's goodness, summed over the blocks.

    Goodness has shape (N, blocks), targets (N,): 1 for a true label, 0 for a false one.

    Args:
        reduction: "mean" over the examples, "sum" of them, or "none".

    Example:
        >>> loss = forward_forward_loss()
        >>> value, cache = loss.forward(torch.zeros(2, 1), torch.tensor([1.0, 0.0]))
        >>> value, loss.backward(cache)
        (tensor(0.6931), tensor([[-0.2500],
                [ 0.2500]]))
    """
    return make_loss(forward, backward)
