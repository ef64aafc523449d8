"""Losses for many classes: the same loss from probabilities, from log-probabilities, from logits.

With c the label, a class index, and p the classes' probabilities, each of them is

    l = -log p_c.

The prediction has the classes on axis 1, (N, C) or (N, C, ...). Labels have its shape without that
axis, (N,) or (N, ...); for (N, C) a column (N, 1) is accepted too.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lincoln_fn.losses.loss import SMALLEST, Loss, Reduction, reduced, value_range
from lincoln_fn.shapes import LayerError


def cross_entropy(*, reduction: Reduction = "mean") -> Loss:
    """Make the cross-entropy on probabilities.

    l = -log p_c, with p_c taken as at least 2^-126, so that p_c = 0 costs 87.3.

    Derivation. Only p_c enters, so with d_jc = 1 where j = c, else 0,

        dl/dp_j = -d_jc / p_c.

    Args:
        reduction: "mean" over the examples, "sum" of them, or "none".

    Returns:
        The loss, on p and labels as the module says.

    Raises:
        ValueError: if there is no such reduction.

    Example:
        >>> loss = cross_entropy()
        >>> value, cache = loss.forward(torch.tensor([[0.25, 0.75]]), torch.tensor([0]))
        >>> value, loss.backward(cache)
        (tensor(1.3863), tensor([[-4.,  0.]]))
    """

    def values(p: Tensor, target: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
        p_c, index = _pick("cross_entropy", p, target)
        p_c = p_c.clamp(min=max(SMALLEST, torch.finfo(p.dtype).tiny))
        return -torch.log(p_c).squeeze(1), (p, p_c, index)

    def slope(kept: tuple[Tensor, Tensor, Tensor], dl: Tensor | float) -> Tensor:
        p, p_c, index = kept
        return torch.zeros_like(p).scatter_(1, index, -1 / p_c).mul_(_over_classes(dl))

    return reduced("cross_entropy", reduction, values, slope)


def nll(*, reduction: Reduction = "mean") -> Loss:
    """Make the negative log-likelihood, on log-probabilities z = log p.

    l = -z_c.

    Derivation. Only z_c enters, so with d_jc = 1 where j = c, else 0,

        dl/dz_j = -d_jc.

    Args:
        reduction: "mean" over the examples, "sum" of them, or "none".

    Returns:
        The loss, on z and labels as the module says.

    Raises:
        ValueError: if there is no such reduction.

    Example:
        >>> loss = nll()
        >>> value, cache = loss.forward(torch.tensor([[0.25, 0.75]]).log(), torch.tensor([0]))
        >>> value, loss.backward(cache)
        (tensor(1.3863), tensor([[-1.,  0.]]))
    """

    def values(z: Tensor, target: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        z_c, index = _pick("nll", z, target)
        return -z_c.squeeze(1), (z, index)

    def slope(kept: tuple[Tensor, Tensor], dl: Tensor | float) -> Tensor:
        z, index = kept
        return torch.zeros_like(z).scatter_(1, index, -1).mul_(_over_classes(dl))

    return reduced("nll", reduction, values, slope)


def softmax_cross_entropy(*, reduction: Reduction = "mean") -> Loss:
    """Make the cross-entropy on logits x: `log_softmax` and `nll` in one.

    l = log sum_n exp(x_n) - x_c.

    Derivation. The logarithm's derivative is the softmax p, so with d_jc = 1 where j = c, else 0,

        dl/dx_j = p_j - d_jc.

    Args:
        reduction: "mean" over the examples, "sum" of them, or "none".

    Returns:
        The loss, on x and labels as the module says.

    Raises:
        ValueError: if there is no such reduction.

    Example:
        >>> loss = softmax_cross_entropy()
        >>> value, cache = loss.forward(torch.tensor([[1e4, 1e4]]), torch.tensor([0]))
        >>> value, loss.backward(cache)
        (tensor(0.6931), tensor([[-0.5000,  0.5000]]))
    """

    def values(x: Tensor, target: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        z = torch.log_softmax(x, 1) if x.ndim > 1 else x
        z_c, index = _pick("softmax_cross_entropy", z, target)
        return -z_c.squeeze(1), (z, index)

    def slope(kept: tuple[Tensor, Tensor], dl: Tensor | float) -> Tensor:
        z, index = kept
        p_c = z.gather(1, index).expm1_()
        return torch.exp(z).scatter_(1, index, p_c).mul_(_over_classes(dl))

    return reduced("softmax_cross_entropy", reduction, values, slope)


def _pick(name: str, prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Take each example's entry of its label; the entries and the index both keep axis 1."""
    shape = tuple(prediction.shape)
    if len(shape) < 2:
        raise LayerError(name, f"expected prediction of shape (N, C) or (N, C, ...), got {shape}")
    if target.shape != (shape[0], *shape[2:]) and target.shape != (shape[0], 1):
        wanted = f"{(shape[0], *shape[2:])} for prediction {shape}"
        raise LayerError(name, f"expected target of shape {wanted}, got {tuple(target.shape)}")
    if target.is_floating_point() or target.is_complex():
        raise LayerError(name, f"expected target of class indices, got {target.dtype}")
    index = target.long().view(shape[0], 1, *shape[2:])
    try:
        return prediction.gather(1, index), index
    except (IndexError, RuntimeError) as error:
        low, high = value_range(index) or (0, 0)
        wrong = low if low < 0 else high
        raise LayerError(name, f"expected labels from 0 to {shape[1] - 1}, got {wrong}") from error


def _over_classes(dl: Tensor | float) -> Tensor | float:
    return dl.unsqueeze(1) if isinstance(dl, Tensor) and dl.ndim else dl
