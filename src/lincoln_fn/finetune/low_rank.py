"""A trained low-rank update beside a frozen layer: y = base(x) + s drop(x) A B.

Derivation. The base is frozen, so only its dx is computed. With h = drop(x) A and s = alpha / r,

    dB = s h^T g
    dh = s g B^T
    dA = drop(x)^T dh
    dx = "base's" dx + drop's dx of dh A^T

B begins at 0, so that y begins as base(x). The matrix of a merged layer is W + s A B.

Cache: those of the parts. The base's holds no x, since its dx needs none.

Source: Hu and others, "LoRA: Low-Rank Adaptation of Large Language Models", 2021.
"""

from __future__ import annotations

from functools import partial

from lincoln_fn.combine import FrozenParams, Wiring, frozen, wired
from lincoln_fn.core import Layer, Spec, record
from lincoln_fn.core import Params as AnyParams
from lincoln_fn.finetune.targets import dense_like, read_matrix
from lincoln_fn.layers import dense
from lincoln_fn.layers.add import add
from lincoln_fn.layers.scale import scale
from lincoln_fn.walk import fields
from lincoln_fn.walk.internal import Pair

NAME = "lora"


@record
class Params:
    """A and B, the frozen params of the layer beside them, and the key of dropout, or ()."""

    lora_a: dense.Params
    lora_b: dense.Params
    base: FrozenParams
    dropout: AnyParams


# The frozen layer, dropout, A, the scale, B, and the sum of the first and the last.
_WIRING = Wiring(
    reads=(0, 0, 2, 3, 4, (1, 5)), y=6, bare=(3, 5),
    arrange=fields(Params, "base", "dropout", "lora_a", None, "lora_b", None),
)  # fmt: skip


def low_rank(base: Layer, lora_a: Layer, lora_b: Layer, dropout: Layer, factor: float) -> Layer:
    """Put the update beside a layer, which becomes frozen."""
    parts = (frozen(base), dropout, lora_a, scale(factor), lora_b, add())
    call = partial(_call, factor=factor)
    return wired(
        NAME, parts, _WIRING, call=call,
        names=("base", "dropout", "lora_a", "", "lora_b", ""),
    )  # fmt: skip


def _call(parts: tuple[Layer, ...], *, factor: float) -> Spec:
    base, dropout, lora_a, _, lora_b, _ = parts
    arguments = {"base": base.parts[0], "lora_a": lora_a, "lora_b": lora_b, "dropout": dropout}
    return Spec(low_rank, arguments | {"factor": factor}, f"{NAME}({base.parts[0].name})")


def merge(layer: Layer, params: Params) -> Pair:
    """Make the dense layer with the matrix W + s A B."""
    assert layer.spec is not None, "`low_rank` made it"
    base, factor = params.base.params, layer.spec["factor"]
    weight = read_matrix(base) + factor * (params.lora_a.weight @ params.lora_b.weight)
    former = layer.parts[0].parts[0]
    is_dense = isinstance(base, dense.Params)
    return former if is_dense else dense_like(base), dense.Params(weight, base.bias)
