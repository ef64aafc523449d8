"""A layer that is used as it is after training, and through which no gradient goes.

Derivation. y is taken for a constant, so dx = 0, and the parameters have no gradient. The part is
not visited on the way back: nothing of it is kept.

Cache: the shapes of x.
"""

from __future__ import annotations

from torch import Tensor

from lincoln_fn.combine.frozen import ARRANGEMENT, FrozenParams, gather, init
from lincoln_fn.combine.inference import inference
from lincoln_fn.core import Arrays, Layer, check_params, checked, tree
from lincoln_fn.layers.common.stand_in import stand_in
from lincoln_fn.layers.stop_gradient import zero
from lincoln_fn.walk import VisitBack, VisitThere
from lincoln_fn.walk.internal import Record, around


def _there(visit: VisitThere, params: FrozenParams, x: Arrays) -> tuple[Arrays, Arrays]:
    """Use the layer as it is, and keep only the shapes of x."""
    check_params("constant", params, FrozenParams)
    y, _ = visit(0, params.params, x)
    return tree.map(Tensor.detach, y), tree.map(stand_in, x)


def back(visit: VisitBack, params: FrozenParams, cache: Arrays, g: Arrays) -> tuple[Arrays, Record]:
    """Return dx = 0."""
    check_params("constant", params, FrozenParams)
    return tree.map(zero, cache), None


@checked
def constant(layer: Layer) -> Layer:
    """Use a layer as after training, and pass no gradient through it: `torch.no_grad` as a layer.

    It is meant for a teacher, or a target that another network has to reach. The layer runs as
    `inference(layer)` does: dropout is off, and no state advances. A training step keeps nothing of
    it. `frozen` is for a layer through which a gradient goes, `stop_gradient` for one whose params
    are trained elsewhere.

    Returns:
        The layer, whose params are `FrozenParams` of the layer's own.

    Raises:
        LayerError: as `inference` does; from its functions, if the layer raises one, or params are
            not frozen.

    Example:
        >>> net, x = constant(lf.dense(2)), torch.ones(1, 3)
        >>> y, cache = net.forward(net.init(lf.Key(0), x), x)
        >>> net.backward(net.init(lf.Key(0), x), cache, torch.ones(1, 2))[0]
        tensor([[0., 0., 0.]])
    """
    return around(
        constant, inference(layer), _there, back,
        gather=gather, init=init, arrange=ARRANGEMENT,
    )  # fmt: skip
