"""A layer that runs as after training, and can still be differentiated.

`predict` keeps no cache, so it has no backward. A layer whose `predict` differs from its `forward`
declares a pair that computes it and its gradient (`at_inference`):

    dropout, alpha_dropout          y = x, dx = g
    rrelu                           the mean slope
    attention's dropout             no weight is dropped
    batch_norm, instance_norm       an affine map by the running statistics

Any other layer stays as it is; only its state does not advance.
"""

from __future__ import annotations

from lincoln_fn import core
from lincoln_fn.core import Function, Layer, call_of, declared_by, is_derived, map_layers, unchanged
from lincoln_fn.layers.jvp import directed, jvp


@core.checked
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
    return map_layers(_at_inference, layer)


def with_statistics_still(layer: Layer) -> Layer:
    """Let the parts of a layer that track statistics normalise by them, without updating."""

    def still(part: Layer) -> Layer:
        is_norm = declared_by(part.predict).kind in ("norm", "batch_norm")
        return _at_inference(part) if is_norm and not is_derived(part, "predict") else part

    return map_layers(still, layer)


def _at_inference(layer: Layer) -> Layer:
    if (part := directed(layer)) is not None:
        return jvp(inference(part))
    changes = {}
    if not is_derived(layer, "predict"):
        forward, backward = _forms(layer)
        forward = core.bind_like(forward, layer.predict)
        named = core.called(layer.name)
        changes = {
            "forward": core.shape_checked(forward, named),
            "backward": core.shape_checked(backward, named),
        }
    elif layer.advance is unchanged:
        return layer
    call = call_of(inference, layer)
    return layer.replace(name=call, spec=call, **changes, advance=unchanged)


def _forms(layer: Layer) -> tuple[Function, Function]:
    forms = declared_by(layer.predict).at_inference
    if forms is None:
        problem = "has a predict of its own, of which no backward is known"
        mend = (
            "declare one by lf.declare(predict, at_inference=(forward, backward)), or put a layer "
            "in its place by lf.map_layers"
        )
        raise core.LayerError(f"inference: {layer.name}", f"{problem}; {mend}")
    return forms
