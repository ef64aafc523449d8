"""Layers that are used but not trained: `frozen`, `constant`, and `inference`.

Their parameters count as a state, so their gradient is never computed. The `backward` of a frozen
layer computes only dx, and `grads` nothing. Its states still advance.

Derivation of `constant`. y is taken for a constant, so dx = 0, and the part is not visited on the
way back. Its cache holds the shapes of x.

`inference` runs a layer as after training, and can still be differentiated. `predict` keeps no
cache, so it has no backward. A layer whose `predict` differs from its `forward` declares a pair
that computes it and its gradient (`at_inference`):

    dropout, alpha_dropout          y = x, dx = g
    rrelu                           the mean slope
    attention's dropout             no weight is dropped
    batch_norm, instance_norm       an affine map by the running statistics

Any other layer stays as it is; only its state does not advance.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import Arrays, Cache, Function, Layer, LayerError, Params, State, checked, tree
from lincoln_fn.layers.stop_gradient import zero
from lincoln_fn.walk.internal import Record, VisitBack, VisitRecord, VisitThere, around, fields

Statistics: TypeAlias = Literal["moving", "still"]


@core.record
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
    """Compute only the layer's dx."""
    return visit(0, visit.made.split_params(params)[0], cache, g, train=False)


def _gather(visit: VisitRecord, params: FrozenParams, records: Record) -> FrozenParams:
    """Return the params, which have no gradient."""
    core.check_params("frozen", params, FrozenParams)
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
    """Return dx = 0."""
    core.check_params("constant", params, FrozenParams)
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


@checked
def inference(layer: Layer) -> Layer:
    """Run a layer as after training, with a gradient.

    Its `forward` computes what the layer's `predict` does, and its `backward` the gradient of that.
    Dropout is off, batch norm normalises by its running statistics, and no state advances. Its
    params are still trained: `frozen(inference(backbone))` is torch's `backbone.eval()` with
    `backbone.requires_grad_(False)`.

    Raises:
        LayerError: if a user's layer has its own `predict`, and declares no backward of it.

    Example:
        >>> net = inference(lf.serial(lf.dense(2), lf.dropout(0.5)))
        >>> net
        serial(dense(2), inference(dropout()))
        >>> params, x = net.init(lf.Key(0), torch.ones(1, 3)), torch.ones(1, 3)
        >>> (net.forward(params, x)[0] == net.predict(params, x)).all()
        tensor(True)
    """
    return core.map_layers(_at_inference, layer)


def with_statistics_still(layer: Layer) -> Layer:
    """Let the parts of a layer that track statistics normalise by them, without updating."""

    def still(part: Layer) -> Layer:
        is_norm = core.declared_by(part.predict).kind in ("norm", "batch_norm")
        return _at_inference(part) if is_norm and not core.is_derived(part, "predict") else part

    return core.map_layers(still, layer)


def _at_inference(layer: Layer) -> Layer:
    changes = {}
    if not core.is_derived(layer, "predict"):
        forward, backward = _forms(layer)
        forward = core.bind_like(forward, layer.predict)
        named = core.called(layer.name)
        changes = {
            "forward": core.shape_checked(forward, named),
            "backward": core.shape_checked(backward, named),
        }
    elif layer.advance is core.unchanged:
        return layer
    call = core.call_of(inference, layer)
    return layer.replace(name=call, spec=call, **changes, advance=core.unchanged)


def _forms(layer: Layer) -> tuple[Function, Function]:
    forms = core.declared_by(layer.predict).at_inference
    if forms is None:
        problem = "has a predict of its own, of which no backward is known"
        mend = (
            "declare one by lf.declare(predict, at_inference=(forward, backward)), or put a layer "
            "in its place by lf.map_layers"
        )
        raise LayerError(f"inference: {layer.name}", f"{problem}; {mend}")
    return forms
