"""Similarity matching: examples of the same class shall have similar features.

Derivation. Each example's features x are centred to c and normalised to z. S holds the cosines of
all pairs of examples, and T the same of their one-hot labels among C classes:

    c = x - mean(x)
    n = |c| + epsilon
    z = c / n
    S = z z^T
    T_(ij) = {(1, if "labels" i "and" j "are equal"), (-1 / (C - 1), otherwise):}
    l_(ij) = (S_(ij) - T_(ij))^2

With D the derivative of L with respect to S,

    D = 2 (S - T) dl
    dz = (D + D^T) z
    dc = (dz - (z * dz) c / |c|) / n
    dx = dc - mean(dc) = dc

since n has the derivative c / |c| with respect to c; z * dz is the dot product. dc has the mean 0,
because z has it, and so does dz. The features of an image are the standard deviations of its
channels, with M positions p:

    x_k = sqrt(sum_p (h_k[p] - mean(h_k))^2 / (M - 1))
    dh_k[p] = dx_k (h_k[p] - mean(h_k)) / ((M - 1) x_k)

Cache: c, z, S - T; for images the centred positions.
"""

from __future__ import annotations

from typing import Annotated, Final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lincoln_fn.core import at_least, constructor, unexpected
from lincoln_fn.losses import Loss, Reduction
from lincoln_fn.losses.internal import Cotangent, check_between, label_column, make_loss

EPS: Final = 1e-8


Cache = tuple[Tensor, Tensor, Tensor, Tensor | None]


def forward(
    h: Float[Tensor, "N C *s"], target: Int[Tensor, " N"], *, n_classes: int
) -> tuple[Float[Tensor, "N N"], Cache]:
    """Compute l = (S - T)^2."""
    if h.ndim < 2:
        raise unexpected("similarity_matching", "prediction of shape (N, C, ...)", tuple(h.shape))
    x, positions = h, None
    if h.ndim > 2:
        positions = h - h.mean(tuple(range(2, h.ndim)), keepdim=True)
        x = _std(positions)
    c = x - x.mean(1, keepdim=True)
    z = c / (_norm(c) + EPS)
    labels = label_column("similarity_matching", x, target, 1)
    check_between("similarity_matching", "labels", labels, 0, n_classes - 1)
    wanted = torch.where(labels == labels.mT, 1.0, c.new_full((), -1 / (n_classes - 1)))
    difference = z @ z.mT - wanted
    return difference.square(), (c, z, difference, positions)


def backward(cache: Cache, dl: Cotangent) -> Float[Tensor, "N C *s"]:
    """Compute D = 2 (S - T) dl, dz = (D + D^T) z, and from them dc and dh."""
    c, z, difference, positions = cache
    d = 2 * difference * dl
    dz = (d + d.mT) @ z
    norm = _norm(c)
    unit = c / norm.clamp(min=torch.finfo(c.dtype).tiny)
    dc = (dz - (z * dz).sum(1, keepdim=True) * unit) / (norm + EPS)
    if positions is None:
        return dc
    std = _std(positions)
    m = positions[0, 0].numel()
    # A channel whose positions are all equal has no slope, as a ReLU has none at 0.
    slope = torch.where(std > 0, dc / ((m - 1) * std), 0)
    return positions * slope.reshape(*slope.shape, *(1,) * (positions.ndim - 2))


def _norm(c: Float[Tensor, "N C"]) -> Float[Tensor, "N 1"]:
    norm: Tensor = torch.linalg.vector_norm(c, dim=1, keepdim=True)
    return norm


def _std(positions: Float[Tensor, "N C *s"]) -> Float[Tensor, "N C"]:
    flat = positions.flatten(2)
    return (flat.square().sum(2) / (flat.shape[2] - 1)).sqrt()


@constructor
def similarity_matching(
    n_classes: Annotated[int, at_least(2)], *, reduction: Reduction = "mean"
) -> Loss:
    """Make the squared error between the similarities of features and those of labels.

    The similarity of two examples is the cosine of their centred features. That of two labels is 1
    if they are equal, else -1 / (C - 1): the same, of one-hot labels among C classes.

    Args:
        n_classes: C, at least 2.
        reduction: "mean" over all pairs of examples, "sum" of them, or "none".

    Returns:
        The loss, on features of shape (N, C) and class indices of shape (N,). Of images
        (N, C, ...), with two positions or more, the features are the channels' standard deviations.

    Source:
        Nøkland and Eidnes, "Training Neural Networks with Local Error Signals", ICML 2019.

    Example:
        >>> features = torch.tensor([[1.0, -1.0], [2.0, -2.0], [-3.0, 3.0]])
        >>> similarity_matching(2).forward(features, torch.tensor([0, 0, 1]))[0] < 1e-10
        tensor(True)
    """
    return make_loss(forward, backward, mixes_examples=True)
