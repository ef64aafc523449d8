"""Dropout of a tensor of which each process has a part: its part of one process's mask.

Derivation. With M for the mask of the whole x, drawn from the key that all processes have,

    y_r = x_r M_r scale
    dx_r = g_r M_r scale

as in `layers/dropout.py`, where M_r is the part of M that belongs to x_r. Every process draws the
whole M, which takes the time of one process's draw, and keeps its own part. So the mask does not
depend on the number of processes.

Cache: M_r, and scale.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from lincoln_fn.core import Layer, Like, Probability, bare, check_axis, constructor, keys
from lincoln_fn.distributed.group import Group
from lincoln_fn.distributed.tensor_parallel.collectives import take_own_part
from lincoln_fn.layers import dropout


def forward(
    params: dropout.Params, x: Float[Tensor, "*s"], *, p: float, group: Group, axis: int
) -> tuple[Float[Tensor, "*s"], dropout.Cache]:
    """Compute y_r = x_r M_r scale."""
    check_axis("parallel_dropout", x, axis)
    sizes = list(x.shape)
    sizes[axis] *= group.size
    mask = take_own_part(keys.bernoulli(params.key.near(x), tuple(sizes), 1 - p), group, axis)
    scale = 1 / (1 - p) if p < 1 else 0.0
    return x * mask * scale, dropout.Cache(mask.clone(), scale, Like.of(x))


@constructor
def parallel_dropout(p: Probability, group: Group, axis: int = -1) -> Layer:
    """Drop elements of a tensor that is divided among processes, as one process would.

    It is for what `column_parallel` returns. Where all processes have the same tensor, `lf.dropout`
    draws the same mask in all.

    Args:
        axis: along which the tensor is divided.

    Example:
        >>> layer, x = parallel_dropout(1.0, lf.distributed.alone()), torch.ones(2)
        >>> layer.forward(layer.init(lf.Key(0), x), x)[0]
        tensor([0., 0.])
    """
    return bare(
        Layer, forward, dropout.backward, dropout.init, dropout.predict, advance=dropout.advance
    )
