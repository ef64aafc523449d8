"""`beam_search`: of all continuations, those that are most probable as a whole.

    score(y) = log p(y | prompt) / n^length_penalty    for y of n tokens

Each of the `num_beams` running texts is continued by every token, and the most probable of all
these go on. A text that ends is kept, if its score is among the best. The search is done when no
running text is expected to come among them. `early_stopping` says how that is guessed.

Source: Graves, "Sequence Transduction with Recurrent Neural Networks", 2012; the rules are those of
transformers' `generate`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from lincoln_fn.core import Arrays, Key, Params, PositiveInt, checked, evolve, tree
from lincoln_fn.decoding.decoder import Decoder, DecodeState, length_of
from lincoln_fn.decoding.generate import NextToken, check_prompt, ids_of
from lincoln_fn.decoding.samplers import Logits
from lincoln_fn.decoding.trial import LeafAxes, axes_of
from lincoln_fn.layers.common.normalisation import widened
from lincoln_fn.recording import Pure

Texts: TypeAlias = Int64[Tensor, "batch beams length"]
Scores: TypeAlias = Float[Tensor, "batch beams"]


def _log_probabilities(logits: Logits, key: Key) -> Logits:
    """Compute those of the next token, in the place of a sampler's choice."""
    return widened(logits).log_softmax(-1)


@checked
def beam_search(
    decoder: Decoder,
    params: Params,
    prompt: Arrays,
    *,
    num_beams: PositiveInt,
    max_new_tokens: PositiveInt,
    length_penalty: float = 1.0,
    early_stopping: bool | Literal["never"] = False,
    stop: int | Collection[int] = (),
) -> tuple[Texts, Scores]:
    """Find the continuations of a prompt with the best scores, the best first.

    The decoder, the prompt and the errors are as in `generate`.

    Args:
        num_beams: how many texts are kept, and returned, for each of the batch.
        length_penalty: the power of the length that divides a text's log-probability: 0 for the
            most probable text, more for longer ones.
        early_stopping: True to be done when `num_beams` texts have ended; False when the best
            running text has a lower score than each of them, at its own length; "never" when it has
            at any length up to `max_new_tokens`.
        stop: ids of tokens that end a text.

    Returns:
        The new tokens of each text, (batch, num_beams, length), in which those that ended before
        others repeat their last token; and their scores, -inf where there are fewer texts.

    Example:
        >>> net, prompt = lf.serial(lf.embedding(10, 4), lf.gru(8), lf.dense(10)), torch.ones(1, 3)
        >>> decoder, prompt = lf.decode(net), prompt.long()
        >>> params = net.init(lf.Key(0), prompt)
        >>> texts, scores = lf.beam_search(decoder, params, prompt, num_beams=4, max_new_tokens=5)
        >>> texts.shape, scores.shape
        (torch.Size([1, 4, 5]), torch.Size([1, 4]))
    """
    check_prompt("beam_search", decoder, prompt)
    axis = 1 - decoder.dim
    x = _of_rows(prompt, lambda rows: rows.repeat_interleave(num_beams, axis))
    tokens, *context = x if type(x) is tuple else (x,)
    batch, most = tokens.shape[axis] // num_beams, length_of(x, decoder.dim) + max_new_tokens
    state = decoder.init(params, batch * num_beams, most, x)
    axes = _batch_axes(decoder, params, x)
    stops = torch.tensor(ids_of("beam_search", stop), device=tokens.device)
    key = Key(0).near(tokens)  # of which nothing is drawn
    next_scores: Pure = NextToken("beam_search", decoder, _log_probabilities)
    first = tokens.select(decoder.dim, -1).view(batch, num_beams, 1)
    texts = ended_texts = first  # the last token of the prompt, and the new ones
    running = scores = torch.full((batch, num_beams), -torch.inf, device=tokens.device)
    running = torch.cat([torch.zeros_like(running[:, :1]), running[:, 1:]], 1)
    may_improve = torch.ones_like(running[:, :1], dtype=torch.bool)
    for n in range(1, max_new_tokens + 1):
        state, log_p = next_scores(params, state, (tokens, *context) if context else tokens, key)
        log_p = log_p.view(batch, num_beams, -1).to(running.dtype) + running.unsqueeze(-1)
        count = min(num_beams * max(2, 1 + stops.numel()), log_p[0].numel())
        best, place = log_p.flatten(1).topk(count)
        origin, token = place // log_p.shape[-1], place % log_p.shape[-1]
        candidates = torch.cat([_rows(texts, origin), token.unsqueeze(-1)], -1)
        ends = torch.isin(token, stops) | (n == max_new_tokens)

        is_kept = ends & may_improve & (torch.arange(count, device=token.device) < num_beams)
        if early_stopping is True:
            is_kept = is_kept & scores.isinf().any(1, keepdim=True)
        new = (best / n**length_penalty).masked_fill(~is_kept, -torch.inf)
        longer = torch.cat([ended_texts, ended_texts[..., -1:]], -1)
        scores, chosen = torch.cat([scores, new], 1).topk(num_beams)
        ended_texts = _rows(torch.cat([longer, candidates], 1), chosen)

        running, chosen = best.masked_fill(ends, -torch.inf).topk(num_beams)
        texts, origin = _rows(candidates, chosen), origin.gather(1, chosen)
        state = _reordered(state, axes, origin)
        length = max_new_tokens if early_stopping == "never" and length_penalty > 0 else n
        reachable = running[:, :1] / length**length_penalty
        may_improve = may_improve & (reachable > scores.amin(1, keepdim=True))
        is_full = early_stopping is True and not scores.isinf().any()
        if is_full or not may_improve.any():
            break
        tokens = texts[..., -1].flatten().unsqueeze(decoder.dim)
        if n == 1:
            next_scores = decoder._wrapped(next_scores)
    return ended_texts[..., 1:], scores


def _of_rows(x: Arrays, change: Callable[[Tensor], Tensor]) -> Arrays:
    if type(x) is tuple:
        return tuple(change(part) if isinstance(part, Tensor) else part for part in x)
    return change(x)


def _rows(texts: Texts, index: Tensor) -> Texts:
    return texts.gather(1, index.unsqueeze(-1).expand(*index.shape, texts.shape[-1]))


def _batch_axes(decoder: Decoder, params: Params, x: Arrays) -> LeafAxes:
    """Find the axis of the batch in each tensor of a state, by states of one text and of two."""

    def leaves(count: int) -> list[Tensor]:
        def first(rows: Tensor) -> Tensor:
            index = torch.zeros(count, dtype=torch.int64, device=rows.device)
            return rows.index_select(1 - decoder.dim, index)

        state = decoder.init(params, count, 2, _of_rows(x, first))
        return tree.leaves(state.layers, states=True)

    axes = axes_of(leaves(1), leaves(2), 1)
    assert axes is not None, "a state has one entry more for one text more"
    return axes


def _reordered(state: DecodeState, axes: LeafAxes, origin: Tensor) -> DecodeState:
    """Take the states of the texts that go on, each that of the text that it continues."""
    first = torch.arange(len(origin), device=origin.device).unsqueeze(1) * origin.shape[1]
    rows, each = (first + origin).flatten(), iter(axes)

    def taken(leaf: Tensor) -> Tensor:
        axis = next(each)
        return leaf.index_select(axis[0], rows) if axis else leaf

    return evolve(state, layers=tree.map(taken, state.layers, states=True))
