"""Matrix products of dense layers, by the faster of the ways that torch has for them.

y = x W^T + b: torch leaves products in float32 to MKL. On a processor that is not Intel's, MKL does
without its vectors of 512 bits: there oneDNN, which torch has for convolutions, takes two thirds to
nine tenths of the time of a large product whose x lies row by row. Measured on a Zen 4; elsewhere,
and for small products, MKL stays.

dW = x^T g: MKL fills its vectors along a row of dW in memory, and where that has fewer than 16
numbers, as with ten classes, dW^T = g^T x takes a quarter to a half of the time. So a W of few
outputs lies by columns, as torch's own does, and dW does as W.

So does a large W: each thread then makes some columns of y and of the new W, and finds its part of
W in its own cache, where it left it a step before. That is worth a sixth of the step of a
784-500-10 network where a processor makes products of float32 in bfloat16
(`torch.set_float32_matmul_precision("medium")`), and a fiftieth in float32. Any other W lies by
rows, which takes less time for small batches. Where torch is allowed products in bfloat16, but does
not make them, _bfloat16.py does.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.autograd.forward_ad import unpack_dual

from lincoln_fn.layers import _bfloat16
from lincoln_fn.layers._processor import is_amd_with

# Multiply-adds below which a call of oneDNN costs more than it saves.
_LEAST: Final = 2**22
# How many numbers of float32 a vector holds, at most.
VECTOR: Final = 16
# Numbers from which on a weight is a large one.
_LARGE: Final = 2**18
# By how much W is to be larger than x for a copy of x not to count.
_WIDER: Final = 16

# Of the machine, and the same as long as the process lives: whether MKL makes products in float32,
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
    if suits(x, weight) and is_plain(x, weight, bias):
        if _bfloat16.suits(x, weight.mT):
            made = _bfloat16.mm(x, weight.mT)
            return made.float() if bias is None else made + bias
        y: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
        return y
    return torch.nn.functional.linear(x, weight, bias)


def laid_out(weight: Tensor) -> Tensor:
    """Give a new weight the order in memory that its products like best.

    Args:
        weight: W of shape (n_in, n_out).

    Returns:
        The same numbers: by columns if there are many, or few outputs; else by rows.

    Example:
        >>> laid_out(torch.empty(784, 500)).stride(), laid_out(torch.empty(30, 20)).stride()
        ((1, 784), (20, 1))
    """
    n_in, n_out = weight.shape
    is_narrow = n_out < VECTOR <= n_in
    return weight.mT.contiguous().mT if is_narrow or n_in * n_out >= _LARGE else weight


def lies_by_columns(matrix: Tensor) -> bool:
    """Tell whether the numbers of each column lie in a row in memory, and those of a row do not.

    Args:
        matrix: of shape (n, m), or many of shape (..., n, m).

    Returns:
        False if it lies by rows, has one row, or lies otherwise.

    Example:
        >>> lies_by_columns(torch.empty(3, 2).mT), lies_by_columns(torch.empty(2, 3))
        (True, False)
    """
    return matrix.stride(-2) == 1 and matrix.stride(-1) >= matrix.shape[-2] > 1


def outer(x: Tensor, g: Tensor, *, like: Tensor) -> Tensor:
    """Compute x^T g, the sum over rows of their outer products.

    Args:
        x: of shape (rows, n_in).
        g: of shape (rows, n_out).
        like: W, whose order in memory the sum has.

    Returns:
        The sum, of shape (n_in, n_out).

    Example:
        >>> outer(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0]]), like=torch.empty(2, 1))
        tensor([[3.],
                [6.]])
    """
    turned = lies_by_columns(like)
    a, b = (g.mT, x) if turned else (x.mT, g)
    is_cast = _bfloat16.suits(a, b) and is_plain(a, b)
    made = _bfloat16.mm(a, b).float() if is_cast else a @ b
    return made.mT if turned else made


def add_outer(
    weight: Tensor, x: Tensor, g: Tensor, alpha: float, *, donate: bool = False
) -> Tensor:
    """Compute W + alpha x^T g, the product added as it is made; by columns, W^T + alpha g^T x.

    Args:
        weight: W of shape (n_in, n_out).
        x: of shape (rows, n_in).
        g: of shape (rows, n_out).
        alpha: what the product counts.
        donate: whether W may be written over.

    Returns:
        The sum, in W's order in memory; of a donated W, in the same memory.

    Example:
        >>> add_outer(torch.ones(2, 1), torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0]]), -1.0)
        tensor([[-2.],
                [-5.]])
    """
    turned = lies_by_columns(weight)
    base, a, b = (weight.mT, g.mT, x) if turned else (weight, x.mT, g)
    out = base if donate else None
    if _bfloat16.suits(a, b) and is_plain(base, a, b):
        made = torch.add(base, _bfloat16.mm(a, b), alpha=alpha, out=out)
    else:
        made = torch.addmm(base, a, b, alpha=alpha, out=out)
    if donate:
        return weight.detach()
    return made.mT if turned else made


def is_in_float32(a: Tensor, b: Tensor) -> bool:
    """Tell whether a product is one that MKL makes, unless another way is faster, as it stands.

    Args:
        a: of shape (n, k).
        b: of shape (k, m).

    Returns:
        True for factors in float32, which torch may not round, where torch has MKL.

    Example:
        >>> is_in_float32(torch.ones(2, 3).double(), torch.ones(3, 4))
        False
    """
    return MKL and a.dtype is b.dtype is torch.float32 and not _bfloat16.may_round()


def suits(x: Tensor, weight: Tensor) -> bool:
    """Tell whether oneDNN takes less time for a product on this machine.

    Args:
        x: of shape (..., n_in).
        weight: of shape (n_out, n_in).

    Returns:
        True for a large product of rows in float32, where the processor is such.

    Example:
        >>> suits(torch.ones(2, 3), torch.ones(4, 3))
        False
    """
    if not HERE or x.numel() * len(weight) < _LEAST:
        return False
    is_known = x.dtype is weight.dtype is torch.float32 and x.device.type == "cpu"
    n_out, n_in = weight.shape
    # An x that lies otherwise is copied first.
    is_quick = x.stride(-1) == 1 or x.numel() * _WIDER <= n_out * n_in
    # Of a matrix with gaps oneDNN makes the product number by number.
    return is_known and is_quick and weight.stride() in ((n_in, 1), (1, n_out))


def is_plain(*tensors: Tensor | None) -> bool:
    """Tell whether nobody but the caller sees what is made: no autograd, torch.func or tracer.

    oneDNN's operation, and a compiled graph, have no derivative there; torch would go on without
    one, and without a word.

    Args:
        tensors: what it is made of.

    Returns:
        True if it may be made in any way that gives the right numbers.

    Example:
        >>> is_plain(torch.ones(2)), is_plain(torch.ones(2, requires_grad=True))
        (True, False)
    """
    if torch.compiler.is_compiling():
        return False
    recorded = torch.is_grad_enabled()
    return not any(
        isinstance(t, FakeTensor)
        or (recorded and t.requires_grad)
        or torch._C._functorch.is_functorch_wrapped_tensor(t)
        or unpack_dual(t).tangent is not None  # type: ignore[no-untyped-call]  # torch's own
        for t in tensors
        if t is not None
    )
