"""An embedding whose matrix is also the output layer's: y = body(E[x]) E^T.

Derivation. With h = body(E[x]), the scores y = h E^T are a layer whose cache is h:

    y_j = sum_i h_i E_(ji)
    dh = g E
    dE = g^T h    summed over all rows

The gradient of E is the sum of two: that of the scores, and the embedding's own, from the body's
dx. If the embedding is frozen, E has no gradient, and the scores compute dh alone.
(Press and Wolf, "Using the Output Embedding to Improve Language Models", 2017.)
"""

from __future__ import annotations

from functools import partial
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn import core, walk
from lincoln_fn.combine._wiring import wrong_output
from lincoln_fn.combine.frozen import FrozenParams, thaw
from lincoln_fn.core import Arrays, Cache, Key, Layer, Params, check_cotangent, tree
from lincoln_fn.walk import ALL_BUT_LAST, VisitBack, VisitThere, check_entries, composition
from lincoln_fn.walk.internal import Record, VisitRecord, init_in_turn, on_meta, output_of

Features: TypeAlias = Float[Tensor, "*batch n_features"]
Logits: TypeAlias = Float[Tensor, "*batch n_embeddings"]


def forward(params: Params, h: Features) -> tuple[Logits, Features]:
    """Compute y = h E^T."""
    y: Tensor = h @ matrix("scores", params).mT
    return y, h


def backward(params: Params, h: Features, g: Logits) -> tuple[Features, Params]:
    """Compute dh = g E and dE = g^T h."""
    return input_grad(params, h, g), grads(params, h, g)


def input_grad(params: Params, h: Features, g: Logits) -> Features:
    """Compute dh = g E."""
    weight = matrix("scores", params)
    check_cotangent("scores", g, h, (*h.shape[:-1], len(weight)))
    dh: Tensor = g @ weight
    return dh


def grads(params: Params, h: Features, g: Logits) -> Params:
    """Compute dE = g^T h, and zeros for whatever else the embedding has."""
    weight = matrix("scores", params)
    check_cotangent("scores", g, h, (*h.shape[:-1], len(weight)))
    dweight = g.reshape(-1, g.shape[-1]).mT @ h.reshape(-1, h.shape[-1])

    def gradient(leaf: Tensor) -> Tensor:
        return dweight if leaf is weight else torch.zeros_like(leaf)

    return tree.map(gradient, params)


def terms(params: Params, h: Features, g: Logits) -> Params:
    """Return dE_n = sum_t g_nt^T h_nt, and zeros for whatever else the embedding has."""
    weight = matrix("scores", params)
    core.check_batched("scores", g)
    return tree.map(lambda p: core.Outer(g, h) if p is weight else torch.zeros_like(p), params)


core.declare(forward, grads, kind="scores", terms=terms)
core.declare(input_grad, reads=())


def matrix(label: str, params: Params) -> Float[Tensor, "n_embeddings n_features"]:
    """Return E, also a frozen one, or raise a `LayerError` if the params have none."""
    weight = getattr(thaw(params), "weight", None)
    if not isinstance(weight, Tensor) or weight.ndim != 2:
        expected = "params with a weight of shape (n_embeddings, n_features)"
        raise core.unexpected(label, expected, core.describe(params))
    return weight


@core.constructor
def scores() -> Layer:
    """Make the layer, whose params are the embedding's."""
    return core.bare(Layer, forward, backward, input_grad=input_grad, grads=grads)


def _there(visit: VisitThere, params: Params, x: Arrays) -> tuple[Logits, Record]:
    check_entries("tied", "params", params, 2)
    indices, *context = x if type(x) is tuple else (x,)
    h, embedded = visit(0, params[0], indices)
    h, inside = visit(1, params[1], (h, *context) if context else h)
    n_features = matrix("tied", params[0]).shape[1]
    if h.shape[-1:] != (n_features,):
        expected = f"its output to have {n_features} features as the embedding has"
        raise wrong_output(visit, 1, expected, h.shape)
    y, scored = visit(2, params[0], h)
    return y, (embedded, inside, scored)


def _back(visit: VisitBack, params: Params, cache: Cache, g: Logits) -> tuple[Arrays, Record]:
    check_entries("tied", "params", params, 2)
    check_entries("tied", "the cache", cache, 3)
    g, scored = visit(2, params[0], cache[2], g, train=not _is_frozen(params[0]))
    dinputs, inside = visit(1, params[1], cache[1], g)
    dh, *dcontext = dinputs if type(dinputs) is tuple else (dinputs,)
    dx, embedded = visit(0, params[0], cache[0], dh)
    return (dx, *dcontext) if dcontext else dx, (embedded, inside, scored)


def _gather(visit: VisitRecord, params: Params, records: Record) -> Params:
    embedded = visit(0, params[0], records[0])
    if not _is_frozen(params[0]):
        embedded = tree.map(torch.add, embedded, visit(2, params[0], records[2]))
    return embedded, visit(1, params[1], records[1])


def _is_frozen(params: Params) -> bool:
    return isinstance(params, FrozenParams)


def _init(parts: tuple[Layer, ...], key: Key, x: Arrays) -> Params:
    if type(x) is not tuple:
        return init_in_turn(parts[:2], key, x)
    indices, *context = x
    embedding = parts[0].init(key.fold_in(0), indices)
    h = output_of(parts[0], embedding, indices)
    inputs = (h, *on_meta(tuple(context))) if context else h
    return embedding, parts[1].init(key.fold_in(1), inputs)


def _needs_dx(i: int, params: Params) -> bool:
    """Return whether a part before part i is trained: not so for the embedding, the first part."""
    return i > 0 and walk.is_trained(params[0] if i == 1 else params)


@core.constructor
def tied(embedding: Layer, body: Layer) -> Layer:
    """Embed indices, run a body, and score every index by the same matrix: y = body(E[x]) E^T.

    Args:
        embedding: a layer whose params have a `weight` of shape (n_embeddings, n_features), such as
            `embedding`; or `frozen` of one, whose matrix is not trained by the scores either.
        body: from (..., n_features) to (..., n_features); for a tuple x, from (features, *context).

    Returns:
        The layer, from indices (...), or (indices, *context), to logits (..., n_embeddings). Its
        params are those of the embedding and of the body; its parts are these and the scores.

    Example:
        >>> net = tied(lf.embedding(10, 4), lf.dense(4))
        >>> x = torch.tensor([[1, 2, 3]])
        >>> net.predict(net.init(lf.Key(0), x), x).shape
        torch.Size([1, 3, 10])
    """
    parts, names = (embedding, body, scores()), ("embedding", "body", "scores")
    return core.bare(
        partial(composition, parts=parts, arrange=ALL_BUT_LAST, names=names),
        there=_there, back=_back, gather=_gather, init=_init, needs_dx=_needs_dx,
    )  # fmt: skip
