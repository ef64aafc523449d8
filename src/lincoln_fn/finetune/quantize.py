"""Dense layers whose matrices have 8 or 4 bits a number, and are not trained: y = x W + b.

W is cut into blocks, row by row. Each block has a scale c, the largest of its |W_(ij)|, and each
number a code, which stands for a value v from -1 to 1:

    W_(ij) = c v    with v = k / 127 for 8 bits, k a whole number, and one of 16 values for 4 bits

The 16 values are those of NF4: quantiles of the normal distribution, since trained matrices are
nearly normal. The code of a number is that of the nearest value.

Derivation. W and b are constants, so

    dx = g W^T

W is made from the codes twice, in forward and in `input_grad`, and freed each time.

Cache: the shape of x.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Annotated, Final, Literal, TypeAlias

import torch
from jaxtyping import Float, Int8, UInt8
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import NOT_EMPTY, Key, Layer, Params, PositiveInt, State, record, unexpected
from lincoln_fn.layers import dense
from lincoln_fn.walk.internal import Pair, change_parts, composition_of, is_target

# Such as "*.query": of paths with the names of parts where they have some.
Targets: TypeAlias = Annotated[tuple[str, ...], NOT_EMPTY]


def named_params(layer: Layer, params: Params, path: str = "") -> Iterator[tuple[str, Params]]:
    """Find the params of each single layer by its path, with the names of parts."""
    whole = composition_of(layer)
    if whole is None:
        yield path, params
        return
    for i, (part, entry) in enumerate(zip(whole.parts, whole.split_params(params), strict=True)):
        yield from named_params(part, entry, whole.inside(path, i))


def check_targets(
    where: str, targets: Targets, net: Layer, params: Params, *kinds: type
) -> list[str]:
    """List the layers with params of some kinds, by path; check that each pattern fits one."""
    suitable = [path for path, own in named_params(net, params) if isinstance(own, kinds)]
    for pattern in targets:
        if not any(is_target(path, (pattern,)) for path in suitable):
            listed = ", ".join(map(repr, suitable[:12])) + (", ..." if suitable[12:] else "")
            expected = "targets that fit the path of a dense layer"
            raise unexpected(where, expected, repr(pattern), f"there are {listed or 'none'}")
    return suitable


Bits: TypeAlias = Literal[4, 8]

# The values of NF4, as the paper's appendix E has them.
NF4: Final = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
    -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
    0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941,
    0.7229568362236023, 1.0,
)  # fmt: skip


@record
class QuantizedParams(State):
    """The codes of W, two in a byte for 4 bits, the scales of its blocks, b, and W's shape."""

    codes: Int8[Tensor, "blocks block_size"] | UInt8[Tensor, "blocks half_block_size"]
    scales: Float[Tensor, "blocks 1"]
    bias: Float[Tensor, " n_out"] | None
    shape: tuple[int, int] = core.static()

    @property
    def weight(self) -> Float[Tensor, "n_in n_out"]:
        """Make W from its codes."""
        scales = self.scales
        if self.codes.dtype is torch.int8:
            values = self.codes.to(scales.dtype) / 127
        else:
            table = torch.tensor(NF4, dtype=scales.dtype, device=scales.device)
            codes = torch.stack((self.codes >> 4, self.codes & 15), -1).flatten(1)
            values = table[codes.int()]
        n_in, n_out = self.shape
        return (values * scales).flatten()[: n_in * n_out].view(n_in, n_out)


def from_dense(params: dense.Params, *, bits: Bits, block_size: int) -> QuantizedParams:
    """Compute the codes and the scales of a dense layer's matrix."""
    shape = (params.weight.shape[0], params.weight.shape[1])
    flat = params.weight.detach().reshape(-1)
    missing = -len(flat) % block_size  # the last block is filled with zeros
    blocks = torch.nn.functional.pad(flat, (0, missing)).reshape(-1, block_size)
    scales = blocks.abs().amax(1, keepdim=True)
    values = blocks / torch.where(scales == 0, 1, scales)
    if bits == 8:
        return QuantizedParams((values * 127).round().to(torch.int8), scales, params.bias, shape)
    table = torch.tensor(NF4, dtype=values.dtype, device=values.device)
    middles = (table[1:] + table[:-1]) / 2
    codes = torch.bucketize(values, middles).to(torch.uint8)
    return QuantizedParams(codes[:, ::2] << 4 | codes[:, 1::2], scales, params.bias, shape)


