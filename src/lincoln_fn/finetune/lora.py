"""Low-rank adaptation: a trained update beside a frozen layer, y = base(x) + s drop(x) A B.

Derivation. The base is frozen, so only its dx is computed. With h = drop(x) A and s = alpha / r,

    dB = s h^T g
    dh = s g B^T
    dA = drop(x)^T dh
    dx = "base's" dx + drop's dx of dh A^T

B begins at 0, so that y begins as base(x). The matrix of a merged layer is W + s A B.

Cache: those of the parts. The base's holds no x, since its dx needs none.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

from lincoln_fn import core
from lincoln_fn.combine import FrozenParams, Wiring, constant, frozen, wired
from lincoln_fn.core import Key, Layer, Params, Positive, PositiveInt, Probability, Spec, record
from lincoln_fn.finetune.quantize import QuantizedParams, Targets, check_targets, dense_like
from lincoln_fn.initializers import zeros
from lincoln_fn.layers import dense
from lincoln_fn.layers.add import add
from lincoln_fn.layers.dropout import dropout as dropout_layer
from lincoln_fn.layers.identity import identity
from lincoln_fn.layers.scale import scale
from lincoln_fn.walk import fields, is_trained
from lincoln_fn.walk.internal import Pair, change_parts, composition_of, is_target

ATTENTION: Targets = ("*.query", "*.value")
# (layer, params, key, path) -> the adapted layer and its params
Adapt: TypeAlias = Callable[[Layer, Params, Key, str], Pair]


@record
class LowRankParams:
    """A and B, the frozen params of the layer beside them, and the key of dropout, or ()."""

    lora_a: dense.Params
    lora_b: dense.Params
    base: FrozenParams
    dropout: Params


# The frozen layer, dropout, A, the scale, B, and the sum of the first and the last.
_WIRING = Wiring(
    reads=(0, 0, 2, 3, 4, (1, 5)), y=6, bare=(3, 5),
    arrange=fields(LowRankParams, "base", "dropout", "lora_a", None, "lora_b", None),
)  # fmt: skip


def low_rank(base: Layer, lora_a: Layer, lora_b: Layer, dropout: Layer, factor: float) -> Layer:
    """Put the update beside a layer, which becomes frozen."""
    parts = (frozen(base), dropout, lora_a, scale(factor), lora_b, add())
    names = ("base", "dropout", "lora_a", "", "lora_b", "")
    return wired("lora", parts, _WIRING, call=partial(_call, factor=factor), names=names)


def _call(parts: tuple[Layer, ...], *, factor: float) -> Spec:
    base, dropout, lora_a, _, lora_b, _ = parts
    arguments = {"base": base.parts[0], "lora_a": lora_a, "lora_b": lora_b, "dropout": dropout}
    return Spec(low_rank, arguments | {"factor": factor}, f"lora({base.parts[0].name})")


def merge_low_rank(layer: Layer, params: LowRankParams) -> Pair:
    """Make the dense layer with the matrix W + s A B."""
    assert layer.spec is not None, "`low_rank` made it"
    base, factor = params.base.params, layer.spec["factor"]
    weight = base.weight + factor * (params.lora_a.weight @ params.lora_b.weight)
    merged = dense.Params(weight, base.bias)
    former = layer.parts[0].parts[0]
    return former if isinstance(base, dense.Params) else dense_like(merged), merged


def adapt(
    where: str, adapted: Adapt, net: Layer, params: Params, key: Key, targets: Targets
) -> Pair:
    """Adapt the dense layers that are targets, and freeze everything else."""
    suitable = check_targets(where, targets, net, params, dense.Params, QuantizedParams)
    chosen = [path for path in suitable if is_target(path, targets)]

    def change(layer: Layer, path: str, params: Params, key: Key | None) -> Pair | None:
        assert key is not None, "it was given"
        if path in chosen:
            return adapted(layer, params, key, path)
        inside = f"{path}." if path else ""
        made = composition_of(layer)
        if made is not None and any(each.startswith(inside) for each in chosen):
            if core.made_by(layer, frozen, constant):  # the adapter inside is trained
                return change_parts(change, made.parts[0], made.inside(path, 0), params.params, key)
            return None
        if not is_trained(params):  # nothing to freeze
            return layer, params
        return frozen(layer), FrozenParams(params)

    return change_parts(change, net, "", params, key)


@core.checked
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
        key: A is drawn from it, uniform within 1 / sqrt(n_in), and the masks of dropout.
        targets: patterns of the paths of dense layers, in which `*` stands for any text. A path is
            made of positions, and of names where parts have names: "1.0.query", "2.linear1". The
            default are the projections of attention to queries and values.
        dropout: the probability to drop an element of x on its way to A.

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
    layer: Layer, params: Params, key: Key, path: str, *, r: int, factor: float, dropout: float
) -> Pair:
    like = params.weight
    n_in, n_out = like.shape
    x, h = like.new_empty((1, n_in)), like.new_empty((1, r))
    lora_a = dense.dense(r, bias=False).init(key.fold_in(0), x)
    lora_b = dense.dense(n_out, bias=False, weight_init=zeros()).init(key.fold_in(1), h)
    return beside(layer, params, key, lora_a, lora_b, factor, dropout)


def beside(
    layer: Layer, params: Params, key: Key, lora_a: dense.Params, lora_b: dense.Params,
    factor: float, dropout: float,
) -> Pair:  # fmt: skip
    """Put an update by A and B beside a dense layer."""
    drop = dropout_layer(dropout) if dropout else identity()
    x = params.weight.new_empty((1, params.weight.shape[0]))
    own = drop.init(key.fold_in(2), x)
    first = dense.dense(lora_a.weight.shape[1], bias=False)
    last = dense.dense(lora_b.weight.shape[1], bias=False, weight_init=zeros())
    adapter = LowRankParams(lora_a, lora_b, FrozenParams(params), own)
    return low_rank(layer, first, last, drop, factor), adapter
