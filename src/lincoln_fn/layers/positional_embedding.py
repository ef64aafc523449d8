"""Learned positions: y = x + W, with one row of W for each position of a sequence.

Derivation. All axes of x except the last two are axes of sequences. For one sequence and its
positions t, with g_(tj) for dL/dy_(tj),

    y_(tj) = x_(tj) + W_(tj)
    dx_(tj) = g_(tj)
    dW_(tj) = {(sum g_(tj), if t < "length"), (0, otherwise):}    the sum over the sequences

Cache: the shape of x.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import Key, Layer, PositiveInt, Sequence, bare, mirror, record
from lincoln_fn.initializers import Fans, Initializer, normal


@record
class Params:
    """The vector that is added at each position."""

    weight: Float[Tensor, "max_len features"]


def init(key: Key, x: Sequence, *, max_len: int, weight_init: Initializer) -> Params:
    """Draw W of shape (max_len, features)."""
    _check_shape(max_len, None, x)
    shape = (max_len, x.shape[-1])
    return Params(weight_init.draw(key, shape, Fans(*shape), x.dtype))


def forward(params: Params, x: Sequence) -> tuple[Sequence, Sequence]:
    """Compute y = x + the first rows of W."""
    axes = "(max_len, features)"
    max_len, features = core.shape_of("positional_embedding", params.weight, axes)
    core.check_like("positional_embedding", "x", x, params.weight)
    _check_shape(max_len, features, x)
    return x + params.weight[: x.shape[-2]], x.new_zeros(()).expand(x.shape)


def backward(params: Params, cache: Sequence, g: Sequence) -> tuple[Sequence, Params]:
    """Compute dx = g, and dW = sum of g over the sequences, with zeros past their length."""
    dweight = g.flatten(0, -3).sum(0) if g.ndim > 2 else g
    missing = len(params.weight) - g.shape[-2]
    return g, Params(torch.nn.functional.pad(dweight, (0, 0, 0, missing)))


def terms(params: Params, cache: Tensor, g: Tensor) -> Params:
    """Return dW_n = sum of g over the sequences of example n, with zeros past their length."""
    core.check_batched("positional_embedding", g, 3)
    missing = len(params.weight) - g.shape[-2]
    padded = torch.nn.functional.pad(g, (0, 0, 0, missing))
    return mirror(params, weight=core.sum_axes(padded, tuple(range(1, g.ndim - 2))))


@core.constructor(kind="addition", terms=terms)
def positional_embedding(max_len: PositiveInt, *, weight_init: Initializer = normal(0.02)) -> Layer:
    """Add a trained vector for each position of a sequence: y = x + W.

    x has shape (..., length, features), with length at most max_len, and so has y.

    Args:
        weight_init: draws the vectors, by default normal with standard deviation 0.02, small
            compared to the features that they are added to.

    Example:
        >>> params = Params(torch.tensor([[1.0], [2.0], [3.0]]))
        >>> positional_embedding(3).predict(params, torch.tensor([[10.0], [10.0]]))
        tensor([[11.],
                [12.]])
    """
    return bare(Layer, forward, backward, init)


def _check_shape(max_len: int, features: int | None, x: Tensor) -> None:
    if x.ndim < 2 or x.shape[-1] != (features or x.shape[-1]) or x.shape[-2] > max_len:
        wanted = f"(..., length, {features or 'features'}) with length at most {max_len}"
        raise core.wrong_shape(f"positional_embedding({max_len})", "x", x, wanted)
