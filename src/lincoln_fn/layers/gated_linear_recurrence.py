"""Gated linear recurrence: each feature is a state that a gate keeps, and another lets in.

(The RG-LRU of De and others, "Griffin: Mixing Gated Linear Recurrences with Local Attention for
Efficient Language Models", 2024, section 2.4.)

r_t and i_t are the gates before their sigmoid, and lambda_j is a parameter of each feature:

    L_t = 8 softplus(lambda) sigma(r_t)
    a_t = e^(-L_t)
    b_t = q_t sigma(i_t) u_t    with q_t = sqrt(1 - a_t^2)
    h_t = a_t h_(t-1) + b_t
    y_t = h_t

The factor q_t keeps the state's size: if u_t is white noise of variance 1, so is h_t with an input
gate of 1.

Derivation. `linear_scan` derives dh_t, from which b_t gets dh_t, and a_t gets dh_t h_(t-1). With
the input v_t = sigma(i_t) u_t,

    du_t = dh_t q_t sigma(i_t)
    di_t = dh_t q_t v_t (1 - sigma(i_t))
    dL_t = -a_t dh_t h_(t-1) + dh_t v_t (dq_t)/(dL_t)
    (dq_t)/(dL_t) = a_t^2 / q_t

q_t is near 0 where L_t is, and its slope is not bounded there. What is asked for are the gradients
of r_t and of lambda. Each has the factor L_t, and L_t / q_t is bounded, as it goes with the root of
L_t:

    e_t = L_t dL_t = -a_t dh_t h_(t-1) L_t + dh_t v_t a_t^2 L_t / q_t
    dr_t = e_t (1 - sigma(r_t))
    d lambda = sum_t e_t sigma(lambda) / (softplus(lambda))

Where L_t = 0, L_t / q_t counts as 0, its limit.

Cache: u, r, i, all h_t and the first state.
"""

from __future__ import annotations

from functools import partial
from typing import Final, NamedTuple, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus

from lincoln_fn import core
from lincoln_fn.core import Key, Layer, PositiveInt, Sequence, keys, record, static
from lincoln_fn.layers.common import sequences
from lincoln_fn.layers.common.normalisation import widened
from lincoln_fn.layers.common.sequences import Form, Gradients, first_state, form_of, one_batch
from lincoln_fn.layers.linear_scan import Scan, before, scan, scan_backward

NAME = "gated_linear_recurrence"
_NAMES: Final = ("u", "recurrence gate", "input gate")
_SCALE: Final = 8.0

Rows: TypeAlias = Float[Tensor, "batch length features"]
State: TypeAlias = Float[Tensor, "*batch features"]
Inputs: TypeAlias = (
    tuple[Sequence, Sequence, Sequence] | tuple[Sequence, Sequence, Sequence, State | None]
)
Outputs: TypeAlias = Sequence | tuple[Sequence, State]


@record
class Params:
    """The parameter lambda, by which each feature forgets."""

    decay: Float[Tensor, " features"]


@record
class Cache:
    u: Rows
    r: Rows
    i: Rows
    h: Rows
    first: Float[Tensor, "batch features"]
    form: Form
    chunk_size: int = static()
    signals: tuple[int, ...] = static(default=(0, 3))


class _Gates(NamedTuple):
    decay: Rows  # L_t
    a: Rows
    q: Rows
    input: Rows  # sigma(i_t)


def init(key: Key, x: Inputs) -> Params:
    """Draw lambda so that a_t is within 0.9 and 0.999 where the recurrence gate is open."""
    (u, *_), _ = sequences.unpacked(NAME, x, _NAMES)
    sequences.check_steps(NAME, u)
    # In bfloat16, 0.999 is 1, whose lambda is infinite.
    wide = torch.promote_types(u.dtype, torch.float32)
    decay = keys.uniform(key, (u.shape[-1],), 0.9, 0.999, dtype=wide)
    # The inverse of softplus at -log(a) / 8.
    return Params((-decay.log() / _SCALE).expm1().log().to(u.dtype))


