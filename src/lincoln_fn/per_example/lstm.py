"""The fast lstm's two sums at each step, da_t = db_t = dz_t, from a cache without gates.

oneDNN returns every h, and keeps no gates. `layers/lstm.py` derives, in its names,

    z = x W_(ih) + b_(ih) + h W_(hh) + b_(hh) = [z_i, z_f, z_g, z_o]
    delta = dc' + dh' o (1 - u^2)
    dz = [delta g i (1 - i), delta c f (1 - f), delta i (1 - g^2), dh' u o (1 - o)]
    dc = delta f
    dh = dz W_(hh)^T

Every h is known, so z is computed for all steps at once, and so are u = h / o and the factors of
delta and dh'. Only c' = f c + i g, and the last three lines, go from step to step.
"""

from __future__ import annotations

from functools import reduce
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn.fastpath import product
from lincoln_fn.fastpath.lstm import KernelCache
from lincoln_fn.layers._scan import Cell, Tensors


def sums_backward(
    cell: Cell, cache: KernelCache, g: Float[Tensor, "batch length hidden"], ds: Tensors
) -> tuple[Float[Tensor, "length batch gates"], Float[Tensor, "length batch hidden"], Tensors]:
    """Compute dz of every step, and return h before each step and the gradient of the first state.

    `ds` is the gradient of the last state.
    """
    times, reverse = range(len(cache.x)), cache.reverse
    h, c = cache.first
    y, first = cache.y, h.unsqueeze(0)
    before = torch.cat((y[1:], first) if reverse else (first, y[:-1]))
    along, slopes, forget = _factors(cell, cache, before)
    dh, dc = ds
    dz: list[Tensor] = [dh] * len(times)
    for t in times if reverse else reversed(times):
        dh = dh + g[:, t]
        delta = torch.addcmul(dc, dh, along[t])
        dz[t] = torch.cat((delta, delta, delta, dh), -1) * slopes[t]
        dc = delta * forget[t]
        dh = product.linear(dz[t], cell.weight_hh)
    return torch.stack(dz), before, (dh.view_as(h), dc.view_as(c))


def _factors(cell: Cell, cache: KernelCache, before: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Compute o (1 - u^2), the factors of delta and dh' in dz, and f, for all steps."""
    # One product of [x, h] and both matrices: two would write and read z twice.
    weight = torch.cat((cell.weight_ih, cell.weight_hh))
    biases = [bias for bias in (cell.bias_ih, cell.bias_hh) if bias is not None]
    bias = reduce(torch.add, biases) if biases else None
    z = product.linear(torch.cat((cache.x, before), -1), weight.mT, bias)
    z_i, z_f, z_g, z_o = z.chunk(4, -1)
    i, f, g, o = torch.sigmoid(z_i), torch.sigmoid(z_f), torch.tanh(z_g), torch.sigmoid(z_o)
    new, states = i * g, [cache.first[1]] * (len(z) + 1)
    for t in reversed(range(len(z))) if cache.reverse else range(len(z)):
        old, later = (t + 1, t) if cache.reverse else (t, t + 1)
        states[later] = torch.addcmul(new[t], f[t], states[old])
    c = torch.stack(states[1:] if cache.reverse else states[:-1])
    # Where o is 0, so are h and everything that u is multiplied by.
    u = cache.y / o.clamp(min=torch.finfo(o.dtype).tiny)
    slopes = (_sigmoid(g, i), _sigmoid(c, f), _tanh(i, g), _sigmoid(u, o))
    return _tanh(o, u), torch.cat(slopes, -1), f


# a y (1 - y) and a (1 - y^2), each in one call.
_sigmoid: Final = torch.ops.aten.sigmoid_backward
_tanh: Final = torch.ops.aten.tanh_backward
