"""A layer that is used but not trained.

Its parameters count as a state, so their gradient is never computed: `backward` computes only dx,
and `grads` nothing. Keys still advance, and so do running statistics unless `statistics="still"`.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from lincoln_fn.combine.inference import with_statistics_still
from lincoln_fn.core import Arrays, Cache, Key, Layer, Params, State, check_params, checked, record
from lincoln_fn.walk import VisitBack, VisitThere, fields
from lincoln_fn.walk.internal import Record, VisitRecord, around

Statistics: TypeAlias = Literal["moving", "still"]


@record
class FrozenParams(State):
    """The parameters of a frozen layer. They are a state, so no optimizer sees them."""

    params: Params


ARRANGEMENT: Final = fields(FrozenParams, "params", is_around=True)


def thaw(params: Params) -> Params:
    """Return the params inside those of a frozen layer; any others stay as they are."""
    return thaw(params.params) if isinstance(params, FrozenParams) else params


def _there(visit: VisitThere, params: FrozenParams, x: Arrays) -> tuple[Arrays, Record]:
    """Use the layer as it is."""
    check_params("frozen", params, FrozenParams)
    return visit(0, params.params, x)


def _back(visit: VisitBack, params: FrozenParams, cache: Cache, g: Arrays) -> tuple[Arrays, Record]:
    """Compute only the layer's dx."""
    check_params("frozen", params, FrozenParams)
    return visit(0, params.params, cache, g, train=False)


def gather(visit: VisitRecord, params: FrozenParams, records: Record) -> FrozenParams:
    """Return the params, which have no gradient."""
    check_params("frozen", params, FrozenParams)
    return params


def init(parts: tuple[Layer, ...], key: Key, x: Arrays) -> FrozenParams:
    """Make the params of the part."""
    return FrozenParams(parts[0].init(key, x))


def _advance(visit: VisitThere, params: FrozenParams, cache: Cache) -> FrozenParams:
    check_params("frozen", params, FrozenParams)
    return FrozenParams(visit.advance(0, params.params, cache))


@checked
def frozen(layer: Layer, *, statistics: Statistics = "moving") -> Layer:
    """Use a layer without training it.

    Args:
        statistics: "moving", as in training: batch norm uses the batch's statistics and updates the
            running ones. Or "still": it uses the running ones and does not update them. `inference`
            turns dropout off as well.

    Returns:
        The layer, whose params are `FrozenParams` of the layer's own.

    Raises:
        LayerError: if statistics is neither; from its functions, if the layer raises one, or params
            are not frozen.

    Example:
        >>> net = lf.serial(frozen(lf.dense(5)), lf.relu(), lf.dense(2))
        >>> lf.tree.paths(net.init(lf.Key(0), torch.zeros(1, 3)))
        ['2.weight', '2.bias']
        >>> frozen(lf.batch_norm(), statistics="still")
        frozen(inference(batch_norm()))
    """
    if statistics == "still":
        layer = with_statistics_still(layer)
    return around(
        frozen, layer, _there, _back, gather=gather, init=init, advance=_advance,
        mask="part", arrange=ARRANGEMENT,
    )  # fmt: skip
