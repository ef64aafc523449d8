"""Gated feed-forward layers: y = (f(x W_g + b_g) (x W_u + b_u)) W_d + b_d, with an activation f.

Derivation. Three dense layers, with an activation and a product element by element between them:

    a = x W_g + b_g    the gate
    u = x W_u + b_u
    h = f(a) u
    y = h W_d + b_d

The chain rule gives each part its g:

    dh = g W_d^T    and `dense` derives dW_d and db_d
    du = dh f(a)
    da = dh u f'(a)
    dx = da W_g^T + du W_u^T    and `dense` derives the other gradients
"""

from __future__ import annotations

from functools import partial
from typing import Literal

from lincoln_fn.combine._wiring import Wiring, wired
from lincoln_fn.core import Layer, PositiveInt, Spec, bare, constructor, record
from lincoln_fn.initializers import Initializer, fan_in_uniform
from lincoln_fn.layers import dense
from lincoln_fn.layers.common.open_dense import open_dense
from lincoln_fn.layers.gelu import gelu
from lincoln_fn.layers.multiply import multiply
from lincoln_fn.layers.silu import silu
from lincoln_fn.walk import fields


@record
class Params:
    """The params of the three dense layers: W_g and b_g, W_u and b_u, W_d and b_d."""

    gate: dense.Params
    up: dense.Params
    down: dense.Params


# The gate, the second dense layer, the activation, the product, the last one.
_WIRING = Wiring(
    reads=(0, 0, 1, (3, 2), 4), y=5, bare=(2, 3), open_part=4,
    arrange=fields(Params, "gate", "up", None, None, "down"),
)  # fmt: skip


def _block(call: Spec, activation: Layer) -> Layer:
    drawn = {name: call[name] for name in ("bias", "weight_init", "bias_init")}
    wide = dense.dense(call["intermediate_size"], **drawn)
    last = open_dense("features", **drawn)
    return wired(
        call.of.__name__, (wide, wide, activation, multiply(), last), _WIRING,
        call=call, names=("gate", "up", "activation", "product", "down"),
    )  # fmt: skip


@constructor
def swiglu(
    intermediate_size: PositiveInt,
    *,
    bias: bool = False,
    weight_init: Initializer = fan_in_uniform(),
    bias_init: Initializer = fan_in_uniform(),
) -> Layer:
    """Make the feed-forward layer of Llama: y = (silu(x W_g) (x W_u)) W_d.

    x has shape (..., features), with any number of leading axes, and y has the same.

    Args:
        intermediate_size: the features between the dense layers.
        weight_init: draws the weights. The default is torch's: uniform within 1 / sqrt(n_in).

    Source:
        Shazeer, "GLU Variants Improve Transformer", 2020, equation 6.

    Example:
        >>> swiglu(8).init(lf.Key(0), torch.zeros(2, 3)).down
        Params(weight=float32[8, 3], bias=None)
    """
    return bare(partial(_block, activation=silu()))


@constructor
def geglu(
    intermediate_size: PositiveInt,
    approximate: Literal["none", "tanh"] = "none",
    *,
    bias: bool = False,
    weight_init: Initializer = fan_in_uniform(),
    bias_init: Initializer = fan_in_uniform(),
) -> Layer:
    """Make the feed-forward layer of Gemma and of T5 1.1: y = (gelu(x W_g) (x W_u)) W_d.

    Its source, arguments and params are those of `swiglu`, and `approximate` is that of `gelu`,
    "tanh" in both models.

    Example:
        >>> geglu(8, "tanh").init(lf.Key(0), torch.zeros(2, 3)).gate
        Params(weight=float32[3, 8], bias=None)
    """
    return bare(partial(_block, activation=gelu(approximate)))
