"""Upsampling to a given size, or by a factor: every y_o is a weighted mean of neighbouring x_i.

Derivation. Along an axis of L elements, of which n are to come, output o lies over the place

    u = (o + 1/2) L / n - 1/2,    or with `align_corners`    u = o (L - 1) / (n - 1),

of x; a `scale_factor` given stands for n / L. With f = u - floor(u), the weights A_oi are

    nearest        1 at i = floor(o L / n)
    nearest-exact  1 at i = floor((o + 1/2) L / n)
    linear         1 - f at floor(u), f at floor(u) + 1, where u is no less than 0
    bicubic        k(f + 1), k(f), k(1 - f), k(2 - f) at floor(u) - 1 ... floor(u) + 2, with Keys'
                   kernel k, a = -3/4: (a + 2) t^3 - (a + 3) t^2 + 1 for t up to 1,
                   a t^3 - 5 a t^2 + 8 a t - 4 a beyond

where a position outside x means the element at its edge. Bilinear and trilinear are linear along
each axis, and the weights of several axes are multiplied. All of these are linear in x, y = A x,
with an A that does not depend on x. Hence dx is its transpose's,

    dx_i = sum_o A_oi g_o.

Cache: stand-ins for x and y, and the mode. Source of the kernel: Keys, "Cubic Convolution
Interpolation for Digital Image Processing" (1981), equation 15, with another a.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn.layers._stand_in import StandIns, stand_ins
from lincoln_fn.record import record, static
from lincoln_fn.shapes import LayerError, check_cache, check_cotangent, check_input

# By mode and the number of spatial axes, the name of ATen's kernel.
_KERNELS: Final = {
    **{("nearest", n): f"upsample_nearest{n}d" for n in (1, 2, 3)},
    **{("nearest-exact", n): f"_upsample_nearest_exact{n}d" for n in (1, 2, 3)},
    ("linear", 1): "upsample_linear1d",
    ("bilinear", 2): "upsample_bilinear2d",
    ("trilinear", 3): "upsample_trilinear3d",
    ("bicubic", 2): "upsample_bicubic2d",
}

MODES: Final = tuple(dict.fromkeys(mode for mode, _ in _KERNELS))


@record
class Cache:
    """The shapes, the kernel's name, and what it takes last: how corners and scales are read."""

    shapes: StandIns
    kernel: str = static()
    options: tuple[bool | float | None, ...] = static()


def forward(
    params: tuple[()],
    x: Float[Tensor, "batch channels *spatial"],
    *,
    size: int | tuple[int, ...] | None = None,
    scale_factor: float | tuple[float, ...] | None = None,
    mode: str = "nearest",
    align_corners: bool = False,
) -> tuple[Float[Tensor, "batch channels *upsampled"], Cache]:
    """Compute y = A x.

    Args:
        params: ().
        x: of shape (batch, channels, *spatial).
        size: of y, one number a spatial axis or one for all; None for scale_factor.
        scale_factor: of y's size over x's, rounded down; None for size.
        mode: "nearest" or "nearest-exact", with any number of spatial axes; "linear" with one,
            "bilinear" or "bicubic" with two, "trilinear" with three.
        align_corners: whether the first and the last element of y lie over those of x, rather than
            the outer edges over each other. The nearest modes have no such choice.

    Returns:
        y of shape (batch, channels, *upsampled), and the cache.

    Raises:
        LayerError: if x is not such a floating tensor, the sizes do not fit its axes or come to 0,
            or params are another layer's.

    Example:
        >>> forward((), torch.tensor([[[1.0, 2.0]]]), scale_factor=2, mode="linear")[0]
        tensor([[[1.0000, 1.2500, 1.7500, 2.0000]]])
    """
    check_input("upsample", params, x)
    n = x.ndim - 2
    if (mode, n) not in _KERNELS or 0 in x.shape[1:]:
        axes = " or ".join(str(n) for a_mode, n in _KERNELS if a_mode == mode)
        problem = f"expected x of shape (batch, channels, *spatial) with {axes} spatial axes"
        raise LayerError("upsample", f"{problem} for mode={mode!r}, got {tuple(x.shape)}")
    sizes, scales = _sizes(x, size, scale_factor)
    options = scales if mode.startswith("nearest") else (align_corners, *scales)
    y = _kernel(_KERNELS[mode, n])(x, sizes, *options)
    return y, Cache(stand_ins(x, y), _KERNELS[mode, n], options)


def backward(
    params: tuple[()], cache: Cache, g: Float[Tensor, "batch channels *upsampled"]
) -> tuple[Float[Tensor, "batch channels *spatial"], tuple[()]]:
    """Compute dx_i = sum_o A_oi g_o.

    Args:
        params: ().
        cache: what `forward` returned.
        g: dL/dy, of y's shape.

    Returns:
        dx of x's shape, and no dparams.

    Raises:
        LayerError: if g does not mirror y, or the cache is another layer's.

    Example:
        >>> _, cache = forward((), torch.zeros(1, 1, 2), scale_factor=2, mode="linear")
        >>> backward((), cache, torch.tensor([[[0.0, 4.0, 0.0, 0.0]]]))[0]
        tensor([[[3., 1.]]])
    """
    check_cache("upsample", cache, Cache)
    x, y = cache.shapes.x, cache.shapes.y
    check_cotangent("upsample", g, y)
    transposed = _kernel(f"{cache.kernel}_backward")
    return transposed(g, y.shape[2:], x.shape, *cache.options), ()


def _kernel(name: str) -> Any:  # Any: torch does not type its operators
    return getattr(torch.ops.aten, name)


def _sizes(
    x: Tensor, size: int | tuple[int, ...] | None, scale_factor: float | tuple[float, ...] | None
) -> tuple[tuple[int, ...], tuple[float | None, ...]]:
    """Find the sizes of y's spatial axes, and the factors where they were given."""
    own = tuple(x.shape[2:])
    scales: tuple[float | None, ...] = (None,) * len(own)
    if scale_factor is not None:
        asked = f"scale_factor={scale_factor}"
        factors = scale_factor if isinstance(scale_factor, tuple) else (scale_factor,) * len(own)
        sizes = tuple(int(length * factor) for length, factor in zip(own, factors, strict=False))
        scales = factors
    else:
        asked = f"size={size}"
        sizes = (size,) * len(own) if isinstance(size, int) else size or ()
    if not len(sizes) == len(scales) == len(own) or min(sizes) < 1:
        problem = f"expected x with spatial axes to upsample to {asked}, got {tuple(x.shape)}"
        raise LayerError("upsample", problem)
    return sizes, scales
