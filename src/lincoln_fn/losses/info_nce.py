"""Contrast of pairs: each row of a matrix of similarities should pick the column of its partner.

x_(ij) is how similar a_i and b_j are; b_i is the partner of a_i, and all other columns are of
negatives. t is the temperature:

    y_(ij) = x_(ij) / t - log sum_n e^(x_(i n) / t)
    l_i = -y_(ii)

Derivation. It is the cross-entropy of the softmax p = e^y of each row, whose label is i:

    dx_(ij) = (p_(ij) - delta_(ij)) / t dl_i

p_(ii) - 1 is computed as expm1(y_(ii)). Symmetric, l_i is the mean of that and of the same along
the columns, with y' and p' the log-softmax and softmax of each column:

    l_i = -(y_(ii) + y'_(ii)) / 2
    dx_(ij) = ((p_(ij) - delta_(ij)) dl_i + (p'_(ij) - delta_(ij)) dl_j) / (2 t)

Cache: y, and y' if it is symmetric. Sources: van den Oord et al., "Representation learning with
contrastive predictive coding", 2018; Radford et al., "Learning transferable visual models from
natural language supervision", 2021.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lincoln_fn.core import Positive, constructor, unexpected
from lincoln_fn.layers.log_softmax import minus_one_hot
from lincoln_fn.losses.internal import Cotangent, Loss, Reduction, make_loss, per_example

Cache = tuple[Float[Tensor, "N M"], Float[Tensor, "N N"] | None]


def forward(
    x: Float[Tensor, "N M"], target: None, *, temperature: float, symmetric: bool
) -> tuple[Float[Tensor, " N"], Cache]:
    """Compute l_i = -y_ii, or -(y_ii + y'_ii) / 2."""
    shape = tuple(x.shape)
    if len(shape) != 2 or shape[0] > shape[1] or (symmetric and shape[0] < shape[1]):
        wanted = "(N, N)" if symmetric else "(N, M), M at least N"
        raise unexpected("info_nce", f"similarities of shape {wanted}", shape)
    of_rows = torch.log_softmax(x / temperature, 1)
    value = -of_rows.gather(1, _partners(x)).squeeze(1)
    if not symmetric:
        return value, (of_rows, None)
    of_columns = torch.log_softmax(x / temperature, 0)
    value = (value - of_columns.gather(1, _partners(x)).squeeze(1)) / 2
    return value, (of_rows, of_columns)


def backward(cache: Cache, dl: Cotangent, *, temperature: float) -> Float[Tensor, "N M"]:
    """Compute dx_ij = (p_ij - delta_ij) / t dl_i, or the mean of that along rows and columns."""
    of_rows, of_columns = cache
    partners = _partners(of_rows)
    dx = minus_one_hot(of_rows, partners, 1) * per_example(dl, 1) / temperature
    if of_columns is None:
        return dx
    return (dx + minus_one_hot(of_columns, partners, 1) * dl / temperature) / 2


def _partners(x: Float[Tensor, "N M"]) -> Int[Tensor, "N 1"]:
    return torch.arange(len(x), device=x.device).unsqueeze(1)


@constructor
def info_nce(
    *, temperature: Positive = 1.0, symmetric: bool = False, reduction: Reduction = "mean"
) -> Loss:
    """Make the contrastive loss of pairs, on the similarities of all their members.

    l_i = -log softmax(x_i / t)_i: row i should be most similar to column i. `symmetric` takes the
    mean with the same along the columns, as CLIP does. The similarities x have shape (N, N), or
    (N, M) with M - N columns of further negatives, such as from `cosine_similarities`. The target
    is None.

    Args:
        temperature: t. The scale of `cosine_similarities` is a trained 1 / t; then leave it at 1.
        reduction: "mean" over the pairs, "sum" of them, or "none".

    Example:
        >>> loss = lf.losses.info_nce(symmetric=True)
        >>> value, cache = loss.forward(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), None)
        >>> value, loss.backward(cache)
        (tensor(0.3133), tensor([[-0.1345,  0.1345],
                [ 0.1345, -0.1345]]))
    """
    return make_loss(forward, backward, targets=(), mixes_examples=True)
