"""A layer that runs as after training, and can still be differentiated.

`predict` keeps no cache, so it has no backward. In `inference(layer)`, `forward` computes what
`predict` does, and `backward` is its gradient. `FORMS` has a row for each layer whose `predict`
differs from its `forward`:

    dropout, alpha_dropout          y = x, dx = g
    rrelu                           the mean slope
    attention's dropout             no weight is dropped
    batch_norm, instance_norm       an affine map by the running statistics

Any other layer stays as it is; only its state does not advance.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final, NamedTuple, TypeAlias

import torch
from torch import Tensor

from lincoln_fn.arguments import checked
from lincoln_fn.layer import (
    Arrays,
    Cache,
    Layer,
    Params,
    is_derived,
    map_layers,
    unbound,
    unchanged,
)
from lincoln_fn.layers import (
    _by_running,
    _heads,
    alpha_dropout,
    batch_norm,
    dropout,
    instance_norm,
    rrelu,
)
from lincoln_fn.shapes import LayerError, check_cotangent

# Any: the functions of every layer, with params, caches and hyperparameters of their own.
Function: TypeAlias = Callable[..., Any]


class Form(NamedTuple):
    """How a layer's `forward` and `backward` at inference are made from the layer's own functions.

    Args:
        forward: makes `forward` from `predict`, which has the hyperparameters bound.
        backward: (params, cache, g) -> (dx, dparams).
        by_statistics: whether it uses running statistics.
    """

    forward: Callable[[Function], Function]
    backward: Function
    by_statistics: bool = False


def _as_it_is(params: Params, x: Tensor, *, predict: Function) -> tuple[Tensor, Tensor]:
    # An expanded zero: y's shape, dtype and device, and the memory of one number.
    return predict(params, x), x.new_zeros(()).expand(x.shape)


def _as_it_is_backward(params: Params, cache: Tensor, g: Tensor) -> tuple[Tensor, Params]:
    check_cotangent("inference", g, cache)
    return g, params


def _mean_slope(params: Params, x: Tensor, *, predict: Function) -> tuple[Tensor, Tensor]:
    options = _keywords(predict)
    mean = (options["lower"] + options["upper"]) / 2
    return predict(params, x), torch.where(x > 0, 1.0, x.new_full((), mean))


def _without_dropout(params: Params, x: Arrays, *, predict: Function) -> tuple[Tensor, Cache]:
    return _heads.forward(None, x, **{**_keywords(predict), "p": 0.0})


def _by_statistics(norm: _by_running.Norm) -> Form:
    def forward(predict: Function) -> Function:
        return partial(_by_running.forward, norm=norm, **_keywords(predict))

    return Form(forward, partial(_by_running.backward, norm=norm), by_statistics=True)


def _bound(forward: Function) -> Callable[[Function], Function]:
    return lambda predict: partial(forward, predict=predict)


def _keywords(function: Function) -> dict[str, Any]:  # Any: hyperparameters
    return function.keywords if isinstance(function, partial) else {}


FORMS: Final[dict[Function, Form]] = {
    dropout.predict: Form(_bound(_as_it_is), _as_it_is_backward),
    alpha_dropout.predict: Form(_bound(_as_it_is), _as_it_is_backward),
    rrelu.predict: Form(_bound(_mean_slope), rrelu.backward),
    _heads.predict: Form(_bound(_without_dropout), _heads.backward),
    batch_norm.predict: _by_statistics(_by_running.BATCH),
    instance_norm.predict: _by_statistics(_by_running.INSTANCE),
}


@checked
def inference(layer: Layer) -> Layer:
    """Run a layer as after training, with a gradient.

    Its `forward` computes what the layer's `predict` does, and its `backward` the gradient of that.
    Dropout is off, batch norm normalises by its running statistics, and no state advances. Its
    params are still trained: `frozen(inference(backbone))` is torch's `backbone.eval()` with
    `backbone.requires_grad_(False)`.

    Args:
        layer: a layer, or a composition of layers.

    Returns:
        The layer, with the params of the one given. Each part that changes is shown as
        `inference(...)`.

    Raises:
        LayerError: if a user's layer has its own `predict`, whose backward is not known.

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
    """Let the parts of a layer that track statistics normalise by them without updating them.

    Args:
        layer: the layer.

    Returns:
        The layer. Its dropout still drops.

    Raises:
        LayerError: as `inference` does.

    Example:
        >>> with_statistics_still(lf.serial(lf.batch_norm(), lf.dropout(0.5)))
        serial(inference(batch_norm()), dropout())
    """

    def still(part: Layer) -> Layer:
        if is_derived(part, "predict") or not _form_of(part).by_statistics:
            return part
        return _at_inference(part)

    return map_layers(still, layer)


def _at_inference(layer: Layer) -> Layer:
    name = f"inference({layer.name})"
    if is_derived(layer, "predict"):
        return layer if layer.advance is unchanged else layer.replace(name=name, advance=unchanged)
    form = _form_of(layer)
    forward, backward = form.forward(layer.predict), form.backward
    return layer.replace(name=name, forward=forward, backward=backward, advance=unchanged)


def _form_of(layer: Layer) -> Form:
    form = FORMS.get(unbound(layer.predict))
    if form is None:
        problem = "has a predict of its own, of which no backward is known"
        mend = (
            "first put a layer in its place, by lf.map_layers, whose forward computes that predict"
        )
        raise LayerError(f"inference: {layer.name}", f"{problem}; {mend}")
    return form
