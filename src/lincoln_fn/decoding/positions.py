"""How layers that add positions decode: position t of the text is not position t of a step."""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor

from lincoln_fn.core import Arrays, LayerError, Params, record
from lincoln_fn.decoding.row import Row, Rows
from lincoln_fn.layers import positional_embedding, rotary_embedding, sinusoidal_positions
from lincoln_fn.layers.common.rope_scaling import RopeScaling


@record
class Table:
    """The vector that is added at each position."""

    rows: Tensor


def _check_axis(axis: int) -> None:
    if axis != -2:
        raise LayerError("", f"adds positions along axis -2, but those of the text are in {axis}")


def _learned_init(
    params: positional_embedding.Params, x: Tensor, *, axis: int, max_length: int
) -> tuple[()]:
    _check_axis(axis)
    if max_length > (given := len(params.weight)):
        raise LayerError("", f"has {given} positions, fewer than max_length, {max_length}")
    return ()


def _fixed_init(params: tuple[()], x: Tensor, *, axis: int, max_length: int) -> Table:
    _check_axis(axis)
    return Table(sinusoidal_positions.forward((), x.new_zeros(max_length, x.shape[-1]))[0])


def _add_step(
    params: Params, state: Table | tuple[()], x: Tensor, *, position: Tensor
) -> tuple[Tensor, Table | tuple[()]]:
    """Compute y = x + the rows of W or P at the positions of x."""
    table = state.rows if isinstance(state, Table) else params.weight
    own = position + torch.arange(x.shape[-2], device=x.device)
    return x + table.index_select(0, own), state


def _turned_init(
    params: tuple[()], x: Arrays, *, axis: int, max_length: int, theta: float,
    rotary_dim: int | None, scaling: RopeScaling | None, **options: object,
) -> tuple[()]:  # fmt: skip
    _check_axis(axis)
    if scaling is not None:
        n = rotary_dim or _heads(x).shape[-1]
        lengths = torch.tensor([[1.0], [max_length]], dtype=torch.float64)
        # Most scalings have the same for every length, in one row.
        short, long = scaling.frequencies(theta, n, lengths).expand(2, -1)
        if not torch.equal(short, long):
            problem = f"has other frequencies at {max_length} positions, and so other keys"
            raise LayerError("", f"{problem}; take a smaller max_length")
    return ()


# Any: the hyperparameters of `rotary_embedding`.
def _turned_step(
    params: tuple[()], state: tuple[()], x: Arrays, *, position: Tensor, **options: Any
) -> tuple[Tensor, tuple[()]]:
    """Turn each pair by the angle of its position, unless x has positions of its own."""
    heads = _heads(x)
    given = x[1] if isinstance(x, tuple) else None
    own = position + torch.arange(heads.shape[-2], device=heads.device) if given is None else given
    return rotary_embedding.forward(params, (heads, own), **options)[0], ()


def _heads(x: Arrays) -> Tensor:
    heads: Tensor = x[0] if isinstance(x, tuple) else x
    return heads


ROWS: Final[Rows] = {
    positional_embedding: Row(_learned_init, _add_step),
    rotary_embedding: Row(_turned_init, _turned_step),
    sinusoidal_positions: Row(_fixed_init, _add_step),
}
