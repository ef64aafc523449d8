"""Faster recurrent layers: oneDNN's kernel for a sequence of lstm, and its products for the others.

An lstm in float32 on the CPU and without a mask runs by `lstm.py`. Any other scan is the formula's
own, its products by the library that `product.py` chooses.

Measured on a Zen 5, one thread, forward and backward, as a fraction of the formula's time: lstm 0.4
to 0.6, gru 0.7 to 0.85, rnn 0.75 to 1, for 64 x 28 x 28 to 128 x 20 x 256 (batch, length, n_in) and
128 to 512 features of a state.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from jaxtyping import Bool, Float
from torch import Tensor

from lincoln_fn.fastpath import lstm as kernel
from lincoln_fn.fastpath.product import linear
from lincoln_fn.fastpath.twin import Twin
from lincoln_fn.layer import Arrays
from lincoln_fn.layers import gru, lstm, rnn
from lincoln_fn.layers._recurrent import run, run_backward
from lincoln_fn.layers._recurrent_forms import Cache
from lincoln_fn.layers._scan import Cell, Rule, ScanCache, Tensors, scan, scan_backward


def rnn_forward(
    params: rnn.Params, x: Arrays, *, nonlinearity: str = "tanh", batch_first: bool = True
) -> tuple[Arrays, Cache]:
    """Compute what `layers.rnn.forward` does."""
    return run(rnn.FAMILIES[nonlinearity], params, x, batch_first, _scan)


def rnn_backward(params: rnn.Params, cache: Cache, g: Arrays) -> tuple[Arrays, rnn.Params]:
    """Compute what `layers.rnn.backward` does."""
    return run_backward("rnn", params, cache, g, _scan_backward)


def gru_forward(params: gru.Params, x: Arrays, *, batch_first: bool = True) -> tuple[Arrays, Cache]:
    """Compute what `layers.gru.forward` does."""
    return run(gru.FAMILY, params, x, batch_first, _scan)


def gru_backward(params: gru.Params, cache: Cache, g: Arrays) -> tuple[Arrays, gru.Params]:
    """Compute what `layers.gru.backward` does."""
    return run_backward("gru", params, cache, g, _scan_backward)


def lstm_forward(
    params: lstm.Params, x: Arrays, *, batch_first: bool = True
) -> tuple[Arrays, Cache]:
    """Compute what `layers.lstm.forward` does."""
    return run(lstm.FAMILY, params, x, batch_first, _lstm_scan)


def lstm_backward(params: lstm.Params, cache: Cache, g: Arrays) -> tuple[Arrays, lstm.Params]:
    """Compute what `layers.lstm.backward` does."""
    return run_backward("lstm", params, cache, g, _lstm_scan_backward)


def _affine(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return linear(x, weight.mT, bias)


_scan = partial(scan, affine=_affine)
_scan_backward = partial(scan_backward, affine=_affine)


def _lstm_scan(
    rule: Rule,
    cell: Cell,
    x: Float[Tensor, "batch length n_in"],
    state: Tensors,
    mask: Bool[Tensor, "batch length"] | None,
    reverse: bool,
) -> tuple[Tensor, Tensors, Any]:  # Any: a ScanCache, or the kernel's own
    if mask is None and kernel.supports(x):
        return kernel.forward(cell, x, state, reverse)
    return _scan(rule, cell, x, state, mask, reverse)


def _lstm_scan_backward(
    rule: Rule,
    cell: Cell,
    cache: Any,  # Any: as `_lstm_scan` returns it
    g: Float[Tensor, "batch length hidden"],
    ds: Tensors,
) -> tuple[Tensor, Cell, Tensors]:
    by_kernel = not isinstance(cache, ScanCache)
    return (
        kernel.backward(cell, cache, g, ds)
        if by_kernel
        else _scan_backward(rule, cell, cache, g, ds)
    )


TWINS: Final = (
    Twin(rnn, forward=rnn_forward, backward=rnn_backward),
    Twin(gru, forward=gru_forward, backward=gru_backward),
    Twin(lstm, forward=lstm_forward, backward=lstm_backward),
)
