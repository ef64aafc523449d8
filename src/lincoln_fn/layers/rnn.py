"""Elman's recurrent layer, over a sequence.

The state is h. At each step, a comes from the input and b from the previous h; they give the next:

    a = x W_(ih) + b_(ih)
    b = h W_(hh) + b_(hh)
    h' = f(a + b)    the output, with tanh or relu for f

Derivation. Let dh' be the gradient of the new state:

    da = db = dh' (1 - h'^2)    for tanh, as tanh' = 1 - tanh^2
    da = db = {(dh', if h' > 0), (0, otherwise):}    for relu

h enters only through b. `common/scan.py` derives the gradient of the previous h from db, and dx and
the gradients of the parameters from all da and db. Several layers, two directions, states and masks
are in `common/recurrent.py`.

Cache: x, and for each step h and h'. Source: Elman, "Finding Structure in Time", 1990. The matrices
are applied from the right, so they are torch's transposed.
"""

from __future__ import annotations

from functools import partial
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from lincoln_fn.core import Arrays, Key, Layer, PositiveInt, bare, constructor, record
from lincoln_fn.initializers import Initializer
from lincoln_fn.layers.common import recurrent
from lincoln_fn.layers.common.recurrent import Cache, Cells, Family
from lincoln_fn.layers.common.scan import Gates, Rule, Tensors

Nonlinearity: TypeAlias = Literal["tanh", "relu"]


@record
class Params:
    """The cells, by layer and direction."""

    cells: Cells


def init(key: Key, x: Arrays, *, form: recurrent.Form) -> Params:
    """Draw the cells of all layers and directions."""
    return Params(recurrent.init_cells(FAMILIES["tanh"], key, x, form))


def forward(
    params: Params, x: Arrays, *, nonlinearity: str, batch_first: bool
) -> tuple[Arrays, Cache]:
    """Compute h' = f(a + b) at each step; y is every h'."""
    return recurrent.run(FAMILIES[nonlinearity], params, x, batch_first)


def backward(params: Params, cache: Cache, g: Arrays) -> tuple[Arrays, Params]:
    """Compute da = db = dh' f'(a + b) at each step, from the last to the first."""
    return recurrent.run_backward("rnn", params, cache, g)


def _tanh(a: Gates, b: Gates, state: Tensors) -> tuple[Tensors, Tensors]:
    """Compute h' = tanh(a + b)."""
    h = torch.tanh(a + b)
    return (h,), (h,)


def _tanh_backward(kept: Tensors, dstate: Tensors) -> tuple[Tensor, Tensor, Tensors]:
    """Compute da = db = dh' (1 - h'^2)."""
    (h,), (dh,) = kept, dstate
    da = dh * (1 - h * h)
    return da, da, (torch.zeros_like(dh),)


def _relu(a: Gates, b: Gates, state: Tensors) -> tuple[Tensors, Tensors]:
    """Compute h' = relu(a + b)."""
    h = torch.relu(a + b)
    return (h,), (h,)


def _relu_backward(kept: Tensors, dstate: Tensors) -> tuple[Tensor, Tensor, Tensors]:
    """Compute da = db = dh' where h' > 0, else 0."""
    (h,), (dh,) = kept, dstate
    da = torch.where(h > 0, dh, 0)
    return da, da, (torch.zeros_like(dh),)


FAMILIES = {
    "tanh": Family("rnn", Params, Rule(1, 1, _tanh, _tanh_backward)),
    "relu": Family("rnn", Params, Rule(1, 1, _relu, _relu_backward)),
}


@constructor(kind="recurrent", dx_and_terms=recurrent.run_terms, mask="state")
def rnn(
    hidden_size: PositiveInt, num_layers: PositiveInt = 1, nonlinearity: Nonlinearity = "tanh",
    bias: bool = True, bidirectional: bool = False, *, batch_first: bool = True,
    weight_init: Initializer = recurrent.FAN_IN, bias_init: Initializer = recurrent.FAN_IN,
) -> Layer:  # fmt: skip
    """Make Elman's recurrent layer: h' = f(x W_ih + b_ih + h W_hh + b_hh).

    x, y and the state are those of `lstm`, but a state is one tensor. Its arguments are those of
    `lstm`, too, with nonlinearity for f: "tanh" or "relu".

    Example:
        >>> layer, x = lf.rnn(8, bidirectional=True), torch.zeros(2, 5, 3)
        >>> layer.predict(layer.init(lf.Key(0), x), x).shape
        torch.Size([2, 5, 16])
    """
    form = recurrent.Form(hidden_size, num_layers, bias, bidirectional, weight_init, bias_init)
    return bare(Layer, forward, backward, partial(init, form=form))
