"""Cross-entropy of scores that are never all in memory: `dense` and `softmax_cross_entropy` in one.

Derivation. h is a row of features, W the matrix with a row of weights for each class, c the label
and w_c its weight, 1 unless given:

    x_j = sum_i h_i W_(ji)
    l = -w_c log p_c    with p = softmax(x)

The gradient in x is that of `softmax_cross_entropy`; with dx_j = (p_j - delta_(jc)) w_c dl,

    dh = dx W
    dW = dx^T h    summed over all rows

whose products have the factor w_c dl on their small side: (p_j - delta_(jc)) is never multiplied.

The rows are computed in chunks: the scores x of one chunk, their part of l, and then they are
freed. dh and dW are computed there, too, for dl = 1: of a mean or a sum all dl are equal, so
`backward` multiplies by dl. Where dl differs from row to row, `backward` computes the scores again.

Cache: h, W, the labels, and dh and dW for dl = 1, unless the reduction is "none".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lincoln_fn.core import PositiveInt, constructor, is_transformed, unexpected
from lincoln_fn.layers.log_softmax import minus_one_hot
from lincoln_fn.losses.common.labels import ClassWeights, Labels, read_labels, total_weight
from lincoln_fn.losses.internal import Cotangent, Loss, Reduction, make_loss

NAME = "linear_cross_entropy"
Features: TypeAlias = Float[Tensor, "N *s D"]
Matrix: TypeAlias = Float[Tensor, "C D"]
Rows: TypeAlias = Float[Tensor, "n D"]
# The labels, the features, the matrix, and their gradients for dl = 1.
Cache: TypeAlias = tuple[Labels, Features, Matrix, tuple[Features, Matrix] | None]


def forward(
    x: tuple[Features, Matrix], target: Int[Tensor, " N *s"],
    *, weight: Tensor | None, ignore_index: int, chunk_size: int, reduction: Reduction,
) -> tuple[Float[Tensor, " N *s"], Cache]:  # fmt: skip
    """Compute l = -w_c log p_c, and the gradients for dl = 1 if the values are reduced."""
    h, matrix = x
    if h.ndim < 2 or matrix.ndim != 2 or h.shape[-1] != matrix.shape[1]:
        wanted = "features of shape (N, ..., D) and linear_weight of shape (C, D)"
        raise unexpected(NAME, wanted, f"{tuple(h.shape)} and {tuple(matrix.shape)}")
    scores = h.new_zeros(()).expand(*h.shape[:-1], len(matrix))  # their shape alone
    labels = read_labels(NAME, scores, target, weight, ignore_index, -1)
    values, slopes = [], []
    dmatrix = None
    for rows, index, w in _chunks(labels, h, chunk_size):
        z = torch.log_softmax(rows @ matrix.mT, 1)
        values.append(torch.where(w != 0, -w * z.gather(1, index), 0))
        slope = minus_one_hot(z, index, 1) if reduction != "none" else None
        del z  # each tensor of the size of the scores is freed as soon as it has been read
        if slope is not None:
            dh, dmatrix = _gradients(slope, w, rows, matrix, dmatrix)
            slopes.append(dh)
            del slope
    value = torch.cat(values).view(h.shape[:-1])
    if dmatrix is None:
        return value, (labels, h, matrix, None)
    return value, (labels, h, matrix, (torch.cat(slopes).view(h.shape), dmatrix.to(matrix.dtype)))


def backward(cache: Cache, dl: Cotangent, *, chunk_size: int) -> tuple[Features, Matrix]:
    """Compute dh = dx W and dW = dx^T h."""
    labels, h, matrix, gradients = cache
    if gradients is not None and not (isinstance(dl, Tensor) and dl.ndim):
        dh, dmatrix = gradients
        return dh * dl, dmatrix * dl
    each = torch.as_tensor(dl, dtype=h.dtype, device=h.device).expand(h.shape[:-1])
    of_chunks = torch.split(each.reshape(-1, 1), chunk_size)
    slopes, total = [], None
    for (rows, index, w), of_chunk in zip(_chunks(labels, h, chunk_size), of_chunks, strict=True):
        slope = minus_one_hot(torch.log_softmax(rows @ matrix.mT, 1), index, 1)
        dh, total = _gradients(slope, w * of_chunk, rows, matrix, total)
        slopes.append(dh)
        del slope
    assert total is not None  # for there is a row
    return torch.cat(slopes).view(h.shape), total.to(matrix.dtype)


def _chunks(labels: Labels, h: Features, size: int) -> Iterator[tuple[Rows, Tensor, Tensor]]:
    w = labels.weights(h).reshape(-1, 1)
    parts = (h.reshape(-1, h.shape[-1]), labels.index.reshape(-1, 1), w)
    return zip(*(torch.split(part, size) for part in parts), strict=True)


def _gradients(
    slope: Float[Tensor, "n C"],
    dl: Float[Tensor, "n 1"],
    rows: Rows,
    matrix: Matrix,
    total: Matrix | None,
) -> tuple[Rows, Matrix]:
    """Compute dh = dx W, and add dx^T h to the chunks before, in float32 at least."""
    dh, rows = dl * (slope @ matrix), dl * rows  # slope is p_j - delta_jc
    dtype = torch.promote_types(slope.dtype, torch.float32)
    slope, rows = slope.to(dtype), rows.to(dtype)
    if total is None:
        return dh, slope.mT @ rows
    # In place, where no derivative is asked for: a new total would be one more large tensor.
    add = torch.addmm if is_transformed(total, slope, rows) else Tensor.addmm_
    return dh, add(total, slope.mT, rows)


@constructor
def linear_cross_entropy(
    *,
    weight: ClassWeights | None = None,
    ignore_index: int = -100,
    chunk_size: PositiveInt = 256,
    reduction: Reduction = "mean",
) -> Loss:
    """Make the cross-entropy of features times a matrix, without the matrix of all scores.

    l = -w_c log p_c with p the softmax of h W^T and c the label. Value and gradients are those of a
    dense layer and `softmax_cross_entropy`. Of a large vocabulary the scores take most of a step's
    memory; here only those of a chunk exist at a time. The prediction is (features, linear_weight)
    of shapes (N, ..., D) and (C, D), as `linear_head` gives them, and the target are class indices
    (N, ...).

    Args:
        ignore_index: examples of this label have value and gradient 0, and means leave them out.
        chunk_size: how many rows, such as tokens, are computed at a time.
        reduction: "mean" over the rows, "sum" of them, or "none". The mean is weighted,
            sum l / sum w_c. "none" computes the scores a second time in `backward`.

    Example:
        >>> loss = lf.losses.linear_cross_entropy(chunk_size=1)
        >>> h, weight = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.zeros(2, 2)
        >>> value, cache = loss.forward((h, weight), torch.tensor([0, 1]))
        >>> value, loss.backward(cache)[1]
        (tensor(0.6931), tensor([[-0.2500,  0.2500],
                [ 0.2500, -0.2500]]))
    """
    return make_loss(forward, backward, count=total_weight, inputs=("features", "linear_weight"))
