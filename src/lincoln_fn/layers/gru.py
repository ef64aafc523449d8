"""Gated recurrent unit, over a sequence.

With a_r, a_z, a_n and b_r, b_z, b_n the three parts of a_t and b_t, in this order, s the sigmoid
and h the old state:

    r = s(a_r + b_r)   z = s(a_z + b_z)   n = tanh(a_n + r b_n)
    h' = (1 - z) n + z h

Derivation. With dh' the gradient of the new state:

    dz = dh' (h - n)     dn = dh' (1 - z)     dh = dh' z

and through each gate's own function, s' = s (1 - s) and tanh' = 1 - tanh^2:

    da_n = dn (1 - n^2)        dr = da_n b_n
    da_r = dr r (1 - r)        da_z = dz z (1 - z)
    db_r = da_r                db_z = da_z                db_n = da_n r

for b_n alone enters through r. (Cho et al., "Learning Phrase Representations using RNN
Encoder-Decoder", 2014, with the reset gate after the product, as torch has it.)

Gates stand in torch's order; the matrices are applied from the right, so they are torch's
transposed. Several layers, directions, states and masks are explained in `_recurrent.py`, the sums
over time in `_scan.py`. Cache: of each step what the cell's own backward needs.
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
    return Params(init_cells("gru", 3, key, x, form))


def forward(params: Params, x: Arrays) -> tuple[Arrays, Cache]:
    """Run over a sequence.

    Args:
        params: the cells.
        x: a sequence (batch, length, n_in), or (sequence, h_0), or
            (sequence, h_0, mask); the state may be None for zeros, the mask is True where the
            sequence has an entry.

    Returns:
        y, the outputs (batch, length, directions * hidden), and for a tuple also the last state;
        and the cache.

    Raises:
        LayerError: if x or the parameters do not fit.

    Example:
        >>> layer, x = lf.gru(4), torch.zeros(2, 5, 3)
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
        >>> layer, x = lf.gru(4), torch.zeros(2, 5, 3)
        >>> params = layer.init(lf.Key(0), x)
        >>> layer.backward(params, layer.forward(params, x)[1], torch.ones(2, 5, 4))[0].shape
        torch.Size([2, 5, 3])
    """
    return run_backward("gru", params, cache, g)


def _cell(a: Tensor, b: Tensor, state: Tensors) -> tuple[Tensors, Tensors]:
    (h,) = state
    a_r, a_z, a_n = a.chunk(3, -1)
    b_r, b_z, b_n = b.chunk(3, -1)
    r, z = torch.sigmoid(a_r + b_r), torch.sigmoid(a_z + b_z)
    n = torch.tanh(a_n + r * b_n)
    return ((1 - z) * n + z * h,), (r, z, n, b_n, h)


def _cell_backward(kept: Tensors, dstate: Tensors) -> tuple[Tensor, Tensor, Tensors]:
    r, z, n, b_n, h = kept
    (dh,) = dstate
    dz, dn = dh * (h - n), dh * (1 - z)
    da_n = dn * (1 - n * n)
    da_r, da_z = da_n * b_n * r * (1 - r), dz * z * (1 - z)
    da, db = torch.cat([da_r, da_z, da_n], -1), torch.cat([da_r, da_z, da_n * r], -1)
    return da, db, (dh * z,)


FAMILY = Family("gru", Params, Rule(3, 1, _cell, _cell_backward))
