"""Long short-term memory, over a sequence.

With i, f, g, o the four parts of a_t + b_t, in this order, s the sigmoid and h, c the old state:

    i = s(i)   f = s(f)   g = tanh(g)   o = s(o)        (each of its own part)
    c' = f c + i g
    h' = o tanh(c')

Derivation. With dh', dc' the gradients of the new state, and u = tanh(c'):

    dc' += dh' o (1 - u^2)
    do = dh' u     df = dc' c     di = dc' g     dg = dc' i     dc = dc' f

and through each gate's own function, s' = s (1 - s) and tanh' = 1 - tanh^2:

    da = db = [di i (1 - i), df f (1 - f), dg (1 - g^2), do o (1 - o)]

(Hochreiter and Schmidhuber, "Long Short-Term Memory", 1997; with the forget gate of Gers et al.,
2000.) h enters through b alone, so the cell hands no dh on itself.

Gates stand in torch's order; the matrices are applied from the right, so they are torch's
transposed. Several layers, directions, states and masks are explained in `_recurrent.py`, the sums
over time in `_scan.py`. Cache: of each step what the cell's own backward needs. In float32 on the
CPU, and without a mask, oneDNN computes the same in half the time: `_lstm_kernel.py`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lincoln_fn.keys import Key
from lincoln_fn.layer import Arrays
from lincoln_fn.layers import _lstm_kernel
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
    return Params(init_cells("lstm", 4, key, x, form))


def forward(params: Params, x: Arrays) -> tuple[Arrays, Cache]:
    """Run over a sequence.

    Args:
        params: the cells.
        x: a sequence (batch, length, n_in), or (sequence, (h_0, c_0)), or
            (sequence, (h_0, c_0), mask); the state may be None for zeros, the mask is True where
            the sequence has an entry.

    Returns:
        y, the outputs (batch, length, directions * hidden), and for a tuple also the last state;
        and the cache.

    Raises:
        LayerError: if x or the parameters do not fit.

    Example:
        >>> layer, x = lf.lstm(4), torch.zeros(2, 5, 3)
        >>> layer.forward(layer.init(lf.Key(0), x), x)[0].shape
        torch.Size([2, 5, 4])
    """
    return run(FAMILY, params, x)


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
        >>> layer, x = lf.lstm(4), torch.zeros(2, 5, 3)
        >>> params = layer.init(lf.Key(0), x)
        >>> layer.backward(params, layer.forward(params, x)[1], torch.ones(2, 5, 4))[0].shape
        torch.Size([2, 5, 3])
    """
    return run_backward("lstm", params, cache, g)


def _cell(a: Tensor, b: Tensor, state: Tensors) -> tuple[Tensors, Tensors]:
    c = state[1]
    gates = a + b
    i, f, g, o = gates.chunk(4, -1)
    i, f, g, o = torch.sigmoid(i), torch.sigmoid(f), torch.tanh(g), torch.sigmoid(o)
    new_c = f * c + i * g
    u = torch.tanh(new_c)
    return (o * u, new_c), (i, f, g, o, c, u)


def _cell_backward(kept: Tensors, dstate: Tensors) -> tuple[Tensor, Tensor, Tensors]:
    i, f, g, o, c, u = kept
    dh, dc = dstate
    dc = dc + dh * o * (1 - u * u)
    di, df, dg, do = dc * g, dc * c, dc * i, dh * u
    da = torch.cat([di * i * (1 - i), df * f * (1 - f), dg * (1 - g * g), do * o * (1 - o)], -1)
    return da, da, (torch.zeros_like(dh), dc * f)


FAMILY = Family("lstm", Params, Rule(4, 2, _cell, _cell_backward, _lstm_kernel))
