"""Gated feed-forward layers: y = (f(x W_g + b_g) (x W_u + b_u)) W_d + b_d, with an activation f.

(Shazeer, "GLU Variants Improve Transformer", 2020, equation 6.)

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
from typing import Literal, TypeAlias

from jaxtyping import Float
from torch import Tensor

from lincoln_fn.core.constructors import bare, constructor
from lincoln_fn.core.keys import Key
from lincoln_fn.core.layer import Layer
from lincoln_fn.core.layer import Params as AnyParams
from lincoln_fn.core.record import record
from lincoln_fn.core.spec import Spec
from lincoln_fn.errors.arguments import PositiveInt
from lincoln_fn.errors.shapes import check_params
from lincoln_fn.initializers import Initializer, fan_in_uniform
from lincoln_fn.layers import dense
from lincoln_fn.layers.common.open_dense import open_dense, with_outputs
from lincoln_fn.layers.gelu import gelu
from lincoln_fn.layers.multiply import multiply
from lincoln_fn.layers.silu import silu
from lincoln_fn.walk.arrangement import fields, visit_parts
from lincoln_fn.walk.composition import VisitRecord, composition
from lincoln_fn.walk.init import output_of
from lincoln_fn.walk.parts import check_entries
from lincoln_fn.walk.visits import Record, VisitBack, VisitThere

Rows: TypeAlias = Float[Tensor, "*batch features"]
# One for each part: the gate, the second dense layer, the activation, the product, the last one.
Records: TypeAlias = tuple[Record, Record, Record, Record, Record]


@record
class Params:
    """The params of the three dense layers: W_g and b_g, W_u and b_u, W_d and b_d."""

    gate: dense.Params
    up: dense.Params
    down: dense.Params


_ARRANGEMENT = fields(Params, "gate", "up", None, None, "down")


def _init(parts: tuple[Layer, ...], key: Key, x: Rows) -> Params:
    """Make the params of each dense layer, with a key of its own."""
    gate, up, _, _, down = parts
    made = gate.init(key.fold_in(0), x)
    width = output_of(gate, made, x).shape[-1]
    h = x.new_zeros(()).expand(*x.shape[:-1], width)
    down = with_outputs(x.shape[-1], down)
    return Params(made, up.init(key.fold_in(1), x), down.init(key.fold_in(2), h))


def _there(visit: VisitThere, params: Params, x: Rows) -> tuple[Rows, Records]:
    """Multiply the activated gate by the second dense layer's output, for the last one."""
    check_params(visit.label, params, Params)
    a, gate = visit(0, params.gate, x)
    u, up = visit(1, params.up, x)
    f, activation = visit(2, (), a)
    h, product = visit(3, (), (f, u))
    y, down = visit(4, params.down, h)
    return y, (gate, up, activation, product, down)


def _back(visit: VisitBack, params: Params, cache: Records, g: Rows) -> tuple[Rows | None, Records]:
    """Give the product's gradients to the gate and to the second dense layer, and add up dx."""
    check_params(visit.label, params, Params)
    check_entries(visit.label, "the cache", cache, 5)
    dh, down = visit(4, params.down, cache[4], g)
    (df, du), product = visit(3, (), cache[3], dh)
    da, activation = visit(2, (), cache[2], df)
    of_u, up = visit(1, params.up, cache[1], du)
    of_a, gate = visit(0, params.gate, cache[0], da)
    dx = None if of_a is None else of_a + of_u
    return dx, (gate, up, activation, product, down)


def _gather(visit: VisitRecord, params: Params, records: Records) -> Params:
    """Collect the dense layers' gradients."""
    gradients: Params = visit_parts(_ARRANGEMENT, visit, params, records)
    return gradients


def _advance(visit: VisitThere, params: Params, cache: Records) -> Params:
    advanced: Params = visit_parts(_ARRANGEMENT, visit.advance, params, cache)
    return advanced


def _needs_dx(i: int, params: AnyParams) -> bool:
    """Return whether the gate or the second dense layer needs the dx of part i."""
    return i >= 2


def _block(
    call: Spec, *, activation: Layer, intermediate_size: int, bias: bool,
    weight_init: Initializer, bias_init: Initializer,
) -> Layer:  # fmt: skip
    wide = dense.dense(intermediate_size, bias=bias, weight_init=weight_init, bias_init=bias_init)
    last = open_dense("features", bias=bias, weight_init=weight_init, bias_init=bias_init)
    return composition(
        call.of.__name__, (wide, wide, activation, multiply(), last), _there, _back,
        gather=_gather, init=_init, advance=_advance, needs_dx=_needs_dx, call=call,
        reads_once=True, arrange=_ARRANGEMENT,
        names=("gate", "up", "activation", "product", "down"),
    )  # fmt: skip


_FAN_IN_INIT = fan_in_uniform()


@constructor
def swiglu(
    intermediate_size: PositiveInt,
    *,
    bias: bool = False,
    weight_init: Initializer = _FAN_IN_INIT,
    bias_init: Initializer = _FAN_IN_INIT,
) -> Layer:
    """Make the feed-forward layer of Llama: y = (silu(x W_g) (x W_u)) W_d.

    x has shape (..., features), with any number of leading axes, and y has the same.

    Args:
        intermediate_size: the features between the dense layers.
        bias: whether the three dense layers have biases.
        weight_init: draws the weights. The default is torch's: uniform within 1 / sqrt(n_in).
        bias_init: draws the biases, with the same default.

    Returns:
        The layer. Its params are `combine.gated_feed_forward.Params`.

    Raises:
        ValueError: if intermediate_size is below 1.

    Source:
        Shazeer, "GLU Variants Improve Transformer", 2020.

    Example:
        >>> x = torch.zeros(2, 3)
        >>> layer = swiglu(8)
        >>> layer.init(lf.Key(0), x).down
        Params(weight=float32[8, 3], bias=None)
    """
    return bare(partial(_block, activation=silu(), intermediate_size=intermediate_size, bias=bias,
                        weight_init=weight_init, bias_init=bias_init))  # fmt: skip


@constructor
def geglu(
    intermediate_size: PositiveInt,
    approximate: Literal["none", "tanh"] = "none",
    *,
    bias: bool = False,
    weight_init: Initializer = _FAN_IN_INIT,
    bias_init: Initializer = _FAN_IN_INIT,
) -> Layer:
    """Make the feed-forward layer of Gemma and of T5 1.1: y = (gelu(x W_g) (x W_u)) W_d.

    x has shape (..., features), with any number of leading axes, and y has the same.

    Args:
        intermediate_size: the features between the dense layers.
        approximate: of `gelu`; Gemma and T5 have "tanh".
        bias: whether the three dense layers have biases.
        weight_init: draws the weights. The default is torch's: uniform within 1 / sqrt(n_in).
        bias_init: draws the biases, with the same default.

    Returns:
        The layer. Its params are `combine.gated_feed_forward.Params`.

    Raises:
        ValueError: if intermediate_size is below 1, or there is no such approximation.

    Source:
        Shazeer, "GLU Variants Improve Transformer", 2020.

    Example:
        >>> x = torch.zeros(2, 3)
        >>> layer = geglu(8, "tanh")
        >>> layer.init(lf.Key(0), x).gate
        Params(weight=float32[3, 8], bias=None)
    """
    activation = gelu(approximate)
    return bare(partial(_block, activation=activation, intermediate_size=intermediate_size,
                        bias=bias, weight_init=weight_init, bias_init=bias_init))  # fmt: skip
