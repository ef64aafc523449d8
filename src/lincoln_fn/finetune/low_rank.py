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

from lincoln_fn import core
from lincoln_fn.combine import FrozenParams, frozen
from lincoln_fn.core import Arrays, Key, Layer, Spec, check_params, record
from lincoln_fn.core import Params as AnyParams
from lincoln_fn.finetune.targets import dense_like, read_matrix
from lincoln_fn.layers import dense
from lincoln_fn.layers.add import add
from lincoln_fn.layers.scale import scale
from lincoln_fn.walk import VisitBack, VisitThere, composition, fields
from lincoln_fn.walk.internal import Pair, Record, VisitRecord

NAME = "lora"


@record
class Params:
    """A and B, the frozen params of the layer beside them, and the key of dropout, or ()."""

    lora_a: dense.Params
    lora_b: dense.Params
    base: FrozenParams
    dropout: AnyParams


@record
class LowRankCache:
    """The caches of the parts."""

    base: Record
    dropout: Record
    lora_a: Record
    scale: Record
    lora_b: Record
    add: Record


def _there(visit: VisitThere, params: Params, x: Arrays) -> tuple[Arrays, LowRankCache]:
    """Add the update to the base's output."""
    check_params(NAME, params, Params)
    y, base = visit(0, params.base, x)
    h, dropout = visit(1, params.dropout, x)
    h, lora_a = visit(2, params.lora_a, h)
    h, scaled = visit(3, (), h)
    update, lora_b = visit(4, params.lora_b, h)
    y, added = visit(5, (), (y, update))
    return y, LowRankCache(base, dropout, lora_a, scaled, lora_b, added)


def _back(
    visit: VisitBack, params: Params, cache: LowRankCache, g: Arrays
) -> tuple[Arrays, tuple[Record, ...]]:
    """Pass g to the base and to the update, and add up their dx."""
    check_params(NAME, params, Params)
    core.check_cache(NAME, cache, LowRankCache)
    (g, dupdate), added = visit(5, (), cache.add, g)
    dh, lora_b = visit(4, params.lora_b, cache.lora_b, dupdate)
    dh, scaled = visit(3, (), cache.scale, dh)
    dh, lora_a = visit(2, params.lora_a, cache.lora_a, dh)
    dx, dropout = visit(1, params.dropout, cache.dropout, dh)
    of_base, base = visit(0, params.base, cache.base, g)
    if of_base is not None:
        dx = core.add_trees(of_base, dx)
    return dx, (base, dropout, lora_a, scaled, lora_b, added)


def _gather(visit: VisitRecord, params: Params, records: Record) -> Params:
    lora_a = visit(2, params.lora_a, records[2])
    return Params(lora_a, visit(4, params.lora_b, records[4]), params.base, params.dropout)


def _advance(visit: VisitThere, params: Params, cache: LowRankCache) -> Params:
    check_params(NAME, params, Params)
    base = visit.advance(0, params.base, cache.base)
    dropout = visit.advance(1, params.dropout, cache.dropout)
    return Params(params.lora_a, params.lora_b, base, dropout)


def _needs_dx(i: int, params: AnyParams) -> bool:
    """Return whether a trained part, A or B, needs the dx of part i."""
    return i >= 3


def _init(parts: tuple[Layer, ...], key: Key, x: Arrays) -> Params:
    base, dropout, lora_a, _, lora_b, _ = parts
    a = lora_a.init(key.fold_in(2), x)
    b = lora_b.init(key.fold_in(4), x.new_empty((1, a.weight.shape[-1])))
    return Params(a, b, base.init(key, x), dropout.init(key.fold_in(1), x))


def low_rank(base: Layer, lora_a: Layer, lora_b: Layer, dropout: Layer, factor: float) -> Layer:
    """Put the update beside a layer, which becomes frozen."""
    parts = (frozen(base), dropout, lora_a, scale(factor), lora_b, add())
    call = partial(_call, factor=factor)
    return composition(
        NAME, parts, _there, _back,
        gather=_gather, init=_init, advance=_advance, needs_dx=_needs_dx, call=call,
        arrange=fields(Params, "base", "dropout", "lora_a", None, "lora_b", None),
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
