"""Margins between classes, and several labels an example.

The prediction has the classes on its last axis, (N, C) or (C), and there is one value for each
example, of shape (N) or ().
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from lincoln_fn.losses.labels import check_target_shape, frozen, probabilities
from lincoln_fn.losses.loss import Loss, Reduction, reduced, require, spread, value_range
from lincoln_fn.shapes import LayerError


def multi_margin(
    *, p: int = 1, margin: float = 1.0, weight: Tensor | None = None, reduction: Reduction = "mean"
) -> Loss:
    """Make the multi-class hinge loss: the score of class c above each other's by the margin.

    l = w_c / C sum over j != c of max(0, z_j)^p, z_j = margin - x_c + x_j.

    Derivation. Let s_j = p max(0, z_j)^(p-1) where z_j > 0 and j != c, else 0. Then

        dl/dx_j = w_c s_j / C  for j != c,       dl/dx_c = -w_c / C sum_j s_j.

    Args:
        p: the power, 1 or 2.
        margin: how far above.
        weight: w, of shape (C,); None for ones.
        reduction: "mean" over the examples, "sum" of them, or "none".

    Returns:
        The loss, on x of shape (N, C) or (C) and class indices of shape (N) or ().

    Raises:
        ValueError: if there is no such reduction, p is another power, or weight is not of one axis.

    Example:
        >>> loss = multi_margin()
        >>> value, cache = loss.forward(torch.tensor([[0.5, 1.0]]), torch.tensor([0]))
        >>> value, loss.backward(cache)
        (tensor(0.7500), tensor([[-0.5000,  0.5000]]))
    """
    require("multi_margin", p in (1, 2), "p 1 or 2", p)
    weights = frozen("multi_margin", "weight", weight, 1)

    def values(x: Tensor, target: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        n = _classes("multi_margin", x)
        check_target_shape("multi_margin", target, tuple(x.shape[:-1]), x)
        index = _indices("multi_margin", target, 0, n).unsqueeze(-1)
        hinge = (margin - x.gather(-1, index) + x).clamp(min=0).scatter(-1, index, 0)
        scale = torch.full_like(hinge[..., :1], 1 / n)
        if weights is not None:
            scale = scale * weights.per_class(n, x)[index]
        return ((hinge**p).sum(-1, keepdim=True) * scale).squeeze(-1), (hinge, index, scale)

    def slope(kept: tuple[Tensor, ...], dl: Tensor | float) -> Tensor:
        hinge, index, scale = kept
        s = 2 * hinge if p == 2 else (hinge > 0).to(hinge.dtype)
        return s.scatter(-1, index, -s.sum(-1, keepdim=True)) * (scale * spread(dl, -1))

    return reduced(
        "multi_margin",
        reduction,
        values,
        slope,
        p=(p, 1),
        margin=(margin, 1.0),
        weight=(weights, None),
    )


def multi_label_margin(*, reduction: Reduction = "mean") -> Loss:
    """Make the hinge loss of several labels: each one's score above those of all other classes.

    l = 1 / C sum over labels c, and over classes j that are no label, of max(0, z_cj),
    z_cj = 1 - x_c + x_j.

    Derivation. With s_cj = 1 where c is a label, j is none, and z_cj > 0, else 0,

        dl/dx_j = (sum_c s_cj - sum_i s_ji) / C.

    Args:
        reduction: "mean" over the examples, "sum" of them, or "none".

    Returns:
        The loss, on x of shape (N, C) or (C) and class indices of its shape: an example's labels
        stand first, and -1 ends them.

    Raises:
        ValueError: if there is no such reduction.

    Example:
        >>> loss = multi_label_margin(reduction="sum")
        >>> x, labels = torch.tensor([0.5, 1.0, 0.0, 3.0]), torch.tensor([3, 0, -1, 1])
        >>> value, cache = loss.forward(x, labels)
        >>> value, loss.backward(cache)
        (tensor(0.5000), tensor([-0.5000,  0.2500,  0.2500,  0.0000]))
    """

    def values(x: Tensor, target: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        n = _classes("multi_label_margin", x)
        check_target_shape("multi_label_margin", target, tuple(x.shape), x)
        # From the first -1 on, nothing is a label, whatever stands there.
        labelled = (target >= 0).long().cumprod(-1)
        index = _indices("multi_label_margin", target * labelled - (1 - labelled), -1, n)
        index = index.clamp(min=0)
        count = torch.zeros_like(x).scatter_add(-1, index, labelled.to(x.dtype))
        # Rows are the labels in their order, columns the classes.
        z = 1 - x.gather(-1, index).unsqueeze(-1) + x.unsqueeze(-2)
        pairs = labelled.unsqueeze(-1) * (count == 0).unsqueeze(-2)
        hinge = z.clamp(min=0) * pairs
        return hinge.sum((-2, -1)) / n, (hinge, index)

    def slope(kept: tuple[Tensor, ...], dl: Tensor | float) -> Tensor:
        hinge, index = kept
        s = (hinge > 0).to(hinge.dtype)
        dx = s.sum(-2).scatter_add(-1, index, -s.sum(-1)) / s.shape[-1]
        return dx * spread(dl, -1)

    return reduced("multi_label_margin", reduction, values, slope)


def multi_label_soft_margin(*, weight: Tensor | None = None, reduction: Reduction = "mean") -> Loss:
    """Make the logistic loss of each class on its own, on logits x, averaged over the classes.

    l = -1 / C sum_j w_j (y_j log s(x_j) + (1 - y_j) log s(-x_j)), where s is the sigmoid.

    Derivation. As that of `sigmoid_cross_entropy`:

        dl/dx_j = w_j ((1 - y_j) s(x_j) - y_j s(-x_j)) / C.

    Args:
        weight: w, of shape (C,); None for ones.
        reduction: "mean" over the examples, "sum" of them, or "none".

    Returns:
        The loss, on x of shape (N, C) or (C) and labels of its shape, from 0 to 1.

    Raises:
        ValueError: if there is no such reduction, or weight is not of one axis.

    Example:
        >>> loss = multi_label_soft_margin()
        >>> value, cache = loss.forward(torch.tensor([[0.0, 0.0]]), torch.tensor([[1, 0]]))
        >>> value, loss.backward(cache)
        (tensor(0.6931), tensor([[-0.2500,  0.2500]]))
    """
    name = "multi_label_soft_margin"
    weights = frozen(name, "weight", weight, 1)

    def values(x: Tensor, target: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        n = _classes(name, x)
        check_target_shape(name, target, tuple(x.shape), x)
        y = probabilities(name, x, target)
        scale = x.new_ones(n) if weights is None else weights.per_class(n, x)
        scale = scale / n
        loss = -(y * logsigmoid(x) + (1 - y) * logsigmoid(-x)) * scale
        return loss.sum(-1), (x, y, scale)

    def slope(kept: tuple[Tensor, ...], dl: Tensor | float) -> Tensor:
        x, y, scale = kept
        return ((1 - y) * torch.sigmoid(x) - y * torch.sigmoid(-x)) * scale * spread(dl, -1)

    return reduced(name, reduction, values, slope, weight=(weights, None))


def _classes(name: str, x: Tensor) -> int:
    if x.ndim not in (1, 2):
        raise LayerError(name, f"expected prediction of shape (N, C) or (C), got {tuple(x.shape)}")
    return x.shape[-1]


def _indices(name: str, target: Tensor, low: int, n: int) -> Tensor:
    """Read class indices from `low` to n - 1."""
    if target.is_floating_point() or target.is_complex():
        raise LayerError(name, f"expected target of class indices, got {target.dtype}")
    ends = value_range(target)
    if ends and not (ends[0] >= low and ends[1] < n):
        wrong = ends[0] if ends[0] < low else ends[1]
        raise LayerError(name, f"expected labels from {low} to {n - 1}, got {wrong}")
    return target.long()
