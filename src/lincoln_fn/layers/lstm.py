"""Long short-term memory, over a sequence.

The state is (h, c). At each step, a comes from the input and b from the previous h. Their sum z has
a part for each of four gates, in this order:

    a = x W_(ih) + b_(ih)
    b = h W_(hh) + b_(hh)
    z = a + b = [z_i, z_f, z_g, z_o]
    i = sigma(z_i)
    f = sigma(z_f)
    g = tanh(z_g)
    o = sigma(z_o)
    c' = f c + i g
    u = tanh(c')
    h' = o u

sigma is the sigmoid, and h' is the output.

Derivation. Let dh' and dc' be the gradients of the new state. h' also depends on c', so the total
gradient of c' is delta:

    delta = dc' + dh' o (1 - u^2)
    do = dh' u
    df = delta c
    di = delta g
    dg = delta i
    dc = delta f

Through each gate's own function, with sigma' = sigma (1 - sigma) and tanh' = 1 - tanh^2:

    dz = [di i (1 - i), df f (1 - f), dg (1 - g^2), do o (1 - o)]
    da = db = dz

h enters only through b. `common/scan.py` derives the gradient of the previous h from db, and dx and
the gradients of the parameters from all da and db. Several layers, two directions, states and masks
are in `common/recurrent.py`.

Cache: x, and for each step h, i, f, g, o, c and u.

Source: Hochreiter and Schmidhuber, "Long Short-Term Memory", 1997; with the forget gate of Gers,
Schmidhuber and Cummins, "Learning to Forget", 2000. The gates are in torch's order; the matrices
are applied from the right, so they are torch's transposed.
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
    """Compute (h', c') = step(a, b, (h, c)) at each step; y is every h'."""
    return recurrent.run(FAMILY, params, x, batch_first)


def backward(params: Params, cache: Cache, g: Arrays) -> tuple[Arrays, Params]:
    """Compute da, db and (dh, dc) by `_step_backward` at each step, from the last to the first."""
    return recurrent.run_backward("lstm", params, cache, g)


def _step(a: Gates, b: Gates, state: Tensors) -> tuple[Tensors, Tensors]:
    """Compute c' = f c + i g and h' = o tanh(c')."""
    c = state[1]
    z_i, z_f, z_g, z_o = (a + b).chunk(4, -1)
    i, f, g, o = torch.sigmoid(z_i), torch.sigmoid(z_f), torch.tanh(z_g), torch.sigmoid(z_o)
    new_c = f * c + i * g
    u = torch.tanh(new_c)
    return (o * u, new_c), (i, f, g, o, c, u)


def _step_backward(kept: Tensors, dstate: Tensors) -> tuple[Tensor, Tensor, Tensors]:
    """Compute delta = dc' + dh' o (1 - u^2), and da, db, dh and dc from it."""
    i, f, g, o, c, u = kept
    dh, dc = dstate
    delta = dc + dh * o * (1 - u * u)
    do, df, di, dg = dh * u, delta * c, delta * g, delta * i
    dz = torch.cat([di * i * (1 - i), df * f * (1 - f), dg * (1 - g * g), do * o * (1 - o)], -1)
    return dz, dz, (torch.zeros_like(dh), delta * f)


FAMILY = Family("lstm", Params, Rule(4, 2, _step, _step_backward))


@constructor(kind="recurrent", dx_and_terms=recurrent.run_terms, mask="state")
def lstm(
    hidden_size: PositiveInt, num_layers: PositiveInt = 1, bias: bool = True,
    bidirectional: bool = False, *, batch_first: bool = True,
    weight_init: Initializer = recurrent.FAN_IN, bias_init: Initializer = recurrent.FAN_IN,
) -> Layer:  # fmt: skip
    """Make a layer of long short-term memory, whose state is a pair (h, c).

    x is a sequence (batch, length, n_in), or one sequence without a batch, (length, n_in). y is the
    outputs (batch, length, directions * hidden_size). x may also be a tuple (sequence, state) or
    (sequence, state, mask). Then y is (outputs, last state). h and c have the shape
    (num_layers * directions, batch, hidden_size); the state may be None for zeros. The mask
    (batch, length) is True where the sequence has an entry.

    Args:
        batch_first: whether the batch is the first axis of the sequence, the outputs and the mask;
            if False, they are (length, batch, ...), as torch's are by default.
        weight_init: draws the matrices. The default is uniform within 1 / sqrt(hidden_size).

    Example:
        >>> layer, x = lf.lstm(8, bias=False), torch.zeros(2, 5, 3)
        >>> layer.predict(layer.init(lf.Key(0), x), x).shape
        torch.Size([2, 5, 8])
    """
    form = recurrent.Form(hidden_size, num_layers, bias, bidirectional, weight_init, bias_init)
    return bare(Layer, forward, backward, partial(init, form=form))
