"""Matrix products, each by the way that takes the least time here: the one file that chooses.

Eager steps multiply by `linear`, `outer` and `add_outer`. Compiled steps ask the same questions
(`onednn_is_faster`, `goes_to_mkl`, `is_column_major`) of the products in their graph.

y = x W + b, and dW = x^T g. Torch leaves products in float32 to MKL. On a processor that is not
Intel's, MKL does not use its vectors of 512 bits. There oneDNN, which torch has for convolutions,
takes a half to nine tenths of the time of a large product. Measured on a Zen 4 and a Zen 5.
Elsewhere, and for small products, MKL stays.

Few columns, such as ten classes. MKL fills its vectors along a row of the product. If a row has
fewer than 16 numbers, a b is computed as (b^T a^T)^T. For 784 features, 10 classes and 128 examples
y takes a third to three quarters of the time so, and dW = x^T g a third to two thirds. Measured on
a Zen 5, with one thread and two.

Bfloat16. If torch may compute products in bfloat16, but does not, bfloat16.py does. Then a large W
is column-major from the start: each thread of a compiled step computes some columns of y and of the
new W, and finds its part of W in its own cache. The compiled step of a 784-500-10 network takes
0.93 of the time so with one thread, and 0.80 with two. In float32 there is no difference, and W is
row-major, as a formula leaves it. A column-major W, a user's own too, has a column-major gradient.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from lincoln_fn.fastpath import bfloat16
from lincoln_fn.fastpath.plain import is_plain
from lincoln_fn.fastpath.processor import is_amd_with

# Multiply-adds below which a product is left to torch: of few columns, and of many.
_LEAST: Final = 2**16
_LEAST_OF_ONEDNN: Final = 2**22
# How many numbers of float32 a vector holds, at most.
VECTOR: Final = 16
# Numbers from which on a weight is a large one.
_LARGE: Final = 2**18
# By how much W has to be larger than x for a copy of x not to count.
_WIDER: Final = 16

# Of the machine, and the same as long as the process runs: whether MKL makes products in float32,
# and whether oneDNN takes less time for some.
MKL: Final = torch.backends.mkl.is_available()  # type: ignore[no-untyped-call]  # torch's own
HERE: Final = MKL and is_amd_with("avx512_f")


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Compute x W^T + b on the last axis of x, as torch.nn.functional.linear does.

    Args:
        x: of shape (..., n_in).
        weight: W of shape (n_out, n_in).
        bias: b of shape (n_out,), or None.

    Returns:
        y of shape (..., n_out).

    Example:
        >>> linear(torch.tensor([[10.0, 100.0]]), torch.tensor([[1.0, 2.0]]))
        tensor([[210.]])
    """
    if _is_small(x, weight.shape[0]):
        return torch.nn.functional.linear(x, weight, bias)
    if onednn_is_faster(x, weight) and is_plain(x, weight, bias):
        if bfloat16.is_faster(x, weight.mT):
            product = bfloat16.mm(x, weight.mT)
            return product.float() if bias is None else product + bias
        return _by_onednn(x, weight, bias)
    if _is_narrow(x, weight.mT) and is_plain(x, weight, bias):
        product = _transposed(x.reshape(-1, x.shape[-1]), weight.mT).contiguous()
        product = product.view(*x.shape[:-1], len(weight))
        return product if bias is None else product + bias
    return torch.nn.functional.linear(x, weight, bias)


def outer(x: Tensor, g: Tensor, *, like: Tensor) -> Tensor:
    """Compute x^T g, the sum over rows of their outer products.

    Args:
        x: of shape (rows, n_in).
        g: of shape (rows, n_out).
        like: W. If it is column-major, so is the sum.

    Returns:
        The sum, of shape (n_in, n_out).

    Example:
        >>> outer(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0]]), like=torch.empty(2, 1))
        tensor([[3.],
                [6.]])
    """
    is_turned = is_column_major(like)
    a, b = (g.mT, x) if is_turned else (x.mT, g)
    if _is_small(a, b.shape[1]):
        product = a @ b
    elif bfloat16.is_faster(a, b) and is_plain(a, b):
        product = bfloat16.mm(a, b).float()
    elif _sums_by_onednn(a, b) and is_plain(a, b):
        product = _by_onednn(a, b.mT)
    elif _is_narrow(a, b) and is_plain(a, b):
        product = _transposed(a, b).contiguous()
    else:
        product = a @ b
    return product.mT if is_turned else product


