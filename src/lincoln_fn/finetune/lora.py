"""Low-rank adaptation of a trained network."""

from __future__ import annotations

from functools import partial

from lincoln_fn.combine import FrozenParams
from lincoln_fn.core import Key, Layer, Params, Positive, PositiveInt, Probability, checked
from lincoln_fn.finetune.low_rank import Params as LowRankParams
from lincoln_fn.finetune.low_rank import low_rank
from lincoln_fn.finetune.targets import ATTENTION, Targets, adapt, read_matrix, sizes_of
from lincoln_fn.initializers import zeros
from lincoln_fn.layers.dense import dense
from lincoln_fn.layers.dropout import dropout as dropout_layer
from lincoln_fn.layers.identity import identity
from lincoln_fn.walk.internal import Pair


@checked
def lora(
    net: Layer,
    params: Params,
    key: Key,
    *,
    r: PositiveInt = 8,
    alpha: Positive = 16.0,
    targets: Targets = ATTENTION,
    dropout: Probability = 0.0,
) -> tuple[Layer, Params]:
    """Train low-rank updates of some dense layers, and freeze the whole network otherwise.

    A target computes y = x W + b + (alpha / r) drop(x) A B, where A (n_in, r) and B (r, n_out) are
    trained. B begins at 0, so that the network begins as the one given. All other params are a
    `State`: no optimizer sees them, and a training step keeps for them only what dx needs.

    Args:
        params: the network's, trained before.
        key: A is drawn from it, uniform within 1 / sqrt(n_in), and the masks of dropout.
        r: the rank of the updates.
        alpha: the updates are multiplied by alpha / r.
        targets: patterns of the paths of dense layers, in which `*` stands for any text. A path is
            made of positions, and of names where parts have names: "1.0.query", "2.linear1". The
            default are the projections of attention to queries and values.
        dropout: the probability to drop an element of x on its way to A.

    Returns:
        The network and its params. `merge_lora` makes layers like those given of them.

    Raises:
        LayerError: if a pattern fits no dense layer; it lists their paths.

    Source:
        Hu and others, "LoRA: Low-Rank Adaptation of Large Language Models", 2021.

    Example:
        >>> net, x = lf.multi_head_attention(2), torch.ones(1, 3, 4)
        >>> net, params = lora(net, net.init(lf.Key(0), x), lf.Key(1), r=2)
        >>> lf.tree.paths(params)
        ['query.lora_a.weight', 'query.lora_b.weight', 'value.lora_a.weight', 'value.lora_b.weight']
    """
    adapted = partial(_adapted, r=r, factor=alpha / r, dropout=dropout)
    return adapt("lora", adapted, net, params, key, targets)


def _adapted(
    layer: Layer, params: Params, key: Key, *, r: int, factor: float, dropout: float
) -> Pair:
    """Put an update beside a layer."""
    n_in, n_out = sizes_of(params)
    like = read_matrix(params)
    lora_a, lora_b = dense(r, bias=False), dense(n_out, bias=False, weight_init=zeros())
    drop = dropout_layer(dropout) if dropout else identity()
    x, h = like.new_empty((1, n_in)), like.new_empty((1, r))
    adapter = LowRankParams(
        lora_a.init(key.fold_in(0), x),
        lora_b.init(key.fold_in(1), h),
        FrozenParams(params),
        drop.init(key.fold_in(2), x),
    )
    return low_rank(layer, lora_a, lora_b, drop, factor), adapter
