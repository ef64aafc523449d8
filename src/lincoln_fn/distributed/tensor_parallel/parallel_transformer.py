"""A transformer block whose attention and dense layers are divided among processes.

In each sublayer, a column-parallel layer comes first and a row-parallel one last:

    attention       parallel_attention
    dense layers    column_parallel, activation, parallel_dropout, row_parallel

Between them each process has its own features. Layer norms, residual connections and the dropout
after a sublayer are the same in all processes, and so are their gradients: they are computed from
the same x and the same g, and no process needs another's.

Derivation. It is a composition, of layers that derive their own backward pass. Each sublayer has
one sum in each direction.
"""

from __future__ import annotations

from lincoln_fn import core
from lincoln_fn.combine import Activation, transformer_encoder_block
from lincoln_fn.core import Layer, NonNegative, PositiveInt, Probability, bare
from lincoln_fn.distributed.group import Group
from lincoln_fn.distributed.tensor_parallel import parallel_dense
from lincoln_fn.distributed.tensor_parallel.parallel_attention import parallel_attention
from lincoln_fn.interop.internal import BLOCKS
from lincoln_fn.layers.dense import dense
from lincoln_fn.layers.multi_head_attention import multi_head_attention
from lincoln_fn.walk.internal import map_paths


@core.constructor
def parallel_encoder_block(
    num_heads: PositiveInt,
    group: Group,
    dim_feedforward: PositiveInt = 2048,
    dropout: Probability = 0.1,
    activation: Activation = "relu",
    layer_norm_eps: NonNegative = 1e-5,
    norm_first: bool = False,
    is_causal: bool = False,
    bias: bool = True,
    batch_first: bool = True,
) -> Layer:
    """Divide a transformer encoder's block among processes.

    It computes what `lf.transformer_encoder_block` computes, from the same key with the same masks.
    All processes have the same x and get the same y. Its arguments are those of that block;
    num_heads and dim_feedforward are multiples of the number of processes. The params have the
    structure of that block's.

    Source:
        Shoeybi and others, "Megatron-LM", 2019, section 3.

    Example:
        >>> group, x = lf.distributed.alone(), torch.zeros(2, 5, 8)
        >>> layer = parallel_encoder_block(4, group, dim_feedforward=16)
        >>> layer, layer.predict(layer.init(lf.Key(0), x), x).shape
        (parallel_encoder_block(4, group, dim_feedforward=16), torch.Size([2, 5, 8]))
    """
    whole = transformer_encoder_block(
        num_heads, dim_feedforward, dropout, activation, layer_norm_eps, norm_first, is_causal,
        bias, batch_first,
    )  # fmt: skip
    attention = parallel_attention(
        num_heads, group, dropout=dropout, bias=bias, is_causal=is_causal, batch_first=batch_first
    )
    first = parallel_dense.column_parallel(dim_feedforward, group, bias=bias)

    def divided(layer: Layer, path: str) -> Layer:
        if layer.composition is None:
            return layer
        if core.made_by(layer, multi_head_attention):
            return attention
        if core.made_by(layer.parts[0], dense):
            _, active, dropped, last, after = layer.parts
            inner = parallel_dense.parallel_dropout(dropout, group) if dropout else dropped
            last = parallel_dense.divide_rows(last, group)
            return layer.rebuild((first, active, inner, last, after))
        return layer

    parts = map_paths(divided, whole).parts
    return bare(lambda call: whole.rebuild(parts, call=call))


BLOCKS[parallel_encoder_block] = BLOCKS[transformer_encoder_block]
