"""Matrix products, each by the faster library on this machine, and dense layers by them.

Only this file chooses, for eager and for compiled steps.

y = x W + b, and dW = x^T g. Torch computes products in float32 by MKL. On a processor that is not
Intel's, MKL does not use vectors of 512 bits. There oneDNN, which torch has for convolutions, takes
a half to nine tenths of the time of a large product, on a Zen 4 and a Zen 5. On other processors,
and for small products, MKL is used.

MKL fills its vectors along a row of the product. Few columns, such as ten classes, are computed as
rows: a b = (b^T a^T)^T. Without that, an eager step of mlp takes 1.06 of its time.

A column-major W, such as a transposed weight of torch's, has a column-major gradient.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor

from lincoln_fn.core import Features, is_plain
from lincoln_fn.fastpath.twin import Twin
from lincoln_fn.layers import dense
from lincoln_fn.layers.dense import Params, check_backward, check_forward, rows
from lincoln_fn.runtime import precision

# Any: torch writes no types for these.
BACKENDS: Final[Any] = torch.backends
# With fewer multiply-adds, a product is left to torch.
_LEAST: Final = 2**22
# So is x^T g, of which oneDNN copies x^T first. On a Zen 4, that is repaid by as many columns as x
# has rows: by MKL a step of mlp takes 1.04 of its time on one thread, and .99 on two; by oneDNN one
# of gpt-nano takes 1.02 and 1.07. On a Zen 5, by MKL one of gpt-nano takes 1.12 and 1.03.
_LEAST_SUM: Final = 2**24
# How many numbers of float32 a vector holds; with fewer multiply-adds, few columns stay columns.
_VECTOR: Final = 16
_LEAST_NARROW: Final = 2**16
# If W is so many times as large as x, a copy of x takes little time.
_WIDER: Final = 16


def is_amd_with(vectors: str) -> bool:
    """Return whether an AMD has vectors such as "avx512_f", and torch has oneDNN to use them."""
    if not BACKENDS.mkldnn.is_available() or not hasattr(torch.cpu, "get_capabilities"):
        return False
    processor = torch.cpu.get_capabilities()
    return str(processor.get("cpu_name")).startswith("AMD") and bool(processor.get(vectors))


# Memos of the machine, which does not change while the process runs: whether MKL computes products
# in float32, and whether oneDNN takes less time for some.
MKL: Final = BACKENDS.mkl.is_available()
HERE: Final = MKL and is_amd_with("avx512_f")
# Of those with AVX-512, a Zen 4 has no AVX-VNNI.
_ZEN_5: Final = is_amd_with("avx_vnni")


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Compute x W^T + b on the last axis of x, as torch.nn.functional.linear does."""
    if onednn_is_faster(x, weight) and is_plain(x, weight, bias):
        return _by_onednn(x, weight, bias)
    if is_narrow(x, weight.mT) and is_plain(x, weight, bias):
        y = _by_rows(x, weight.mT)
        return y if bias is None else y + bias
    return torch.nn.functional.linear(x, weight, bias)


def outer(x: Tensor, g: Tensor, *, like: Tensor) -> Tensor:
    """Compute x^T g, the sum over rows of their outer products; column-major if `like` is."""
    is_turned = is_column_major(like)
    a, b = (g.mT, x) if is_turned else (x.mT, g)
    if sums_by_onednn(a, b) and is_plain(a, b):
        product = _by_onednn(a, b.mT)
    else:
        product = _by_rows(a, b) if is_narrow(a, b) and is_plain(a, b) else a @ b
    return product.mT if is_turned else product


def is_column_major(matrix: Tensor) -> bool:
    """Return whether a matrix is column-major, and not row-major, too."""
    return matrix.stride(-2) == 1 and matrix.stride(-1) >= matrix.shape[-2] > 1


def goes_to_mkl(a: Tensor, b: Tensor) -> bool:
    """Return whether torch leaves a b to MKL: in float32, which torch may not round."""
    may_round = precision() in ("bf16", "tf32")
    return MKL and a.dtype is b.dtype is torch.float32 and not may_round


def onednn_is_faster(x: Tensor, weight: Tensor) -> bool:
    """Return whether oneDNN takes less time than MKL for x W^T on this machine."""
    if not HERE or x.numel() * weight.shape[0] < _LEAST:
        return False
    is_known = x.dtype is weight.dtype is torch.float32 and x.device.type == "cpu"
    n_out, n_in = weight.shape
    # An x that is not row-major is copied first.
    is_quick = x.stride(-1) == 1 or x.numel() * _WIDER <= n_out * n_in
    # For a matrix with gaps, oneDNN computes the product number by number.
    return is_known and is_quick and weight.stride() in ((n_in, 1), (1, n_out))


def _by_onednn(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    y: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return y


def sums_by_onednn(a: Tensor, b: Tensor) -> bool:
    """Return whether oneDNN takes less time for a sum over rows, x^T g or g^T x."""
    least = _VECTOR if _ZEN_5 else max(len(b), _VECTOR)
    if not HERE or a.numel() * b.shape[1] < _LEAST_SUM or b.shape[1] < least:
        return False
    is_known = a.dtype is b.dtype is torch.float32 and a.device.type == "cpu"
    return is_known and a.mT.is_contiguous() and b.is_contiguous()


def is_narrow(a: Tensor, b: Tensor) -> bool:
    """Return whether MKL takes less time for (b^T a^T)^T than for a b."""
    if a.ndim != 2 or not 1 < b.shape[1] < _VECTOR <= len(a):
        return False
    if a.numel() * b.shape[1] < _LEAST_NARROW or not goes_to_mkl(a, b):
        return False
    return a.device.type == "cpu"


def _by_rows(a: Tensor, b: Tensor) -> Tensor:
    return (b.mT @ a.mT).mT.contiguous()


def forward(params: Params, x: Features) -> tuple[Tensor, Tensor]:
    """Compute y = x W + b in one call."""
    check_forward(params, x)
    return linear(x, params.weight.mT, params.bias), x


def backward(params: Params, x: Tensor, g: Tensor) -> tuple[Tensor, Params]:
    """Compute dx as `input_grad` does, and dparams as `grads` does."""
    dparams = grads(params, x, g)
    return linear(g, params.weight), dparams


def input_grad(params: Params, x: Tensor, g: Tensor) -> Tensor:
    """Compute dx = g W^T."""
    check_backward(params, x, g)
    return linear(g, params.weight)


def grads(params: Params, x: Tensor, g: Tensor) -> Params:
    """Compute dW = x^T g, in the memory layout of W, and db = sum of g over the rows."""
    check_backward(params, x, g)
    x_rows, g_rows = rows(x), rows(g)
    dweight = outer(x_rows, g_rows, like=params.weight)
    return Params(dweight, None if params.bias is None else g_rows.sum(0))


TWINS: Final = (
    Twin(dense, forward=forward, backward=backward, input_grad=input_grad, grads=grads),
)
