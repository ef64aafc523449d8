"""Matrix product of two inputs: y = a b.

Derivation. With y_(ij) = sum_k a_(ik) b_(kj),

    da_(ik) = sum_j g_(ij) b_(kj)    da = g b^T
    db_(kj) = sum_i a_(ik) g_(ij)    db = a^T g

Leading axes are those of a batch of matrices. Where a or b is repeated along one, its gradient is
the sum over the copies, as `broadcast` derives it.

Cache: a and b, and the shape of y.
"""

from __future__ import annotations

from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn.core import Layer, Like, bare, constructor, record, static, unexpected
from lincoln_fn.layers.broadcast import common_shape, summed_to
from lincoln_fn.layers.common.inputs import check_inputs

Pair: TypeAlias = tuple[Float[Tensor, "*batch_a n k"], Float[Tensor, "*batch_b k m"]]


@record
class Cache:
    a: Float[Tensor, "*batch_a n k"]
    b: Float[Tensor, "*batch_b k m"]
    y: Like = static()


def forward(params: tuple[()], x: Pair) -> tuple[Float[Tensor, "*batch n m"], Cache]:
    """Compute y_ij = sum_k a_ik b_kj."""
    check_inputs("matmul", x)
    shapes = tuple(tuple(x_i.shape) for x_i in x)
    fits = len(x) == 2 and min(map(len, shapes)) > 1 and shapes[0][-1] == shapes[1][-2]
    if not fits:
        shown = " and ".join(map(str, shapes))
        raise unexpected("matmul", "x to be (a, b) of shapes (..., n, k) and (..., k, m)", shown)
    common_shape("matmul", (shapes[0][:-2], shapes[1][:-2]))
    a, b = x
    y = torch.matmul(a, b)
    return y, Cache(a, b, Like.of(y))


def backward(
    params: tuple[()], cache: Cache, g: Float[Tensor, "*batch n m"]
) -> tuple[Pair, tuple[()]]:
    """Compute da = g b^T and db = a^T g."""
    a, b = cache.a, cache.b
    da, db = g @ b.mT, a.mT @ g
    return (summed_to(da, tuple(a.shape)), summed_to(db, tuple(b.shape))), ()


@constructor(kind="product", along="rows")
def matmul() -> Layer:
    """Multiply two inputs as matrices: y = a b. `dense` multiplies by a matrix that is trained.

    x is (a, b), of shapes (..., n, k) and (..., k, m); y has (..., n, m). The leading axes are
    alike, or fit together as `broadcast_tensors` has it.

    Example:
        >>> matmul().predict((), (torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0], [4.0]])))
        tensor([[11.]])
    """
    return bare(Layer, forward, backward)
