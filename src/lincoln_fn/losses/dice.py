"""Dice loss on probabilities: one minus the overlap of what is predicted and what is labelled.

p are the probabilities of one class at all places of an image, and y its labels. eps keeps the
quotient finite for a class that is nowhere:

    i = sum p y
    u = sum p + sum y
    D = (2 i + eps) / (u + eps)
    l = 1 - D

Derivation. (di)/(dp) = y and (du)/(dp) = 1 at each place, so

    dp = -(2 y - D) / (u + eps) dl

Cache: y, D and u + eps. Source: Milletari et al., "V-Net: fully convolutional neural networks for
volumetric medical image segmentation", 2016.
"""

from __future__ import annotations

from typing import Final

from jaxtyping import Float
from torch import Tensor

from lincoln_fn.core import Positive, constructor, unexpected
from lincoln_fn.layers.common.normalisation import widened
from lincoln_fn.losses.common.checks import check_probabilities, probabilities
from lincoln_fn.losses.internal import Cotangent, Loss, Reduction, Tensors, make_loss

_MEND: Final = "end the net with sigmoid() or softmax(1)"


def forward(
    p: Float[Tensor, "N C *s"], y: Float[Tensor, "N C *s"], *, eps: float
) -> tuple[Float[Tensor, "N C"], Tensors]:
    """Compute l = 1 - (2 i + eps) / (u + eps)."""
    if p.ndim < 3:
        expected = "prediction of shape (N, C, ...)"
        raise unexpected("dice", expected, p.shape, "give the places axes of their own")
    places = tuple(range(2, p.ndim))
    wide = widened(p)  # a sum over an image may be beyond float16
    u = (wide + y).sum(places, keepdim=True) + eps
    overlap = (2 * (wide * y).sum(places, keepdim=True) + eps) / u
    return (1 - overlap.flatten(1)).to(p.dtype), (y, overlap, u)


def backward(cache: Tensors, dl: Cotangent) -> Float[Tensor, "N C *s"]:
    """Compute dp = -(2 y - D) / (u + eps) dl."""
    y, overlap, u = cache
    dl = dl.view_as(u) if isinstance(dl, Tensor) and dl.ndim else dl
    return (-(2 * y - overlap) / u * dl).to(y.dtype)


@constructor
def dice(*, eps: Positive = 1e-5, reduction: Reduction = "mean") -> Loss:
    """Make the dice loss of segmentation, on probabilities: one minus the overlap with the labels.

    l = 1 - (2 sum p y + eps) / (sum p + sum y + eps) for each example and class, with the sums over
    all places. A class has the same weight, however few places it has. Probabilities and labels,
    from 0 to 1, have one shape (N, C, ...), with at least one axis of places;
    `torch.nn.functional.one_hot` makes the labels of class indices.

    Args:
        reduction: "mean" over examples and classes, "sum" of them, or "none".

    Example:
        >>> loss = lf.losses.dice()
        >>> p, target = torch.tensor([[[0.5, 0.5]]]), torch.tensor([[[1, 0]]])
        >>> value, cache = loss.forward(p, target)
        >>> value, loss.backward(cache)
        (tensor(0.5000), tensor([[[-0.7500,  0.2500]]]))
    """
    return make_loss(forward, backward, reads=probabilities, check=check_probabilities, mend=_MEND)
