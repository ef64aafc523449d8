"""Dense layers of a trained network with 8 or 4 bits a number."""

from __future__ import annotations

from lincoln_fn.core import Key, Layer, Params, PositiveInt, checked, require
from lincoln_fn.finetune.quantized_dense import Bits, from_dense, quantized_dense
from lincoln_fn.finetune.targets import Targets, check_targets, named_params
from lincoln_fn.layers import dense
from lincoln_fn.walk.internal import Pair, change_parts, is_target


@checked
def quantize(
    net: Layer,
    params: Params,
    *,
    bits: Bits = 4,
    block_size: PositiveInt = 64,
    targets: Targets = ("*",),
) -> tuple[Layer, Params]:
    """Store the matrices of dense layers in 8 or 4 bits a number; they are not trained any more.

    In each block of a matrix, W = c v. c is the largest absolute value of the block, and v is
    k / 127 for 8 bits, and one of the 16 values of NF4 for 4 bits. A matrix takes 0.27 of its
    memory in float32 with 8 bits, and 0.14 with 4. The layer computes in the dtype of the matrix
    that it had, which is made from the codes where it is used. `lora(*quantize(net, params), key)`
    is QLoRA.

    Args:
        bits: 4 or 8.
        block_size: the numbers in a block, even for 4 bits.
        targets: patterns of the paths of the dense layers, as `lora` takes them; by default all.

    Returns:
        The network and its params. Those of a quantised layer are a `State`.

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
    require(bits == 8 or block_size % 2 == 0, "quantize", "an even block_size", block_size)
    named = named_params(net, params)
    suitable = [path for path, own in named if isinstance(own, dense.Params)]
    check_targets("quantize", targets, suitable)

    def change(layer: Layer, path: str, params: Params, key: Key | None) -> Pair | None:
        if layer.composition is not None:
            return None
        if not isinstance(params, dense.Params) or not is_target(path, targets):
            return layer, params
        made = from_dense(params, bits=bits, block_size=block_size)
        few = quantized_dense(
            layer.name,
            params.weight.shape[1],
            bias=params.bias is not None,
            bits=bits,
            block_size=block_size,
        )
        return few, made

    return change_parts(change, net, "", params, None)
