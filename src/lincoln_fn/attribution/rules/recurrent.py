"""Relevance through recurrent layers: the signal gets all, and the gates get nothing.

A gate multiplies a signal by a number between 0 and 1, and counts as that constant number. What is
left of a step are sums, whose terms share the relevance R_t of the new state as `norm` and
`epsilon` do:

    lstm:   h' = o tanh(c')        R_c is added to R_h
            c' = f c + i g         shared by f c, which is relevance of c, and i g, which is g's
            g = tanh(z)            z = x W_(ih) + b_(ih) + h W_(hh) + b_(hh)
    gru:    h' = (1 - z) n + z h   shared by (1 - z) n, which is n's, and z h, which is h's
            n = tanh(a + r b)      a = x W_(ih) + b_(ih), b = h W_(hh) + b_(hh)
    rnn:    h' = f(a + b)

Only the columns of the signal count in W_ih and W_hh. x_i has the contributions x_i W_ij, and h_i
has h_i W_ij, times r_j in a gru; the biases take their share.

Source: Arras, Montavon, Müller and Samek, "Explaining Recurrent Neural Network Predictions in
Sentiment Analysis", 2017.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from lincoln_fn.attribution.rules.any_layer import Rule, Use, share
from lincoln_fn.core import Arrays, NonNegative, bare, constructor
from lincoln_fn.layers import recurrent_cell
from lincoln_fn.layers.common.recurrent import run_backward
from lincoln_fn.layers.common.scan import Cell, ScanCache, Tensors, affine
from lincoln_fn.layers.common.scan import Rule as Step


@constructor
def recurrent(stabilizer: NonNegative = 1e-6, *, zero_bias: bool = False) -> Rule:
    """Share the relevance of outputs and last state to a recurrent layer's sequence and state."""
    through = partial(_through_step, stabilizer=stabilizer, zero_bias=zero_bias)

    def propagate(use: Use, relevance: Arrays) -> Arrays:
        if isinstance(use.cache, recurrent_cell.Cache):
            return _through_cell(use, relevance, through)
        scan = partial(_through_scan, through=through)
        of_x, _ = run_backward(use.cache.family.name, use.params, use.cache, relevance, scan)
        return of_x

    return bare(Rule, propagate)


# `_through_step`, with its options bound.
_Through: TypeAlias = Callable[..., tuple[Tensor, Tensors]]


class _Shares(NamedTuple):
    """What a step gives to its signal z = a + m b, and to the previous state without z."""

    signal: Tensor
    state: Tensors
    factor: Tensor | float  # m


def _lstm(kept: Tensors, r: Tensors, stabilizer: float) -> _Shares:
    i, f, g, _, c, _ = kept
    r_h, r_c = r
    s = share(r_c + r_h, f * c + i * g, stabilizer)
    return _Shares(i * g * s, (torch.zeros_like(r_h), f * c * s), 1.0)


def _gru(kept: Tensors, r: Tensors, stabilizer: float) -> _Shares:
    reset, z, n, _, h = kept
    s = share(r[0], (1 - z) * n + z * h, stabilizer)
    return _Shares((1 - z) * n * s, (z * h * s,), reset)


def _rnn(kept: Tensors, r: Tensors, stabilizer: float) -> _Shares:
    return _Shares(r[0], (torch.zeros_like(r[0]),), 1.0)


# By the number of gates: the step, and which of the gates' columns are the signal's.
_STEPS = {4: (_lstm, 2), 3: (_gru, 2), 1: (_rnn, 0)}


def _through_step(
    step: Step,
    cell: Cell,
    x: Tensor,
    h: Tensor,
    kept: Tensors,
    r: Tensors,
    *,
    stabilizer: float,
    zero_bias: bool,
) -> tuple[Tensor, Tensors]:
    """Compute the relevance of x and of the previous state, whose first tensor is h."""
    shares_of, column = _STEPS[step.gates]
    shares = shares_of(kept, r, stabilizer)
    biases = (None, None) if zero_bias else (cell.bias_ih, cell.bias_hh)
    w_x, w_h = (w.chunk(step.gates, -1)[column] for w in (cell.weight_ih, cell.weight_hh))
    b_x, b_h = (None if b is None else b.chunk(step.gates, -1)[column] for b in biases)
    z = affine(x, w_x, b_x) + shares.factor * affine(h, w_h, b_h)
    s = share(shares.signal, z, stabilizer)
    of_h = h * affine(shares.factor * s, w_h.mT)
    return x * affine(s, w_x.mT), (shares.state[0] + of_h, *shares.state[1:])


def _through_scan(
    step: Step, cell: Cell, cache: ScanCache, r_y: Tensor, r: Tensors, *, through: _Through
) -> tuple[Tensor, Cell, Tensors]:
    """Go through a sequence from its last step to its first, as `_scan.scan_backward` does."""
    times = range(len(cache.kept))
    of_x = [cache.x[:, :0]] * len(times)
    for t in times if cache.reverse else reversed(times):
        later, r = r, (r[0] + r_y[:, t], *r[1:])
        x, h, kept = cache.x[:, t], cache.before[:, t], cache.kept[t]
        of_x[t], r = through(step, cell, x, h, kept, r)
        if cache.mask is not None:
            mask = cache.mask[t]
            of_x[t] = torch.where(mask, of_x[t], 0.0)
            r = tuple(torch.where(mask, now, old) for now, old in zip(r, later, strict=True))
    return torch.stack(of_x, 1) if of_x else torch.zeros_like(cache.x), cell, r


def _through_cell(use: Use, relevance: Arrays, through: _Through) -> Arrays:
    cache = use.cache
    r = relevance if isinstance(relevance, tuple) else (relevance,)
    of_x, state = through(cache.family.rule, use.params, cache.x, cache.h, cache.kept, r)
    if not cache.is_tuple:
        return of_x
    packed = state if len(state) > 1 else state[0]
    return of_x, packed if cache.has_state else None
