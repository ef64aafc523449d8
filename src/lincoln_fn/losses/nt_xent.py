"""Contrast of two views of each example, among all views of the batch: SimCLR's NT-Xent.

a_i and b_i are the views of example i. All 2 N are the rows u_k of length 1; k' is the other view
of k's example, and t the temperature:

    x_(km) = (u_k u_m) / t    for m != k
    y_(km) = x_(km) - log sum_(n != k) e^(x_(k n))
    l_i = -(y_(k k') + y_(k' k)) / 2    with k = i and k' = i + N

Derivation. Each row is a cross-entropy with the label k', so with p = e^y, 0 for m = k,

    dx_(km) = (p_(km) - delta_(k' m)) dl_i / 2
    du_k = (1 / t) sum_m (dx_(km) + dx_(mk)) u_m    since u_k is in row k and in column k

From du to da and db, `normalize` computes the gradient.

Cache: y, and u with normalize's own. Source: Chen et al., "A simple framework for contrastive
learning of visual representations", 2020.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lincoln_fn.core import Positive, constructor, unexpected
from lincoln_fn.layers import normalize
from lincoln_fn.layers.log_softmax import minus_one_hot
from lincoln_fn.losses.internal import Cotangent, Loss, Reduction, make_loss

Views = tuple[Float[Tensor, "N D"], Float[Tensor, "N D"]]
Cache = tuple[Float[Tensor, "2N 2N"], normalize.Cache]


def forward(x: Views, target: None, *, temperature: float) -> tuple[Float[Tensor, " N"], Cache]:
    """Compute l_i = -(y_kk' + y_k'k) / 2."""
    a, b = x
    if a.ndim != 2:
        raise unexpected("nt_xent", "a of shape (N, D)", a.shape)
    u, unit = normalize.forward((), torch.cat((a, b)), dim=-1, eps=1e-12)
    own = torch.eye(len(u), dtype=torch.bool, device=u.device)
    y = torch.log_softmax((u @ u.mT / temperature).masked_fill(own, -math.inf), 1)
    of_partners = y.gather(1, _partners(y))
    return -of_partners.view(2, -1).mean(0), (y, unit)


def backward(cache: Cache, dl: Cotangent, *, temperature: float) -> Views:
    """Compute dx_km = (p_km - delta_k'm) dl_i / 2, du = (dx + dx^T) u / t, and da and db."""
    y, unit = cache
    dl = dl.repeat(2).unsqueeze(1) if isinstance(dl, Tensor) and dl.ndim else dl
    dx = minus_one_hot(y, _partners(y), 1) * dl / 2
    dz, _ = normalize.backward((), unit, (dx + dx.mT) @ unit.y / temperature)
    da, db = dz.chunk(2)
    return da, db


def _partners(y: Float[Tensor, "2N 2N"]) -> Int[Tensor, "2N 1"]:
    return torch.arange(len(y), device=y.device).view(2, -1).flip(0).reshape(-1, 1)


@constructor
def nt_xent(*, temperature: Positive = 0.5, reduction: Reduction = "mean") -> Loss:
    """Make SimCLR's contrastive loss: two views of an example should be near among all views.

    For each view it is the cross-entropy of the cosines to all others, divided by the temperature,
    with the other view of its example as the label; l_i is the mean of both. The prediction is
    (a, b), the embeddings of two views of shape (N, D), such as from `shared`; the target is None.

    Args:
        temperature: the lower, the more the nearest negatives count.
        reduction: "mean" over the examples, "sum" of them, or "none".

    Example:
        >>> loss = lf.losses.nt_xent(temperature=1.0)
        >>> a, b = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[2.0, 0.0], [0.0, 3.0]])
        >>> value, cache = loss.forward((a, b), None)
        >>> value, loss.backward(cache)[0][0, 1]
        (tensor(0.5514), tensor(0.2119))
    """
    return make_loss(
        forward, backward, inputs=("a", "b"), targets=(), like={"b": "a"}, mixes_examples=True
    )