def forward(
    params: QuantizedParams, x: Float[Tensor, "*batch n_in"]
) -> tuple[Float[Tensor, "*batch n_out"], Float[Tensor, "*batch n_in"]]:
    """Compute y = x W + b."""
    core.check_input("quantized_dense", params, x, QuantizedParams)
    core.check_like("quantized_dense", "x", x, params.scales)
    n_in, n_out = params.shape
    if x.shape[-1:] != (n_in,):
        raise core.wrong_shape(f"quantized_dense({n_out})", "x", x, f"(..., {n_in})")
    y = x @ params.weight
    return y if params.bias is None else y + params.bias, x.new_zeros(()).expand(x.shape)


def backward(
    params: QuantizedParams, x: Float[Tensor, "*batch n_in"], g: Float[Tensor, "*batch n_out"]
) -> tuple[Float[Tensor, "*batch n_in"], QuantizedParams]:
    """Compute dx = g W^T; the params have no gradient."""
    core.check_params("quantized_dense", params, QuantizedParams)
    core.check_cotangent("quantized_dense", g, x, (*x.shape[:-1], params.shape[1]))
    return g @ params.weight.mT, params


core.declare(forward, kind="dense")


def _init(key: Key, x: Tensor, *, layer: Layer, bits: Bits, block_size: int) -> QuantizedParams:
    return from_dense(layer.init(key, x), bits=bits, block_size=block_size)


def dense_like(params: dense.Params) -> Layer:
    """Make the dense layer of params."""
    return dense.dense(params.weight.shape[1], bias=params.bias is not None)


@core.checked
def quantize(
    net: Layer,
    params: Params,
    *,
    bits: Bits = 4,
    block_size: PositiveInt = 64,
    targets: Targets = ("*",),
) -> tuple[Layer, Params]:
    """Store the matrices of dense layers in 8 or 4 bits a number; they are not trained any more.

    A matrix takes 0.27 of its memory in float32 with 8 bits, and 0.14 with 4. It is made from the
    codes where it is used, in the dtype that it had. `lora(*quantize(net, params), key)` is QLoRA.
    The params of a quantised layer are a `State`.

    Args:
        block_size: the numbers in a block, even for 4 bits.
        targets: patterns of the paths of the dense layers, as `lora` takes them; by default all.

    Raises:
        LayerError: if a pattern fits no dense layer, or block_size is odd.

    Source:
        Dettmers and others, "QLoRA: Efficient Finetuning of Quantized LLMs", 2023.

    Example:
        >>> net, x = lf.serial(lf.dense(64), lf.tanh()), torch.ones(1, 64)
        >>> net, params = quantize(net, net.init(lf.Key(0), x))
        >>> net, params[0].codes.shape
        (serial(quantized(dense(64), bits=4), tanh()), torch.Size([64, 32]))
    """
    core.require(bits == 8 or block_size % 2 == 0, "quantize", "an even block_size", block_size)
    check_targets("quantize", targets, net, params, dense.Params)

    def change(layer: Layer, path: str, params: Params, key: Key | None) -> Pair | None:
        if layer.composition is not None:
            return None
        if not isinstance(params, dense.Params) or not is_target(path, targets):
            return layer, params
        init = partial(_init, layer=dense_like(params), bits=bits, block_size=block_size)
        few = Layer(f"quantized({layer.name}, bits={bits})", forward, backward, init)
        return few, from_dense(params, bits=bits, block_size=block_size)

    return change_parts(change, net, "", params, None)
