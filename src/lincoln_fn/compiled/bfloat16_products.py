"""Products of a large weight in bfloat16, in a compiled step, as loops around torch's own kernel.

Of a W (n_in, n_out) that is column-major, so that the lines of W^T lie in a row,

    y^T = W^T x^T,             product
    W^T becomes W^T + g^T x,   update, of a donated W

with sums in float32, of x, W and g rounded to bfloat16: because torch is allowed to, or because
they come so from `in_dtype`, which casts a W in float32. Where fastpath/bfloat16.py, or that cast,
rounds all of W, and the products too, the loops, in bfloat16_linear.cpp and bfloat16_update.cpp,
round a few lines of W at a time, in a core's own cache, and add the sums to W as they are made. The
step of a 784-500-10 network with 128 examples takes a sixth less time so, and by `in_dtype` a
twentieth. Measured on a Zen 4.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor

from lincoln_fn.compiled.loops import lanes, loop, threads_for
from lincoln_fn.compiled.versions import IS_KNOWN
from lincoln_fn.fastpath import bfloat16
from lincoln_fn.fastpath.processor import is_amd_with

HEADERS: Final = ("bfloat16.h",)
# Numbers of x that fit in a core's own cache, in bfloat16, beside some lines of W.
_NEAR: Final = 2**18
# Lanes of the vectors that the loops are written for.
_LANES: Final = 16


def makes(x: Tensor, weight: Tensor) -> bool:
    """Tell whether `product` is to make a product.

    Args:
        x: of shape (rows, n_in), in float32 or bfloat16.
        weight: of shape (n_in, n_out), in float32.

    Returns:
        True for a large one in bfloat16, if x is row-major and not so large, and W is column-major.
    """
    is_asked_for = (x.dtype, weight.dtype) == (torch.bfloat16, torch.float32)
    suits = bfloat16.is_large(x, weight) if is_asked_for else bfloat16.is_faster(x, weight)
    return suits and weight.mT.is_contiguous() and _is_near(x) and is_here()


def adds(weight: Tensor, g: Tensor, x: Tensor) -> bool:
    """Tell whether `update` is to add a product to a weight.

    Args:
        weight: W^T, of shape (n_out, n_in), in float32.
        g: g^T, of shape (n_out, rows), in float32 or bfloat16.
        x: of shape (rows, n_in), of g's dtype.

    Returns:
        True for a large one in bfloat16, if both lie by rows, and x is not so large.
    """
    is_asked_for = g.dtype is x.dtype is torch.bfloat16 and weight.dtype is torch.float32
    suits = bfloat16.is_large(g, x) if is_asked_for else bfloat16.is_faster(g, x)
    return suits and weight.is_contiguous() and _is_near(x) and is_here()


def product(x: Tensor, weight: Tensor) -> Tensor:
    """Compute x W.

    Args:
        x: of shape (rows, n_in), in float32 or bfloat16.
        weight: of shape (n_in, n_out), in float32, which is column-major.

    Returns:
        y of shape (rows, n_out), of x's dtype, which is column-major.
    """
    return _linear(x, weight.mT).mT.to(x.dtype)


def is_here() -> bool:
    """Tell whether this processor, and torch, are such as the loops are written for.

    Returns:
        True on an AMD processor with vectors of bfloat16, with torch 2.13 or later.
    """
    is_tried = IS_KNOWN and is_amd_with("avx512_bf16")
    return is_tried and lanes() == _LANES


def _is_near(x: Tensor) -> bool:
    return x.is_contiguous() and x.numel() <= _NEAR


def _like(x: Tensor, weight: Tensor) -> tuple[Tensor]:
    return (weight.new_empty(len(weight), len(x)),)


def _sizes(x: Tensor, weight: Tensor) -> dict[str, int]:
    (rows, n_in), n_out = x.shape, len(weight)
    is_rounded, threads = x.dtype is torch.bfloat16, threads_for(n_out)
    return {
        "rows": rows,
        "n_in": n_in,
        "n_out": n_out,
        "is_rounded": is_rounded,
        "threads": threads,
    }


_linear: Final[Callable[[Tensor, Tensor], Tensor]] = loop(
    "bfloat16_linear(Tensor x, Tensor weight) -> Tensor", _like, _sizes, HEADERS
)
# W^T, g^T, x, and whether the step is finite: if it is not, W stays as it is.
update: Final[Callable[[Tensor, Tensor, Tensor, Tensor], None]] = loop(
    "bfloat16_update(Tensor(a!) weight, Tensor g, Tensor x, Tensor is_finite) -> ()",
    lambda weight, g, x, is_finite: (),
    lambda weight, g, x, is_finite: _sizes(x, weight),
    HEADERS,
)
