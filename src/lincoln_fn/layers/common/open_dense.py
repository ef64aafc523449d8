"""A dense layer in a composition that finds the number of its outputs when it makes params."""

from __future__ import annotations

from functools import partial

from lincoln_fn.core import Arrays, Key, Layer, Params
from lincoln_fn.initializers import Initializer, fan_in_uniform
from lincoln_fn.layers.dense import dense

_FAN_IN_INIT = fan_in_uniform()


def open_dense(
    outputs: str, *, bias: bool, weight_init: Initializer = _FAN_IN_INIT,
    bias_init: Initializer = _FAN_IN_INIT,
) -> Layer:  # fmt: skip
    """Make a dense layer whose number of outputs `with_outputs` says.

    Args:
        outputs: what they are, for the layer's name.
        weight_init: draws the weight.
        bias_init: draws the bias.

    Example:
        >>> open_dense("features", bias=False)
        dense(features)
    """
    init = partial(_init, bias=bias, weight_init=weight_init, bias_init=bias_init)
    return dense(1, bias=bias).replace(name=f"dense({outputs})", init=init)


def with_outputs(n_out: int, layer: Layer) -> Layer:
    """Give a dense layer of `open_dense` as many outputs; any other layer stays as it is.

    Args:
        n_out: the number.
        layer: the layer, or a composition that was made around it, such as a rule.

    Example:
        >>> layer = with_outputs(3, open_dense("features", bias=False))
        >>> layer.init(lf.Key(0), torch.zeros(2, 5)).weight.shape
        torch.Size([5, 3])
    """
    made = layer.composition
    if made is not None:
        return made.rebuild(tuple(with_outputs(n_out, part) for part in made.parts))
    init = getattr(layer.init, "function", layer.init)
    if isinstance(init, partial) and init.func is _init:
        return layer.replace(init=partial(init, n_out=n_out))
    return layer


def _init(
    key: Key, x: Arrays, *, n_out: int = 1, bias: bool, weight_init: Initializer,
    bias_init: Initializer,
) -> Params:  # fmt: skip
    layer = dense(n_out, bias=bias, weight_init=weight_init, bias_init=bias_init)
    return layer.init(key, x)