def add_outer(
    weight: Tensor, x: Tensor, g: Tensor, alpha: float, *, donate: bool = False
) -> Tensor:
    """Compute W + alpha x^T g, the product added to W as it is computed.

    Args:
        weight: W of shape (n_in, n_out).
        x: of shape (rows, n_in).
        g: of shape (rows, n_out).
        alpha: the factor of the product.
        donate: whether W may be updated in place.

    Returns:
        The sum, in W's memory layout; of a donated W, in the same memory.

    Example:
        >>> add_outer(torch.ones(2, 1), torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0]]), -1.0)
        tensor([[-2.],
                [-5.]])
    """
    is_turned = is_column_major(weight)
    base, a, b = (weight.mT, g.mT, x) if is_turned else (weight, x.mT, g)
    out = base if donate else None
    if _is_small(a, b.shape[1]):
        new = torch.addmm(base, a, b, alpha=alpha, out=out)
    elif bfloat16.is_faster(a, b) and is_plain(base, a, b):
        new = torch.add(base, bfloat16.mm(a, b), alpha=alpha, out=out)
    elif _sums_by_onednn(a, b) and is_plain(base, a, b):
        product = _by_onednn(a, b.mT)
        # The product is nobody's yet: the sum takes its memory, if it may not take W's.
        new = base.add_(product, alpha=alpha) if donate else product.mul_(alpha).add_(base)
    elif _is_narrow(a, b) and is_plain(base, a, b):
        new = torch.add(base, _transposed(a, b), alpha=alpha, out=out)
    else:
        new = torch.addmm(base, a, b, alpha=alpha, out=out)
    if donate:
        return weight.detach()
    return new.mT if is_turned else new


def laid_out(weight: Tensor) -> Tensor:
    """Give a new weight the memory layout in which its products take the least time here.

    Args:
        weight: W of shape (n_in, n_out).

    Returns:
        The same numbers: column-major if there are many and products are computed in bfloat16.

    Example:
        >>> laid_out(torch.empty(30, 20)).stride()
        (20, 1)
    """
    is_turned = weight.numel() >= _LARGE and bfloat16.is_allowed()
    return weight.mT.contiguous().mT if is_turned else weight


def is_column_major(matrix: Tensor) -> bool:
    """Return whether the numbers of a column are neighbours in memory, and those of a row are not.

    Args:
        matrix: of shape (n, m), or many of shape (..., n, m).

    Returns:
        False for a matrix that is row-major, or has one row, or another layout.

    Example:
        >>> is_column_major(torch.empty(3, 2).mT), is_column_major(torch.empty(2, 3))
        (True, False)
    """
    return matrix.stride(-2) == 1 and matrix.stride(-1) >= matrix.shape[-2] > 1


def goes_to_mkl(a: Tensor, b: Tensor) -> bool:
    """Return whether torch leaves a product to MKL.

    Args:
        a: of shape (..., k).
        b: of shape (k, m).

    Returns:
        True for factors in float32, which torch may not round, if torch has MKL.

    Example:
        >>> goes_to_mkl(torch.ones(2, 3).double(), torch.ones(3, 4))
        False
    """
    return MKL and a.dtype is b.dtype is torch.float32 and not bfloat16.may_round()


def onednn_is_faster(x: Tensor, weight: Tensor) -> bool:
    """Return whether oneDNN takes less time than MKL for x W^T on this machine.

    Args:
        x: of shape (..., n_in).
        weight: W of shape (n_out, n_in).

    Returns:
        True for a large product of rows in float32, on such a processor.

    Example:
        >>> onednn_is_faster(torch.ones(2, 3), torch.ones(4, 3))
        False
    """
    if not HERE or x.numel() * len(weight) < _LEAST_OF_ONEDNN:
        return False
    is_known = x.dtype is weight.dtype is torch.float32 and x.device.type == "cpu"
    n_out, n_in = weight.shape
    # An x that is not row-major is copied first.
    is_quick = x.stride(-1) == 1 or x.numel() * _WIDER <= n_out * n_in
    # Of a matrix with gaps oneDNN computes the product number by number.
    return is_known and is_quick and weight.stride() in ((n_in, 1), (1, n_out))


def _by_onednn(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    y: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return y


def _sums_by_onednn(a: Tensor, b: Tensor) -> bool:
    """Return whether oneDNN takes less time for a sum over rows: x^T g, or g^T x."""
    if not HERE or a.numel() * b.shape[1] < _LEAST_OF_ONEDNN or b.shape[1] < VECTOR:
        return False
    is_known = a.dtype is b.dtype is torch.float32 and a.device.type == "cpu"
    return is_known and a.mT.is_contiguous() and b.is_contiguous()


def _is_small(a: Tensor, columns: int) -> bool:
    return a.numel() * columns < (_LEAST if columns < VECTOR else _LEAST_OF_ONEDNN)


def _transposed(a: Tensor, b: Tensor) -> Tensor:
    return (b.mT @ a.mT).mT


def _is_narrow(a: Tensor, b: Tensor) -> bool:
    """Return whether MKL takes less time for (b^T a^T)^T than for a b."""
    if not 1 < b.shape[1] < VECTOR or a.numel() * b.shape[1] < _LEAST:
        return False
    rows = a.numel() // a.shape[-1]
    return rows >= VECTOR and a.device.type == "cpu" and goes_to_mkl(a, b)
