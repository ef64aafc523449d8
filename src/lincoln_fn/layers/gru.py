"""Gated recurrent unit, over a sequence.

The state is h. At each step, a comes from the input and b from the previous h. Both have three
parts, in this order:

    a = x W_(ih) + b_(ih) = [a_r, a_z, a_n]
    b = h W_(hh) + b_(hh) = [b_r, b_z, b_n]
    r = sigma(a_r + b_r)
    z = sigma(a_z + b_z)
    n = tanh(a_n + r b_n)
    h' = (1 - z) n + z h

sigma is the sigmoid, and h' is the output.

Derivation. Let dh' be the gradient of the new state:

    dz = dh' (h - n)
    dn = dh' (1 - z)
    dh = dh' z

Through each gate's own function, with sigma' = sigma (1 - sigma) and tanh' = 1 - tanh^2:

    da_n = dn (1 - n^2)
    dr = da_n b_n
    da_r = dr r (1 - r)
    da_z = dz z (1 - z)

r multiplies only b_n, so db differs from da only in its last part:

    da = [da_r, da_z, da_n]
    db = [da_r, da_z, da_n r]

h enters through b, too. `common/scan.py` derives how db adds to dh, and how dx and the gradients of
the parameters follow from all da and db. Several layers, two directions, states and masks are in
`common/recurrent.py`.

Cache: x, and for each step r, z, n, b_n and h.

Source: Cho et al., "Learning Phrase Representations using RNN Encoder-Decoder", 2014; with the
reset gate after the product, as in torch. The gates are in torch's order; the matrices are applied
from the right, so they are torch's transposed.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from lincoln_fn.core import Arrays, Key, Layer, PositiveInt, bare, constructor, record
from lincoln_fn.initializers import Initializer
from lincoln_fn.layers.common import recurrent
from lincoln_fn.layers.common.recurrent import Cache, Cells, Family
from lincoln_fn.layers.common.scan import Gates, Rule, Tensors


@record
class Params:
    """The cells, by layer and direction."""

    cells: Cells


def init(key: Key, x: Arrays, *, form: recurrent.Form) -> Params:
    """Draw the cells of all layers and directions."""
    return Params(recurrent.init_cells(FAMILY, key, x, form))


def forward(params: Params, x: Arrays, *, batch_first: bool) -> tuple[Arrays, Cache]:
    """Compute h' = step(a, b, h) at each step; y is every h'."""
    return recurrent.run(FAMILY, params, x, batch_first)


def backward(params: Params, cache: Cache, g: Arrays) -> tuple[Arrays, Params]:
    """Compute da, db and dh by `_step_backward` at each step, from the last to the first."""
    return recurrent.run_backward("gru", params, cache, g)


def _step(a: Gates, b: Gates, state: Tensors) -> tuple[Tensors, Tensors]:
    """Compute h' = (1 - z) n + z h."""
    (h,) = state
    a_r, a_z, a_n = a.chunk(3, -1)
    b_r, b_z, b_n = b.chunk(3, -1)
    r, z = torch.sigmoid(a_r + b_r), torch.sigmoid(a_z + b_z)
    n = torch.tanh(a_n + r * b_n)
    return ((1 - z) * n + z * h,), (r, z, n, b_n, h)


def _step_backward(kept: Tensors, dstate: Tensors) -> tuple[Tensor, Tensor, Tensors]:
    """Compute da = [da_r, da_z, da_n], db = [da_r, da_z, da_n r] and dh = dh' z."""
    r, z, n, b_n, h = kept
    (dh,) = dstate
    dz, dn = dh * (h - n), dh * (1 - z)
    da_n = dn * (1 - n * n)
    dr = da_n * b_n
    da_r, da_z = dr * r * (1 - r), dz * z * (1 - z)
    da, db = torch.cat([da_r, da_z, da_n], -1), torch.cat([da_r, da_z, da_n * r], -1)
    return da, db, (dh * z,)


FAMILY = Family("gru", Params, Rule(3, 1, _step, _step_backward))


@constructor(kind="recurrent", dx_and_terms=recurrent.run_terms, mask="state")
def gru(
    hidden_size: PositiveInt, num_layers: PositiveInt = 1, bias: bool = True,
    bidirectional: bool = False, *, batch_first: bool = True,
    weight_init: Initializer = recurrent.FAN_IN, bias_init: Initializer = recurrent.FAN_IN,
) -> Layer:  # fmt: skip
    """Make a layer of gated recurrent units.

    Its arguments, x, y and the state are those of `lstm`, but a state is one tensor.

    Example:
        >>> layer, x = lf.gru(8, num_layers=2), torch.zeros(2, 5, 3)
        >>> layer.predict(layer.init(lf.Key(0), x), x).shape
        torch.Size([2, 5, 8])
    """
    form = recurrent.Form(hidden_size, num_layers, bias, bidirectional, weight_init, bias_init)
    return bare(Layer, forward, backward, partial(init, form=form))
