"""Initial values with the structure of a certain matrix."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import Key, NonNegative, PositiveInt, Probability, Shape, bare, keys
from lincoln_fn.initializers.initializer import Fans, Initializer


def _orthogonal(key: Key, shape: Shape, fans: Fans, dtype: torch.dtype, *, gain: float) -> Tensor:
    """Draw gain Q, from the QR decomposition of a normal matrix, with R's diagonal positive."""
    core.require(len(shape) > 1, "orthogonal", "a weight of at least 2 axes", shape)
    rows, columns = shape[0], math.prod(shape[1:])
    working = torch.float64 if dtype is torch.float64 else torch.float32
    tall = keys.normal(key, (max(rows, columns), min(rows, columns)), dtype=working)
    q, r = torch.linalg.qr(tall)
    # Of two numbers, `where` would make a tensor in float32.
    signed = torch.where(r.diagonal() < 0, -q, q) * gain
    return (signed if rows >= columns else signed.mT).to(dtype).reshape(shape)


@core.constructor
def orthogonal(gain: float = 1.0) -> Initializer:
    """Draw a matrix with orthonormal rows, or columns if there are fewer of them, times gain.

    All axes but the first count as columns, so that the filters of a convolution, of shape (out,
    in / groups, *kernel), are orthogonal to each other. All such matrices are equally likely: Q
    comes from the QR decomposition of a normal matrix, with signs that make R's diagonal positive.

    Source: Saxe, McClelland and Ganguli, "Exact solutions to the nonlinear dynamics of learning in
    deep linear neural networks", 2014; Mezzadri, "How to generate random matrices from the
    classical compact groups", 2007, for the signs.

    Example:
        >>> weight = orthogonal().draw(Key(0), (2, 3), Fans(2, 3), torch.float32)
        >>> torch.allclose(weight @ weight.mT, torch.eye(2), atol=1e-6)
        True
    """
    return bare(Initializer, _orthogonal)


def _identity(key: Key, shape: Shape, fans: Fans, dtype: torch.dtype) -> Tensor:
    core.require(len(shape) == 2, "identity", "a weight of 2 axes", shape)
    return torch.eye(*shape, dtype=dtype, device=key.bits.device)


def identity() -> Initializer:
    """Fill a matrix with 1 on the diagonal and 0 elsewhere: y = x, cut or filled with zeros.

    Example:
        >>> identity().draw(Key(0), (2, 3), Fans(2, 3), torch.float32)
        tensor([[1., 0., 0.],
                [0., 1., 0.]])
    """
    return Initializer("identity()", _identity)


def _dirac(key: Key, shape: Shape, fans: Fans, dtype: torch.dtype, *, groups: int) -> Tensor:
    """Put a 1 in the middle of the kernel from input channel i to output channel i of a group."""
    wanted = f"a weight (out, in / groups, *kernel) whose out {groups} divides"
    core.require(len(shape) > 2 and shape[0] % groups == 0, "dirac", wanted, shape)
    weight = torch.zeros(shape, dtype=dtype, device=key.bits.device)
    out = shape[0] // groups
    middle = tuple(size // 2 for size in shape[2:])
    for group in range(groups):
        for i in range(min(out, shape[1])):
            weight[(group * out + i, i, *middle)] = 1
    return weight


@core.constructor
def dirac(groups: PositiveInt = 1) -> Initializer:
    """Fill a convolution's weight so that each output channel is an input channel: y = x.

    In each group, output channel i copies input channel i, if there is one, by a 1 in the middle of
    the kernel.

    Example:
        >>> dirac().draw(Key(0), (1, 2, 3), Fans(6, 3), torch.float32)
        tensor([[[0., 1., 0.],
                 [0., 0., 0.]]])
    """
    return bare(Initializer, _dirac)


def _sparse(
    key: Key, shape: Shape, fans: Fans, dtype: torch.dtype, *, sparsity: float, std: float
) -> Tensor:
    core.require(len(shape) == 2, "sparse", "a weight of 2 axes", shape)
    of_values, of_order = map(key.fold_in, range(2))
    order = keys.bits(of_order, shape).argsort(0)
    silent = order < math.ceil(sparsity * shape[0])
    return keys.normal(of_values, shape, 0.0, std, dtype).masked_fill_(silent, 0)


@core.constructor
def sparse(sparsity: Probability, std: NonNegative = 0.01) -> Initializer:
    """Draw from the normal distribution, and set a share of each column to 0.

    A column of a dense weight, of shape (n_in, n_out), has the weights of one output. So each
    output starts with the same number of inputs.

    Args:
        sparsity: the share, in [0, 1]; rounded up to whole elements.
        std: the standard deviation of the others.

    Source: Martens, "Deep learning via Hessian-free optimization", 2010, section 5.

    Example:
        >>> weight = sparse(0.75).draw(Key(0), (8, 3), Fans(8, 3), torch.float32)
        >>> (weight == 0).sum(0)
        tensor([6, 6, 6])
    """
    return bare(Initializer, _sparse)
