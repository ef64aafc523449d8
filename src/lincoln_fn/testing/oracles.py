"""Two independent answers to what a gradient should be: central differences and autograd.

Both differentiate the scalar s = <g, forward(params, x)>, whose gradient is what `backward`
returns. The arrays that it depends on are the floating leaves of (params, x), listed with their
paths.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lincoln_fn.core import Arrays, LayerError, tree
from lincoln_fn.testing.follow import Forward, outputs

# Small enough to neglect the third derivative, large enough to neglect float64's rounding.
EPSILON = 1e-5
# Two steps that agree to this part need no third.
STEADY = 1e-8


def inner(a: Arrays, b: Arrays) -> float:
    """Compute the inner product of two trees of tensors."""
    pairs = zip(tree.leaves(a), tree.leaves(b), strict=True)
    return sum((p * q).sum().item() for p, q in pairs)


def slope_along(
    forward: Forward,
    arrays: Sequence[Tensor],
    which: int,
    direction: Tensor,
    g: Arrays,
    step: float = EPSILON,
) -> float:
    """Compute the derivative of s along a direction, by central differences."""
    # The outputs are subtracted before they are multiplied by g, so that outputs that do not change
    # contribute no rounding error.
    moved = list(arrays)
    try:
        moved[which] = arrays[which] + step * direction
        above = tree.leaves(forward(moved))
        moved[which] = arrays[which] - step * direction
        outputs = zip(above, tree.leaves(forward(moved)), tree.leaves(g), strict=True)
    except LayerError:  # outside of the layer's domain
        return math.nan
    changes = [((up - down) * c).sum().item() for up, down, c in outputs if up.is_floating_point()]
    return sum(changes) / (2 * step)


def steady_slope(
    forward: Forward, arrays: Sequence[Tensor], which: int, direction: Tensor, g: Arrays
) -> tuple[float, float]:
    """Compute a derivative by the steps at which its value changes least."""
    best, last = (math.nan, math.inf), math.nan
    for exponent in (5, 6, 4, 7, 9):
        slope = slope_along(forward, arrays, which, direction, g, 10.0**-exponent)
        error = abs(slope - last)
        if error < best[1]:
            best = slope, error
        if error <= STEADY * abs(slope):
            break
        last = slope
    return best


def full_gradient(forward: Forward, arrays: Sequence[Tensor], which: int, g: Arrays) -> Tensor:
    """Compute the whole gradient of s with respect to one array, element by element."""
    scale = scales(arrays[which]).flatten()
    slopes = []
    for i in range(scale.numel()):
        direction = torch.zeros_like(scale)
        direction[i] = scale[i]
        direction = direction.view(arrays[which].shape)
        slopes.append(steady_slope(forward, arrays, which, direction, g)[0])
    return (arrays[which].new_tensor(slopes) / scale).view(arrays[which].shape)


def scales(array: Tensor) -> Tensor:
    """Return by how much each place may change: its size, or the typical one for a zero."""
    size = array.abs()
    known = size[size > 0]
    typical = known.square().mean().sqrt() if known.numel() else size.new_ones(())
    return torch.where(size > 0, size, typical)


def vjp(function: Callable[[Tensor], Tensor], u: Tensor, g: Tensor) -> Tensor:
    """Compute the gradient of u from that of a function of it, by autograd."""
    with torch.enable_grad():
        u = u.detach().clone().requires_grad_()
        return torch.autograd.grad(function(u), u, g, materialize_grads=True)[0]


def by_autograd(forward: Forward, arrays: Sequence[Tensor], g: Arrays) -> list[Tensor] | None:
    """Compute the gradients of s by autograd of the same forward; None if it leaves torch."""
    if not arrays:
        return []
    found = _differentiated(forward, arrays, g)
    if found is None:
        return None
    pairs = zip(arrays, found, strict=True)
    return [torch.zeros_like(array) if grad is None else grad for array, grad in pairs]


def is_reached(forward: Forward, arrays: Sequence[Tensor], which: int, g: Arrays) -> bool:
    """Return whether autograd finds a path from an array to s, whatever its derivative is."""
    found = _differentiated(forward, arrays, g)
    return found is not None and found[which] is not None


def _differentiated(
    forward: Forward, arrays: Sequence[Tensor], g: Arrays
) -> Sequence[Tensor | None] | None:
    with torch.enable_grad():
        watched = [array.detach().clone().requires_grad_() for array in arrays]
        try:
            pairs = zip(outputs(forward, watched), tree.leaves(g), strict=True)
            total = torch.stack([(y * cotangent).sum() for y, cotangent in pairs]).sum()
            if not total.requires_grad:
                return None
            found: Sequence[Tensor | None] = torch.autograd.grad(total, watched, allow_unused=True)
            return found
        except (RuntimeError, TypeError, ValueError):
            return None
