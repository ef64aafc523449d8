"""A dense layer in a composition that finds the number of its outputs when it makes params."""

from __future__ import annotations

from functools import partial
from typing import Any

from lincoln_fn.core import Arrays, Key, Layer, Params
from lincoln_fn.initializers import Initializer, fan_in_uniform
from lincoln_fn.layers import dense


def open_dense(
    outputs: str, *, bias: bool, weight_init: Initializer = fan_in_uniform(),
    bias_init: Initializer = fan_in_uniform(),
) -> Layer:  # fmt: skip
    """Make a dense layer whose number of outputs `with_outputs` says; alone, it has those of x.

    `outputs` says what they are, for the layer's name.
    """
    init = partial(_init, bias=bias, weight_init=weight_init, bias_init=bias_init)
    return dense.dense(1, bias=bias).replace(name=f"dense({outputs})", init=init)


def with_outputs(n_out: int, layer: Layer, *, fan_out: int | None = None) -> Layer:
    """Give a dense layer of `open_dense` as many outputs; any other layer stays as it is.

    That layer may stand inside a composition that was made around it, such as a rule.
    """
    made = layer.composition
    if made is not None:
        parts = (with_outputs(n_out, part, fan_out=fan_out) for part in made.parts)
        return made.rebuild(tuple(parts))
    init = getattr(layer.init, "function", layer.init)
    if isinstance(init, partial) and init.func is _init:
        return layer.replace(init=partial(init, n_out=n_out, fan_out=fan_out))
    return layer


# Any: the keywords of `dense.init`.
def _init(key: Key, x: Arrays, *, n_out: int | None = None, **options: Any) -> Params:
    return dense.init(key, x, n_out=x.shape[-1] if n_out is None else n_out, **options)
