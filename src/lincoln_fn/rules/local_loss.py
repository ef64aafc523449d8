"""The loss of a network with local heads, each head's own and the network's; similarity matching.

Derivation. out_i is the output of the head of hidden block i, y the network's, c the labels. With
the cross-entropy H, similarity matching M and beta in [0, 1],

    "prediction":    L = sum_i H("out"_i, c) + H(y, c)
    "similarity":    L = sum_i M("out"_i, c) + H(y, c)
    "both":          L = sum_i B("out"_i, c) + (1 - beta) H(y, c)

    B("out"_i, c) = (1 - beta) H("out"_(i1), c) + beta M("out"_(i2), c)

Each term depends on one output alone, and so the gradient of an output is that of its own loss.

Derivation of M. Each example's features x are centred to c and normalised to z. S holds the cosines
of all pairs of examples, and T the same of their one-hot labels among C classes:

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

Cache of similarity matching: c, z, S - T; for images the centred positions.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Final, Literal, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import Arrays, Probability, at_least, bare, constructor, unexpected
from lincoln_fn.losses import Loss, Reduction, softmax_cross_entropy, weighted
from lincoln_fn.losses.internal import Cotangent, check_between, label_column, make_loss

Kind: TypeAlias = Literal["prediction", "similarity", "both"]
Classes: TypeAlias = Annotated[int, at_least(2)]
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
def similarity_matching(n_classes: Classes, *, reduction: Reduction = "mean") -> Loss:
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


@constructor
def local_loss(n_classes: Classes, *, kind: Kind = "both", beta: Probability = 0.99) -> Loss:
    """Make the loss of a network that `local_losses` has made, from class indices of shape (N,).

    It takes (out_1, ..., y), and adds up the heads' losses and the network's own cross-entropy. Its
    source is that of `similarity_matching`.

    Args:
        kind: as in `local_losses`, and so is n_classes.
        beta: the weight of similarity matching in "both"; cross-entropies have 1 - beta.

    Example:
        >>> loss, logits = local_loss(2, kind="prediction"), torch.zeros(4, 2)
        >>> loss.forward((logits, logits), torch.tensor([0, 1, 1, 0]))[0]
        tensor(1.3863)
    """
    label = softmax_cross_entropy()
    match = similarity_matching(n_classes)
    share = 1 - beta if kind == "both" else 1.0
    of_head = {
        "prediction": label,
        "similarity": match,
        "both": weighted({"prediction": (share, label), "similarity": (beta, match)}),
    }[kind]
    of_net = weighted({"label": (share, label)})
    forward = partial(_forward, of_head=of_head, of_net=of_net, both=kind == "both")
    return bare(Loss, forward, partial(_backward, of_head=of_head, of_net=of_net))


def _forward(
    prediction: tuple[Arrays, ...], target: Tensor, *, of_head: Loss, of_net: Loss, both: bool
) -> tuple[Tensor, tuple[core.Cache, ...]]:
    if type(prediction) is not tuple:
        wanted = "prediction to be a tuple, as local_losses returns it"
        raise unexpected("local_loss", wanted, core.describe_non_tuple(prediction))
    *outputs, y = prediction
    for i, out in enumerate(outputs):
        if isinstance(out, tuple) is not both:
            form = "a pair of logits and features" if both else "a tensor"
            wanted = f"the output of head {i} to be {form}"
            mend = "give local_losses and local_loss the same kind"
            raise unexpected("local_loss", wanted, core.format_briefly(out), mend)
    value, cache = of_net.forward((y,), (target,))
    caches = [cache]
    for out in reversed(outputs):
        of_one, cache = of_head.forward(out, (target, target) if both else target)
        value = value + of_one
        caches.append(cache)
    return value, tuple(reversed(caches))


def _backward(
    caches: tuple[core.Cache, ...], g: Tensor | float = 1.0, *, of_head: Loss, of_net: Loss
) -> tuple[Arrays, ...]:
    *of_heads, of_y = caches
    (dy,) = of_net.backward(of_y, g)
    return (*(of_head.backward(cache, g) for cache in of_heads), dy)
