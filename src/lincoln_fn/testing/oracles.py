"""Two independent answers to what a gradient should be: central differences and autograd.

Both differentiate the scalar s = <g, forward(params, x)>, whose gradient is what `backward`
returns. The arrays that it depends on are the floating leaves of (params, x), listed with their
paths.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lincoln_fn import tree
from lincoln_fn.layer import Arrays

# Small enough to neglect the third derivative, large enough to neglect float64's rounding.
EPSILON = 1e-5

Forward = Callable[[Sequence[Tensor]], Arrays]


def inner(a: Arrays, b: Arrays) -> float:
    """Compute the inner product of two trees of tensors.

    Args:
        a: a tree.
        b: a tree of the same structure.

    Returns:
        The sum of the products of their elements.

    Example:
        >>> inner((torch.ones(2), torch.ones(1)), (torch.ones(2), 3 * torch.ones(1)))
        5.0
    """
    pairs = zip(tree.leaves(a), tree.leaves(b), strict=True)
    return sum((p * q).sum().item() for p, q in pairs)


def slope_along(
    forward: Forward, arrays: Sequence[Tensor], which: int, direction: Tensor, g: Arrays
) -> float:
    """Compute the derivative of s along a direction, by central differences.

    Args:
        forward: of the arrays.
        arrays: where the derivative is taken.
        which: the array that changes.
        direction: how it changes, of its shape.
        g: the cotangent.

    Returns:
        (s(a + e v) - s(a - e v)) / 2 e.

    Example:
        >>> x = torch.tensor([3.0], dtype=torch.float64)
        >>> round(slope_along(lambda a: a[0] ** 2, [x], 0, torch.ones(1), torch.ones(1)), 6)
        6.0
    """
    moved = list(arrays)
    moved[which] = arrays[which] + EPSILON * direction
    above = inner(g, forward(moved))
    moved[which] = arrays[which] - EPSILON * direction
    return (above - inner(g, forward(moved))) / (2 * EPSILON)


def full_gradient(forward: Forward, arrays: Sequence[Tensor], which: int, g: Arrays) -> Tensor:
    """Compute the whole gradient of s with respect to one array, element by element.

    Args:
        forward: of the arrays.
        arrays: where the gradient is taken.
        which: the array.
        g: the cotangent.

    Returns:
        The gradient, of the array's shape.

    Example:
        >>> x = torch.tensor([1.0, 2.0], dtype=torch.float64)
        >>> full_gradient(lambda a: a[0] ** 2, [x], 0, torch.ones(2)).round()
        tensor([2., 4.], dtype=torch.float64)
    """
    directions = torch.eye(arrays[which].numel(), dtype=arrays[which].dtype)
    slopes = [
        slope_along(forward, arrays, which, direction.view(arrays[which].shape), g)
        for direction in directions
    ]
    return arrays[which].new_tensor(slopes).view(arrays[which].shape)


def by_autograd(forward: Forward, arrays: Sequence[Tensor], g: Arrays) -> list[Tensor]:
    """Compute the gradients of s by torch's autograd of the same forward.

    Args:
        forward: of the arrays, made of torch operations.
        arrays: where the gradients are taken.
        g: the cotangent.

    Returns:
        One gradient per array, zero where s does not depend on it.

    Example:
        >>> by_autograd(lambda a: a[0] ** 2, [torch.tensor([3.0])], torch.ones(1))
        [tensor([6.])]
    """
    with torch.enable_grad():
        watched = [array.detach().clone().requires_grad_() for array in arrays]
        pairs = zip(tree.leaves(forward(watched)), tree.leaves(g), strict=True)
        total = torch.stack([(y * cotangent).sum() for y, cotangent in pairs]).sum()
    if not watched or not total.requires_grad:
        return [torch.zeros_like(array) for array in arrays]
    return list(torch.autograd.grad(total, watched, materialize_grads=True))