def forward(
    params: Params, x: Inputs, *, chunk_size: int, scan: Scan = scan
) -> tuple[Outputs, Cache]:
    """Compute h_t = a_t h_(t-1) + q_t sigma(i_t) u_t."""
    (given, *_), state = sequences.unpacked(NAME, x, _NAMES)
    _check_forward(params, x[:3], state)
    u, r, i = (one_batch(widened(part)) for part in x[:3])
    gates = _gates(params, r, i)
    first = first_state(state, u[:, 0])
    h = scan(gates.a, gates.q * gates.input * u, first, chunk_size=chunk_size)
    shape = tuple(given.shape)
    form = form_of(x, 3, shape, (*shape[:-2], shape[-1]))
    return form.outputs(h, h[:, -1]), Cache(u, r, i, h, first, form, chunk_size)


def backward(
    params: Params, cache: Cache, g: Outputs, *, scan: Scan = scan,
    total: sequences.Total = sequences.over_all,
) -> tuple[Gradients, Params]:  # fmt: skip
    """Compute dx, and the total of d lambda over all examples, or over those of each."""
    dy, dlast = cache.form.cotangents(NAME, g)
    gates, wide = _gates(params, cache.r, cache.i), widened(params.decay)
    dh = scan_backward(gates.a, one_batch(dy), dlast, chunk_size=cache.chunk_size, scan=scan)
    v = gates.input * cache.u
    du = dh * gates.q * gates.input
    di = dh * gates.q * v * (1 - gates.input)
    is_zero = gates.q == 0
    ratio = torch.where(is_zero, 0, gates.decay / torch.where(is_zero, 1, gates.q))
    of_a = gates.a * dh * before(cache.h, cache.first) * gates.decay
    e = dh * v * gates.a**2 * ratio - of_a
    dr = e * torch.sigmoid(-cache.r)
    slope = torch.sigmoid(wide) / softplus(wide).clamp(min=torch.finfo(wide.dtype).tiny)
    dx = cache.form.gradients(du, dr, di, state=gates.a[:, 0] * dh[:, 0])
    return dx, core.evolve(params, decay=total(e.sum(1) * slope, cache.form.y))


dx_and_terms = partial(backward, total=sequences.by_example)


def _gates(params: Params, r: Rows, i: Rows) -> _Gates:
    """Compute L_t, a_t = e^(-L_t), q_t = sqrt(1 - a_t^2) and sigma(i_t)."""
    decay = _SCALE * softplus(widened(params.decay)) * torch.sigmoid(r)
    squared = -torch.expm1(-2 * decay)
    # The slope of a root at 0 is not finite, and would be nan in a derivative of this function.
    is_zero = squared == 0
    q = torch.where(is_zero, 0, torch.where(is_zero, 1, squared).sqrt())
    return _Gates(decay, torch.exp(-decay), q, torch.sigmoid(i))


def _check_forward(params: Params, x: tuple[Tensor, ...], state: Tensor | None) -> None:
    u, r, i = x
    sequences.check_steps(NAME, u)
    if params.decay.shape != u.shape[-1:]:
        raise core.wrong_shape(NAME, "decay", params.decay, f"({u.shape[-1]},)")
    core.check_like(NAME, "x", u, params.decay)
    given = {
        "the recurrence gate": (r, u.shape), "the input gate": (i, u.shape),
        "the state": (state, (*u.shape[:-2], u.shape[-1])),
    }  # fmt: skip
    sequences.check_shapes(NAME, **given)


@core.constructor(kind="gated", dx_and_terms=dx_and_terms, along="rows")
def gated_linear_recurrence(*, chunk_size: PositiveInt = 16) -> Layer:
    """Keep a state for each feature, with a gate for what stays and another for what enters.

    x is (u, recurrence gate, input gate), each of shape (..., length, features), the gates before
    their sigmoid, and y has the same shape. In Griffin, both gates are dense layers of u:

        gates = lf.branch(lf.identity(), lf.dense(n), lf.dense(n), merge=lf.identity())
        lf.serial(gates, lf.gated_linear_recurrence())

    Or x has a fourth entry, the state before the first step, (..., features), or None for zeros.
    Then y is (outputs, last state).

    Args:
        chunk_size: how many steps are computed in turn, as `linear_scan` says.

    Example:
        >>> u, gate = torch.ones(1, 3, 1), torch.zeros(1, 3, 1)
        >>> gated_linear_recurrence().predict(Params(torch.zeros(1)), (u, gate, gate)).flatten()
        tensor([0.4990, 0.5302, 0.5322])
    """
    return core.bare(Layer, forward, backward, init)
