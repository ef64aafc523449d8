"""Embedding: row x_t of a table of weights for each index x_t.

Derivation. y_tj = W_vj where v = x_t, so with d_vt = 1 where x_t = v, else 0,

    dL/dW_vj = sum_t d_vt g_tj,

the sum of the rows of g whose index is v. Row `padding_idx`, if there is one, starts at zero and
has the gradient zero, so that training leaves it there. Indices have no gradient: dx is None.

Sums of many small rows would stop growing in bfloat16 (256 + 1 = 256), so they are made in float32
at least. Cache: x, and padding_idx.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lincoln_fn.initializers import Fans, Initializer
from lincoln_fn.keys import Key
from lincoln_fn.record import record, static
from lincoln_fn.shapes import LayerError, check_cache, check_cotangent, check_params


@record
class Params:
    """The table W, one row an index."""

    weight: Float[Tensor, "num_embeddings embedding_dim"]


@record
class Cache:
    """The indices, and the one among them that has no gradient, or None."""

    x: Int[Tensor, "*batch"]
    padding_idx: int | None = static()


def init(
    key: Key,
    x: Int[Tensor, "*batch"],
    *,
    num_embeddings: int,
    embedding_dim: int,
    padding_idx: int | None,
    weight_init: Initializer,
    dtype: torch.dtype,
) -> Params:
    """Make parameters for indices like x.

    Args:
        key: what the initial values are drawn from.
        x: an example input, of which only dtype and device count.
        num_embeddings: the number of rows.
        embedding_dim: the number of features of y.
        padding_idx: the row that is zero; None for none.
        weight_init: draws the weight.
        dtype: of the weight.

    Returns:
        The parameters, on x's device.

    Raises:
        LayerError: if x is not a tensor of integers.
    """
    _check_indices(x)
    fans = Fans(num_embeddings, embedding_dim)
    weight = weight_init.draw(key.near(x), (num_embeddings, embedding_dim), fans, dtype)
    if padding_idx is not None:
        weight = weight.clone()  # an initializer may have drawn from what is not ours to change
        weight[padding_idx] = 0
    return Params(weight)


def forward(
    params: Params, x: Int[Tensor, "*batch"], *, padding_idx: int | None = None
) -> tuple[Float[Tensor, "*batch embedding_dim"], Cache]:
    """Compute y_t = W_v with v = x_t.

    Args:
        params: the table.
        x: indices from 0 to num_embeddings - 1, of any integer dtype and shape.
        padding_idx: the index whose row has no gradient; None for none.

    Returns:
        y of x's shape with the features behind it, and the cache.

    Raises:
        LayerError: if x is not a tensor of integers in the table's range and on its device, or
            params are another layer's. On a GPU an index out of range is the device's own error.

    Example:
        >>> params = Params(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
        >>> forward(params, torch.tensor([1, 1, 0]))[0]
        tensor([[3., 4.],
                [3., 4.],
                [1., 2.]])
    """
    check_params("embedding", params, Params)
    _check_indices(x)
    weight = params.weight
    if x.device != weight.device:
        raise LayerError("embedding", f"expected x on {weight.device}, got {x.device}")
    try:
        y = torch.nn.functional.embedding(x.long(), weight)
    except IndexError as error:
        low, high = x.aminmax()
        wrong = low if low < 0 else high
        problem = f"expected indices from 0 to {len(weight) - 1}, got {wrong}"
        raise LayerError("embedding", problem) from error
    return y, Cache(x, padding_idx)


def backward(
    params: Params, cache: Cache, g: Float[Tensor, "*batch embedding_dim"]
) -> tuple[None, Params]:
    """Compute dW_v = sum of g_t over all t with x_t = v, and zero for v = padding_idx.

    Args:
        params: those given to `forward`.
        cache: what `forward` returned.
        g: dL/dy, of y's shape.

    Returns:
        None, for indices have no gradient, and dparams.

    Raises:
        LayerError: if g does not mirror y, or params or the cache are another layer's.

    Example:
        >>> params, cache = Params(torch.zeros(2, 1)), Cache(torch.tensor([1, 1, 0]), None)
        >>> backward(params, cache, torch.tensor([[1.0], [2.0], [4.0]]))[1].weight
        tensor([[4.],
                [3.]])
    """
    check_params("embedding", params, Params)
    check_cache("embedding", cache, Cache)
    count, features = params.weight.shape
    check_cotangent("embedding", g, params.weight, (*cache.x.shape, features))
    wide = g.to(torch.promote_types(g.dtype, torch.float32))
    padding = -1 if cache.padding_idx is None else cache.padding_idx
    dweight = torch.ops.aten.embedding_dense_backward(wide, cache.x.long(), count, padding, False)
    return None, Params(dweight.to(g.dtype))


def _check_indices(x: object) -> None:
    if not isinstance(x, Tensor):
        raise LayerError("embedding", f"expected x to be a tensor, got {type(x).__name__}")
    if x.is_floating_point() or x.is_complex() or x.dtype is torch.bool:
        raise LayerError("embedding", f"expected x of integers, got {x.dtype}")
