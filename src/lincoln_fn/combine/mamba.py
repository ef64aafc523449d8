"""Mamba's layer: a selective scan between dense layers, with a gate beside it.

    u = silu(conv(x W_u))
    z = x W_z
    delta = softplus(u W_r W_delta + b_delta)
    B = u W_B
    C = u W_C
    y = (scan(u, delta, B, C) silu(z)) W_o

Its parts derive their gradients, and `serial` and `branch` string them together. `causal_conv1d`
sees no later position: it pads before the sequence, and not after it.
"""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor

from lincoln_fn.combine.branch import branch
from lincoln_fn.combine.serial import serial
from lincoln_fn.core import Key, Layer, PositiveInt, Shape, bare, constructor, keys
from lincoln_fn.initializers import Fans, Initializer, uniform
from lincoln_fn.layers.conv import DEFAULT_INIT, conv1d
from lincoln_fn.layers.dense import dense
from lincoln_fn.layers.identity import identity
from lincoln_fn.layers.multiply import multiply
from lincoln_fn.layers.pad import zero_pad1d
from lincoln_fn.layers.permute import permute
from lincoln_fn.layers.selective_scan import selective_scan
from lincoln_fn.layers.silu import silu
from lincoln_fn.layers.softplus import softplus


@constructor
def causal_conv1d(
    out_channels: PositiveInt,
    kernel_size: PositiveInt,
    *,
    dilation: PositiveInt = 1,
    groups: PositiveInt = 1,
    bias: bool = True,
    weight_init: Initializer = DEFAULT_INIT,
    bias_init: Initializer = DEFAULT_INIT,
) -> Layer:
    """Convolve along a sequence (batch, length, features) whose end each position has not seen.

    y_t depends on x_t and the (kernel_size - 1) dilation positions before it, with zeros before the
    first. It is `conv1d` behind a padding, with the features last. With as many groups as features,
    each feature is convolved by itself, as in Mamba.

    Args:
        groups: the number of groups that the features are divided into, as `conv1d` says.
        weight_init: draws the kernels. The default is torch's: uniform within 1 / sqrt(n_in).

    Example:
        >>> layer, x = causal_conv1d(3, 2, weight_init=lf.initializers.ones()), torch.ones(1, 4, 1)
        >>> layer.predict(layer.init(lf.Key(0), x), x).shape
        torch.Size([1, 4, 3])
    """
    convolve = conv1d(
        out_channels, kernel_size, dilation=dilation, groups=groups, bias=bias,
        weight_init=weight_init, bias_init=bias_init,
    )  # fmt: skip
    padding = zero_pad1d(((kernel_size - 1) * dilation, 0))
    network = serial(permute(0, 2, 1), padding, convolve, permute(0, 2, 1))
    return bare(lambda call: network.replace(name=call))


# Paths of the parts' params, in those of the layer.
PATHS: Final = {
    "signal": "0.0.0", "conv": "0.0.1.2", "step_in": "0.0.3.1.0", "step_out": "0.0.3.1.1",
    "B": "0.0.3.2", "C": "0.0.3.3", "scan": "0.0.4", "gate": "0.1.0", "output": "1",
}  # fmt: skip


def _bias_of_step(key: Key, shape: Shape, fans: Fans, dtype: torch.dtype) -> Tensor:
    """Draw b for which softplus(b) is log-uniform between 0.001 and 0.1."""
    step = keys.uniform(key, shape, math.log(0.001), math.log(0.1), dtype=dtype).exp()
    return step.expm1().log()


@constructor
def mamba(
    hidden_size: PositiveInt,
    state_size: PositiveInt = 16,
    *,
    expand: PositiveInt = 2,
    conv_kernel: PositiveInt = 4,
    time_step_rank: PositiveInt | None = None,
    bias: bool = False,
    conv_bias: bool = True,
    chunk_size: PositiveInt = 16,
) -> Layer:
    """Make the layer of Mamba, which takes the place of attention and the feed-forward layer.

    x is a sequence (batch, length, hidden_size), and y has the same shape. A network of Mamba is a
    stack of residual connections:

        lf.residual(lf.serial(lf.rms_norm(), lf.mamba(64)))

    Args:
        state_size: how many numbers each feature's state has.
        expand: how many times as many features as x there are between the dense layers.
        conv_kernel: how many positions the convolution sees.
        time_step_rank: the features between the two dense layers that compute the sizes of the
            steps; None for a 16th of hidden_size, rounded up.
        bias: whether the first dense layers and the last have biases.
        chunk_size: of `selective_scan`.

    Source:
        Gu and Dao, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces", 2023, figure
        3. The arguments have the names of Hugging Face's configurations.

    Example:
        >>> layer, x = mamba(8, 4), torch.zeros(2, 5, 8)
        >>> layer.predict(layer.init(lf.Key(0), x), x).shape
        torch.Size([2, 5, 8])
    """
    width, rank = expand * hidden_size, time_step_rank or math.ceil(hidden_size / 16)
    reach = 1 / math.sqrt(rank)
    step = serial(
        dense(rank, bias=False),
        dense(
            width,
            weight_init=uniform(-reach, reach),
            bias_init=Initializer("bias_of_step()", _bias_of_step),
        ),
        softplus(),
    )
    of_state = dense(state_size, bias=False)
    signal = serial(
        dense(width, bias=bias),
        causal_conv1d(width, conv_kernel, groups=width, bias=conv_bias),
        silu(),
        branch(identity(), step, of_state, of_state, merge=identity()),
        selective_scan(state_size, chunk_size=chunk_size),
    )
    gate = serial(dense(width, bias=bias), silu())
    network = serial(branch(signal, gate, merge=multiply()), dense(hidden_size, bias=bias))
    return bare(lambda call: network.replace(name=call))
