"""Selective scan: the state space model of Mamba, whose steps depend on the input.

Each feature d of u has a state of n numbers. delta_t is the size of a step in time, B_t says what
enters the state, and C_t what is read from it. The rates r = e^s are parameters, and so is D:

    a_t = e^(-delta_t r)
    b_t = delta_t u_t B_t
    h_t = a_t h_(t-1) + b_t
    y_t = sum_n C_t h_t + D u_t

Written out, h_t has the entries h_(tnd), u_t and delta_t have u_(td), B_t and C_t have B_(tn), and
r has r_(nd). What an index is missing from is the same along it. Without a sum over n, h would be
a sequence of d features for each n; `linear_scan` computes them side by side.

Derivation. With g_t for y_t, h_t gets g_t C_t, and `linear_scan` derives from it

    dh_t = g_t C_t + a_(t+1) dh_(t+1)

b_t gets dh_t, and a_t gets dh_t h_(t-1). Through the exponential, -delta_t r gets

    w_t = dh_t h_(t-1) a_t

Each input and parameter gets its gradient from the lines that it stands in:

    m_t = sum_n B_t dh_t
    du_t = delta_t m_t + D g_t
    d delta_t = u_t m_t - sum_n r w_t
    dB_t = sum_d delta_t u_t dh_t
    dC_t = sum_d g_t h_t
    ds = -r sum_t delta_t w_t    since dr/(ds) = r
    dD = sum_t g_t u_t

Cache: u, delta, B, C, all h_t and the first state; a_t is computed again. Source: Gu and Dao,
"Mamba: Linear-Time Sequence Modeling with Selective State Spaces", 2023, section 3.
"""

from __future__ import annotations

from functools import partial
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import Key, Layer, PositiveInt, Sequence, bare, record, static
from lincoln_fn.layers.common import sequences
from lincoln_fn.layers.common.normalisation import widened
from lincoln_fn.layers.common.sequences import Form, Gradients, first_state, form_of, one_batch
from lincoln_fn.layers.linear_scan import Scan, before, scan, scan_backward

NAME = "selective_scan"

Projection: TypeAlias = Float[Tensor, "*batch length state"]
State: TypeAlias = Float[Tensor, "*batch state features"]
Inputs: TypeAlias = (
    tuple[Sequence, Sequence, Projection, Projection]
    | tuple[Sequence, Sequence, Projection, Projection, State | None]
)
Outputs: TypeAlias = Sequence | tuple[Sequence, State]


@record
class Params:
    """The logarithm s of the rates, which Mamba's code calls A_log, and the factor D of u."""

    log_rate: Float[Tensor, "state features"]
    skip: Float[Tensor, " features"]


@record
class Cache:
    u: Float[Tensor, "batch length features"]
    delta: Float[Tensor, "batch length features"]
    b: Float[Tensor, "batch length state"]
    c: Float[Tensor, "batch length state"]
    h: Float[Tensor, "batch length state features"]
    first: Float[Tensor, "batch state features"]
    form: Form
    chunk_size: int = static()
    signals: tuple[int, ...] = static(default=(0, 4))


def init(key: Key, x: Inputs, *, state_size: int) -> Params:
    """Make rates of 1, 2, ..., n for each feature, and D = 1."""
    (u, *_), _ = sequences.unpacked(NAME, x, ("u", "delta", "B", "C"))
    sequences.check_steps(NAME, u)
    rates = torch.arange(1, state_size + 1, dtype=u.dtype, device=key.bits.device).log()
    n = u.shape[-1]
    return Params(rates.unsqueeze(1).repeat(1, n), torch.ones_like(rates[:1]).repeat(n))


def forward(
    params: Params, x: Inputs, *, chunk_size: int = 16, scan: Scan = scan
) -> tuple[Outputs, Cache]:
    """Compute h_t = a_t h_(t-1) + b_t and y_t = sum_n C_t h_t + D u_t."""
    (given, *_), state = sequences.unpacked(NAME, x, ("u", "delta", "B", "C"))
    _check_forward(params, x[:4], state)
    u, delta, b, c = (one_batch(widened(part)) for part in x[:4])
    inflow = b.unsqueeze(-1) * (delta * u).unsqueeze(-2)
    first = first_state(state, inflow[:, 0])
    h = scan(_decays(params, delta), inflow, first, chunk_size=chunk_size)
    y = (c.unsqueeze(-2) @ h).squeeze(-2) + widened(params.skip) * u
    shape = tuple(given.shape)
    form = form_of(x, 4, shape, (*shape[:-2], *params.log_rate.shape))
    return form.outputs(y, h[:, -1]), Cache(u, delta, b, c, h, first, form, chunk_size)


