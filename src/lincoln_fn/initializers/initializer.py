"""The initializer protocol, and initial values that do not depend on the fans of a layer."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import attrs
import torch
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import Bound, Key, NonNegative, Positive, Shape, Shown, bare, constructor, keys


class Fans(NamedTuple):
    """The number of inputs of each output of a layer, and of outputs of each input."""

    n_in: int
    n_out: int


@attrs.frozen(eq=False, repr=False)
class Initializer(core.Made):
    """A way to draw initial values.

    Args:
        name: the code that makes it; its repr.
        draw: (key, shape, fans, dtype) -> tensor, on the key's device.
    """

    name: str
    draw: Callable[[Key, Shape, Fans, torch.dtype], Tensor]


def _constant(key: Key, shape: Shape, fans: Fans, dtype: torch.dtype, *, value: float) -> Tensor:
    return torch.full(shape, value, dtype=dtype, device=key.bits.device)


@constructor
def constant(value: float) -> Initializer:
    """Fill with one number.

    Example:
        >>> constant(2.0).draw(Key(0), (3,), Fans(1, 1), torch.float32)
        tensor([2., 2., 2.])
    """
    return bare(Initializer, _constant)


def zeros() -> Initializer:
    """Fill with 0.

    Example:
        >>> zeros().draw(Key(0), (3,), Fans(1, 1), torch.float32)
        tensor([0., 0., 0.])
    """
    return Initializer("zeros()", constant(0.0).draw)


def ones() -> Initializer:
    """Fill with 1.

    Example:
        >>> ones().draw(Key(0), (3,), Fans(1, 1), torch.float32)
        tensor([1., 1., 1.])
    """
    return Initializer("ones()", constant(1.0).draw)


def _uniform(
    key: Key, shape: Shape, fans: Fans, dtype: torch.dtype, *, low: float, high: float
) -> Tensor:
    return keys.uniform(key, shape, low, high, dtype)


@constructor
def uniform(low: Shown[float] = 0.0, high: Shown[float] = 1.0) -> Initializer:
    """Draw uniformly from [low, high).

    Example:
        >>> uniform(-0.05, 0.05)
        uniform(-0.05, 0.05)
    """
    core.require(low <= high, "uniform", "low of at most high", (low, high))
    return bare(Initializer, _uniform)


def _normal(
    key: Key, shape: Shape, fans: Fans, dtype: torch.dtype, *, mean: float, std: float
) -> Tensor:
    return keys.normal(key, shape, mean, std, dtype)


@constructor
def normal(std: NonNegative, mean: float = 0.0) -> Initializer:
    """Draw from the normal distribution.

    Example:
        >>> normal(0.01)
        normal(0.01)
    """
    return bare(Initializer, _normal)


def _truncated_normal(
    key: Key,
    shape: Shape,
    fans: Fans,
    dtype: torch.dtype,
    *,
    std: float,
    mean: float,
    low: float,
    high: float,
) -> Tensor:
    """Compute F^-1 of uniform numbers between F(low) and F(high)."""
    first, last = (math.erf((bound - mean) / std / math.sqrt(2)) for bound in (low, high))
    unit = torch.erfinv(keys.uniform(key, shape, first, last, torch.float64))
    return unit.mul_(std * math.sqrt(2)).add_(mean).clamp_(low, high).to(dtype)


@constructor
def truncated_normal(
    std: Shown[Positive] = 1.0,
    mean: float = 0.0,
    low: Bound = -2.0,
    high: Bound = 2.0,
) -> Initializer:
    """Draw from the normal distribution as it is between two bounds.

    With F the normal distribution function, F(x) is uniform between F(low) and F(high): each
    uniform number gives one value, and no draw is rejected.

    Args:
        std: the standard deviation before truncation, above 0.
        low: the smallest value; as in torch, it is not in units of std.

    Example:
        >>> bool(truncated_normal().draw(Key(0), (9,), Fans(1, 1), torch.float32).abs().max() <= 2)
        True
    """
    core.require(low < high, "truncated_normal", "low below high", (low, high))
    return bare(Initializer, _truncated_normal)


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


@constructor
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


@constructor
def dirac(groups: core.PositiveInt = 1) -> Initializer:
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


@constructor
def sparse(sparsity: core.Probability, std: NonNegative = 0.01) -> Initializer:
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
