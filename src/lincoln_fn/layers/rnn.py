"""Elman's recurrent layer, over a sequence.

    h' = f(a_t + b_t),    f = tanh or relu

Derivation. With dh' the gradient of the new state,

    da = db = dh' (1 - h'^2) for tanh,    dh' where h' > 0, else 0, for relu.

(Elman, "Finding Structure in Time", 1990.) h enters through b alone, so the cell hands no dh on
itself.

The matrices are applied from the right, so they are torch's transposed. Several layers, directions,
states and masks are explained in `_recurrent.py`, the sums over time in `_scan.py`. Cache: of each
step what the cell's own backward needs.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lincoln_fn.keys import Key
from lincoln_fn.layer import Arrays
from lincoln_fn.layers._recurrent import Cache, Cells, Family, Form, init_cells, run, run_backward
from lincoln_fn.layers._scan import Rule, Tensors
from lincoln_fn.record import record


@record
class Params:
    """The cells, by layer and direction."""

    cells: Cells


def init(key: Key, x: Arrays, *, form: Form) -> Params:
    """Make parameters for inputs like x.

    Args:
        key: what the initial values are drawn from.
        x: an example input, of which only shape, dtype and device count.
        form: the layer's sizes, and its initializers.

    Returns:
        The parameters, in x's dtype and on its device.

    Raises:
        LayerError: if x is no sequence (batch, length, n_in).
    """
    return Params(init_cells("rnn", 1, key, x, form))


def forward(params: Params, x: Arrays, *, nonlinearity: str = "tanh") -> tuple[Arrays, Cache]:
    """Run over a sequence.

    Args:
        params: the cells.
        x: a sequence (batch, length, n_in), or (sequence, h_0), or
            (sequence, h_0, mask); the state may be None for zeros, the mask is True where the
            sequence has an entry.
        nonlinearity: "tanh" or "relu".

    Returns:
        y, the outputs (batch, length, directions * hidden), and for a tuple also the last state;
        and the cache.

    Raises:
        LayerError: if x or the parameters do not fit.

    Example:
        >>> layer, x = lf.rnn(4), torch.zeros(2, 5, 3)
        >>> layer.forward(layer.init(lf.Key(0), x), x)[0].shape
        torch.Size([2, 5, 4])
    """
    return run(FAMILIES[nonlinearity], params, x)


def backward(params: Params, cache: Cache, g: Arrays) -> tuple[Arrays, Params]:
    """Run back over the sequence, as derived above.

    Args:
        params: those given to `forward`.
        cache: what `forward` returned.
        g: dL/dy, in y's form.

    Returns:
        dx, in x's form (None for a mask, and for a state that was not given), and dparams.

    Raises:
        LayerError: if g, the cache or the parameters do not fit.

    Example:
        >>> layer, x = lf.rnn(4), torch.zeros(2, 5, 3)
        >>> params = layer.init(lf.Key(0), x)
        >>> layer.backward(params, layer.forward(params, x)[1], torch.ones(2, 5, 4))[0].shape
        torch.Size([2, 5, 3])
    """
    return run_backward("rnn", params, cache, g)


def _tanh(a: Tensor, b: Tensor, state: Tensors) -> tuple[Tensors, Tensors]:
    h = torch.tanh(a + b)
    return (h,), (h,)


def _tanh_backward(kept: Tensors, dstate: Tensors) -> tuple[Tensor, Tensor, Tensors]:
    (h,), (dh,) = kept, dstate
    da = dh * (1 - h * h)
    return da, da, (torch.zeros_like(dh),)


def _relu(a: Tensor, b: Tensor, state: Tensors) -> tuple[Tensors, Tensors]:
    h = torch.relu(a + b)
    return (h,), (h,)


def _relu_backward(kept: Tensors, dstate: Tensors) -> tuple[Tensor, Tensor, Tensors]:
    (h,), (dh,) = kept, dstate
    da = torch.where(h > 0, dh, 0)
    return da, da, (torch.zeros_like(dh),)


FAMILIES = {
    "tanh": Family("rnn", Params, Rule(1, 1, _tanh, _tanh_backward)),
    "relu": Family("rnn", Params, Rule(1, 1, _relu, _relu_backward)),
}
