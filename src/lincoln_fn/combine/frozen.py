"""Layers that are used but not trained: `frozen`, and `constant`, through which no gradient goes.

Their parameters count as a state, so their gradient is never computed. The `backward` of a frozen
layer computes only dx, and `grads` nothing. Its states still advance.

Derivation of `constant`. y is taken for a constant, so dx = 0, and the part is not visited on the
way back. Its cache holds the shapes of x.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from torch import Tensor

from lincoln_fn import core
from lincoln_fn.combine.inference import inference, with_statistics_still
from lincoln_fn.core import Arrays, Cache, Layer, Params, State, check_params, checked, record, tree
from lincoln_fn.layers.stop_gradient import zero
from lincoln_fn.walk.internal import Record, VisitBack, VisitRecord, VisitThere, around, fields

Statistics: TypeAlias = Literal["moving", "still"]


@record
class FrozenParams(State):
    """The parameters of a frozen layer. They are a state, so no optimizer sees them."""

    params: Params


_ARRANGEMENT: Final = fields(FrozenParams, "params", is_around=True)


def thaw(params: Params) -> Params:
    """Return the params inside those of a frozen layer; any others stay as they are."""
    return thaw(params.params) if isinstance(params, FrozenParams) else params


def _there(visit: VisitThere, params: FrozenParams, x: Arrays) -> tuple[Arrays, Record]:
    return visit(0, visit.made.split_params(params)[0], x, train=False)


def _back(visit: VisitBack, params: FrozenParams, cache: Cache, g: Arrays) -> tuple[Arrays, Record]:
    return visit(0, visit.made.split_params(params)[0], cache, g, train=False)


def _gather(visit: VisitRecord, params: FrozenParams, records: Record) -> FrozenParams:
    check_params("frozen", params, FrozenParams)
    return params


@checked
def frozen(layer: Layer, *, statistics: Statistics = "moving") -> Layer:
    """Use a layer without training it. Its params are `FrozenParams` of the layer's own.

    Args:
        statistics: "moving", as in training: batch norm uses the batch's statistics and updates the
            running ones. Or "still": it uses the running ones and does not update them. `inference`
            turns dropout off as well.

    Example:
        >>> net = lf.serial(frozen(lf.dense(5)), lf.relu(), lf.dense(2))
        >>> lf.tree.paths(net.init(lf.Key(0), torch.zeros(1, 3)))
        ['2.weight', '2.bias']
        >>> frozen(lf.batch_norm(), statistics="still")
        frozen(inference(batch_norm()))
    """
    if statistics == "still":
        layer = with_statistics_still(layer)
    return around(frozen, layer, _there, _back, gather=_gather, mask="part", arrange=_ARRANGEMENT)


def _constant_there(visit: VisitThere, params: FrozenParams, x: Arrays) -> tuple[Arrays, Arrays]:
    """Use the layer as it is, and keep only the shapes of x."""
    y, _ = visit(0, visit.made.split_params(params)[0], x)
    return tree.map(Tensor.detach, y), tree.map(core.stand_in, x)


def _constant_back(
    visit: VisitBack, params: FrozenParams, cache: Arrays, g: Arrays
) -> tuple[Arrays, Record]:
    check_params("constant", params, FrozenParams)
    return tree.map(zero, cache), None


@checked
def constant(layer: Layer) -> Layer:
    """Use a layer as after training, and pass no gradient through it: `torch.no_grad` as a layer.

    It is meant for a teacher, or a target that another network has to reach. The layer runs as
    `inference(layer)` does: dropout is off, and no state advances. `frozen` is for a layer through
    which a gradient goes, `stop_gradient` for one whose params are trained elsewhere. The params
    are `FrozenParams` of the layer's own.

    Example:
        >>> net, x = constant(lf.dense(2)), torch.ones(1, 3)
        >>> y, cache = net.forward(net.init(lf.Key(0), x), x)
        >>> net.backward(net.init(lf.Key(0), x), cache, torch.ones(1, 2))[0]
        tensor([[0., 0., 0.]])
    """
    return around(
        constant, inference(layer), _constant_there, _constant_back, gather=_gather,
        arrange=_ARRANGEMENT,
    )  # fmt: skip
