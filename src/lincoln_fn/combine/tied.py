"""An embedding whose matrix is also the output layer's."""

from __future__ import annotations

from typing import TypeAlias

import attrs
from jaxtyping import Float, Int
from torch import Tensor

from lincoln_fn.combine.parts import check_entries
from lincoln_fn.combine.serial import in_turn
from lincoln_fn.layer import Cache, Layer, Params, unchanged
from lincoln_fn.shapes import LayerError, check_cotangent

Indices: TypeAlias = Int[Tensor, "*batch"]
Logits: TypeAlias = Float[Tensor, "*batch n_embeddings"]


def tied(embedding: Layer, body: Layer) -> Layer:
    """Embed indices, run a body, and score every index by the same matrix: y = body(E[x]) E^T.

    Derivation. With h = body(E[x]), y_j = sum_i h_i E_ji, so dh = g E, and E gathers a gradient
    from both of its places: dE = g^T h, summed over all rows, + what the embedding makes of the
    body's dx. (Press and Wolf, "Using the Output Embedding to Improve Language Models", 2017.)

    Args:
        embedding: a layer whose params have a `weight` of shape (n_embeddings, n_features), such as
            `embedding(n_embeddings, n_features)`.
        body: from (..., n_features) to (..., n_features).

    Returns:
        The layer, from indices (...) to logits (..., n_embeddings). Its params are those of the
        embedding and of the body.

    Raises:
        LayerError: from its functions, if a part raises one, or the body's output has another
            number of features.

    Example:
        >>> net = tied(lf.embedding(10, 4), lf.dense(4))
        >>> x = torch.tensor([[1, 2, 3]])
        >>> net.predict(net.init(lf.Key(0), x), x).shape
        torch.Size([1, 3, 10])
    """
    inside = in_turn("tied", (embedding, body))

    def forward(params: Params, x: Indices) -> tuple[Logits, Cache]:
        h, cache = inside.forward(params, x)
        return scores(params, h), (cache, h)

    def backward(params: Params, cache: Cache, g: Logits) -> tuple[None, Params]:
        check(params, cache, g)
        dx, dparams = inside.backward(params, cache[0], g @ params[0].weight)
        return dx, with_scores(dparams, cache[1], g)

    def predict(params: Params, x: Indices) -> Logits:
        return scores(params, inside.predict(params, x))

    def input_grad(params: Params, cache: Cache, g: Logits) -> None:
        """Give nothing: indices have no gradient."""

    def grads(params: Params, cache: Cache, g: Logits) -> Params:
        check(params, cache, g)
        dparams = inside.grads(params, cache[0], g @ params[0].weight)
        return with_scores(dparams, cache[1], g)

    def advance(params: Params, cache: Cache) -> Params:
        check_entries("tied", "the cache", cache, 2)
        return inside.advance(params, cache[0])

    def scores(params: Params, h: Tensor) -> Logits:
        n_features = params[0].weight.shape[1]
        if h.shape[-1:] != (n_features,):
            got = f"{n_features} features as the embedding has, got {tuple(h.shape)}"
            raise LayerError("tied[1] " + body.name, f"expected its output to have {got}")
        y: Tensor = h @ params[0].weight.mT
        return y

    def with_scores(dparams: Params, h: Tensor, g: Logits) -> Params:
        g_rows, h_rows = g.reshape(-1, g.shape[-1]), h.reshape(-1, h.shape[-1])
        dweight = dparams[0].weight + g_rows.mT @ h_rows
        return attrs.evolve(dparams[0], weight=dweight), dparams[1]

    def check(params: Params, cache: Cache, g: Logits) -> None:
        check_entries("tied", "params", params, 2)
        check_entries("tied", "the cache", cache, 2)
        h = cache[1]
        check_cotangent("tied", g, h, (*h.shape[:-1], len(params[0].weight)))

    return Layer(
        f"tied({embedding.name}, {body.name})",
        forward,
        backward,
        inside.init,
        predict,
        input_grad,
        grads,
        unchanged if inside.advance is unchanged else advance,
        parts=(embedding, body),
        rebuild=lambda new_parts: tied(*new_parts),
    )
