"""Norms, also of vectors whose powers are outside the range of their dtype.

|x_i|^p may round to 0 or be infinite where the norm is neither: in float32, (10^(-6))^10 is 0. With
M the largest |x_i|,

    (sum_i |x_i|^p)^(1/p) = M (sum_i |x_i / M|^p)^(1/p)
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lincoln_fn.layers.common.normalisation import Axes, widened


def norm_over(x: Tensor, p: float, axes: Axes) -> Tensor:
    """Compute the p-norm along axes, which stay with size 1, in float32 at least."""
    x = widened(x)
    scale = _divisor(x, p, axes) if x.numel() and p < math.inf else 1.0
    norm: Tensor = scale * torch.linalg.vector_norm(x / scale, p, axes, keepdim=True)
    return norm


def _divisor(x: Tensor, p: float, axes: Axes) -> Tensor:
    """Return M where powers are out of range, else 1: x / 1 has the same bits as x."""
    largest, form = x.abs().amax(axes, keepdim=True), torch.finfo(x.dtype)
    power = largest**p
    is_within = (power > form.tiny / form.eps) & (power < form.max * form.eps)
    is_divisor = ~is_within & (largest > 0) & (largest < math.inf)
    return torch.where(is_divisor, largest, 1)