def backward(
    params: Params, cache: Cache, g: Outputs, *, scan: Scan = scan,
    total: sequences.Total = sequences.over_all,
) -> tuple[Gradients, Params]:  # fmt: skip
    """Compute dx, and the total of ds and dD over all examples, or over those of each."""
    u, delta, b, form = cache.u, cache.delta, cache.b, cache.form
    dy, dlast = form.cotangents(NAME, g)
    dy = one_batch(dy)
    a, rate = _decays(params, delta), widened(params.log_rate).exp()
    of_y = cache.c.unsqueeze(-1) * dy.unsqueeze(-2)
    dh = scan_backward(a, of_y, dlast, chunk_size=cache.chunk_size, scan=scan)
    w = dh * a * before(cache.h, cache.first)
    m = (b.unsqueeze(-2) @ dh).squeeze(-2)
    du = delta * m + widened(params.skip) * dy
    ddelta = u * m - (rate * w).sum(-2)
    db = (dh @ (delta * u).unsqueeze(-1)).squeeze(-1)
    dc = (cache.h @ dy.unsqueeze(-1)).squeeze(-1)
    dlog_rate = -rate * (delta.unsqueeze(-2) * w).sum(1)
    dx = form.gradients(du, ddelta, db, dc, state=a[:, 0] * dh[:, 0])
    dskip = (dy * u).sum(1)
    return dx, core.evolve(params, log_rate=total(dlog_rate, form.y), skip=total(dskip, form.y))


dx_and_terms = partial(backward, total=sequences.by_example)


def _decays(
    params: Params, delta: Float[Tensor, "batch length features"]
) -> Float[Tensor, "batch length state features"]:
    """Compute a_t = e^(-delta_t r)."""
    return (-delta.unsqueeze(-2) * widened(params.log_rate).exp()).exp()


def _check_forward(params: Params, x: tuple[Tensor, ...], state: Tensor | None) -> None:
    u, delta, b, c = x
    sequences.check_steps(NAME, u)
    features = u.shape[-1]
    if params.skip.shape != (features,):
        raise core.wrong_shape(NAME, "skip", params.skip, f"({features},)")
    if params.log_rate.ndim != 2 or params.log_rate.shape[1] != features:
        raise core.wrong_shape(NAME, "log_rate", params.log_rate, f"(state_size, {features})")
    core.check_like(NAME, "x", u, params.skip)
    of_state = (*u.shape[:-1], len(params.log_rate))
    sequences.check_shapes(
        NAME, delta=(delta, u.shape), B=(b, of_state), C=(c, of_state),
        state=(state, (*u.shape[:-2], *params.log_rate.shape)),
    )  # fmt: skip


@core.constructor(kind="gated", dx_and_terms=dx_and_terms, along="rows")
def selective_scan(state_size: PositiveInt = 16, *, chunk_size: PositiveInt = 16) -> Layer:
    """Run the state space model of Mamba along a sequence.

    x is (u, delta, B, C), with any number of equal leading axes: u and delta (..., length,
    features), B and C (..., length, state_size). y has u's shape. delta, the sizes of the steps, is
    above 0: it comes from a softplus. Or x is (u, delta, B, C, state), with the state before the
    first step, (..., state_size, features), or None for zeros. Then y is (outputs, last state). The
    rates begin at 1, 2, ..., state_size for each feature.

    Args:
        chunk_size: how many steps are computed in turn, as `linear_scan` says.

    Example:
        >>> u, delta, b = torch.ones(1, 3, 1), torch.ones(1, 3, 1), torch.ones(1, 3, 2)
        >>> layer = selective_scan(2)
        >>> layer.predict(layer.init(lf.Key(0), (u, delta, b, b)), (u, delta, b, b))
        tensor([[[3.0000],
                 [3.5032],
                 [3.6569]]])
    """
    return bare(Layer, forward, backward, init)
