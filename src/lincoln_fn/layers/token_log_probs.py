"""Log-probabilities of tokens: y_t is that of the token at t, by the logits there.

Derivation. With x_(t j) the logit of token j at t, p_t their softmax, c_t the token that is there,
and m_t = 1 where it counts, 0 where it is masked,

    y_t = m_t (x_(t c) - log sum_n e^(x_(t n)))    with c = c_t
    dx_(t j) = {((1 - p_(t c)) m_t g_t, if j = c), (-p_(t j) m_t g_t, otherwise):}

1 - p_(tc) is computed as -expm1 of the log-probability, which adds no error of its own. That of the
log-probability stays: the sum of the exponentials is rounded, so in float32 a 1 - p_(tc) below
2^(-24) is 0. Tokens and mask have no gradient.

Cache: the log-softmax z of x, the tokens, the mask, if there is one, and a stand-in for y.
"""

from __future__ import annotations

from typing import TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lincoln_fn.core import Layer, bare, constructor, record, stand_in, wrong_shape
from lincoln_fn.layers.common.inputs import check_indexed, in_range
from lincoln_fn.layers.common.sequences import Mask, check_mask
from lincoln_fn.layers.log_softmax import minus_one_hot

NAME = "token_log_probs"
Logits: TypeAlias = Float[Tensor, "*batch length tokens"]
Tokens: TypeAlias = Int[Tensor, "*batch length"]


@record
class Cache:
    """The log-probabilities of all tokens, those that are there, the mask, and y's shape."""

    z: Logits
    index: Int[Tensor, "*batch length 1"]
    mask: Mask | None
    y: Float[Tensor, "*batch length"]


def forward(
    params: tuple[()], x: tuple[Logits, Tokens] | tuple[Logits, Tokens, Mask]
) -> tuple[Float[Tensor, "*batch length"], Cache]:
    """Compute y_t = m_t (x_tc - log sum_n e^(x_tn))."""
    logits, tokens, mask = _checked(x)
    if mask is not None:
        tokens = torch.where(mask, tokens, 0)
    z, index = torch.log_softmax(logits, -1), tokens.long().unsqueeze(-1)
    y = in_range(NAME, tokens, logits.shape[-1], lambda: z.gather(-1, index)).squeeze(-1)
    y = y if mask is None else torch.where(mask, y, 0)
    return y, Cache(z, index, mask, stand_in(y))


def backward(
    params: tuple[()], cache: Cache, g: Float[Tensor, "*batch length"]
) -> tuple[tuple[Logits, None] | tuple[Logits, None, None], tuple[()]]:
    """Compute dx_tj = (1 - p_tc) m_t g_t for j = c, else -p_tj m_t g_t."""
    z, index, mask = cache.z, cache.index, cache.mask
    g = g if mask is None else torch.where(mask, g, 0)
    dx = -minus_one_hot(z, index, -1) * g.unsqueeze(-1)
    return (dx, None) if mask is None else (dx, None, None), ()


@constructor(kind="log_softmax")
def token_log_probs() -> Layer:
    """Read the log-probability of each token of a sequence from a language model's logits.

    x is (logits, tokens) or (logits, tokens, mask): logits of shape (..., length, tokens), token
    ids of shape (..., length), and a mask of that shape, True for the tokens that count. y has the
    shape (..., length), and is 0 where the mask is False; a masked id may be any number. The logits
    at t are for the token at t: of a model that predicts the next token, give tokens[:, 1:] and the
    logits of tokens[:, :-1]. The sum of y over the last axis is the log-probability of an answer.
    dx is (dlogits, None), or (dlogits, None, None).

    Example:
        >>> logits = torch.tensor([[[0.0, 0.0], [1e4, 0.0]]])
        >>> tokens, mask = torch.tensor([[1, -100]]), torch.tensor([[True, False]])
        >>> token_log_probs().predict((), (logits, tokens, mask))
        tensor([[-0.6931,  0.0000]])
    """
    return bare(Layer, forward, backward)


def _checked(x: object) -> tuple[Logits, Tokens, Mask | None]:
    has_mask = isinstance(x, tuple) and len(x) == 3
    pair = x[:2] if isinstance(x, tuple) and has_mask else x
    check_indexed(NAME, pair, "(logits, tokens)", -1)
    assert isinstance(x, tuple)
    logits, tokens, mask = (*x, None)[:3]
    shape = tuple(logits.shape[:-1])
    if tokens.shape != shape:
        raise wrong_shape(NAME, "tokens", tokens, f"{shape}")
    if has_mask:
        check_mask(NAME, mask, logits)
    return logits, tokens, mask
