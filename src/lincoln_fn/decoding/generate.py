"""`generate`: a stream of tokens, each of which becomes the next input."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from operator import index
from typing import Any, TypeAlias

import attrs
import torch
from torch import Tensor

from lincoln_fn.core import Arrays, Key, Params, PositiveInt, checked, format_briefly, unexpected
from lincoln_fn.decoding.decoder import Decoder, DecodeState, length_of
from lincoln_fn.decoding.samplers import Logits, Tokens, temperature
from lincoln_fn.recording import Pure

# A function (logits, key) -> token, such as `lf.samplers` has.
ChooseToken: TypeAlias = Callable[[Logits, Key], Tokens]

_SOFTMAX = temperature()


@attrs.frozen(repr=False)
class NextToken:
    """The pure function (params, state, tokens, key) -> (state, next token)."""

    decoder: Decoder
    sampler: ChooseToken

    def __call__(
        self, params: Params, state: DecodeState, tokens: Arrays, key: Key
    ) -> tuple[DecodeState, Tokens]:
        """Read tokens, and choose the next."""
        y, state = self.decoder.step(params, state, tokens)
        return state, self.sampler(y.select(state.axis, -1), key.fold_in(state.position))

    def __repr__(self) -> str:
        return f"generate({self.decoder!r}, sampler={self.sampler!r})"


@checked
def generate(
    decoder: Decoder,
    params: Params,
    prompt: Arrays,
    *,
    key: Key,
    sampler: ChooseToken = _SOFTMAX,
    max_new_tokens: PositiveInt,
    stop: int | Collection[int] = (),
    max_length: PositiveInt | None = None,
    state: DecodeState | None = None,
) -> Iterator[tuple[DecodeState, Tokens]]:
    """Write text: a stream of tokens, each of which the network reads next.

    Args:
        decoder: from `decode`; or `lf.compile` of it, which makes one graph of a token's step and
            its choice, and reads the prompt without one.
        prompt: token ids (batch, length), at least one; or a tuple of them and context, as
            `Decoder.step` takes it.
        key: of all draws. A token's draw depends on the key and on its position.
        sampler: chooses a token from the logits of the last position: one of `lf.samplers`, or any
            function (logits, key) -> token. The default draws from the softmax.
        stop: ids of tokens that end a text. The stream ends when all texts of the batch have ended;
            until then, those that have repeat their last token.
        max_length: the most positions, on which a compiled graph depends; None for the prompt's
            length and `max_new_tokens`.
        state: to go on from, such as that of an earlier text, to which the prompt is an answer.

    Yields:
        The state, which has read all but the token; and the token of each text, (batch,).

    Raises:
        LayerError: if a layer cannot decode, the prompt is empty or has a mask of padding, stop is
            not of ids, or the text would be longer than `max_length`.

    Example:
        >>> net, prompt = lf.serial(lf.embedding(10, 4), lf.gru(8), lf.dense(10)), torch.ones(1, 3)
        >>> decoder, prompt = lf.decode(net), prompt.long()
        >>> params = net.init(lf.Key(0), prompt)
        >>> text = lf.generate(decoder, params, prompt, key=lf.Key(1), max_new_tokens=5)
        >>> torch.stack([token for state, token in text], 1).shape
        torch.Size([1, 5])
    """
    tokens, *context = prompt if type(prompt) is tuple else (prompt,)
    length = length_of(prompt, decoder.dim)
    _check_no_mask(tokens, context)
    if not length:
        got, mend = f"shape {tuple(tokens.shape)}", "begin with the token that begins a text"
        raise unexpected("generate", "a prompt of at least one token", got, mend)
    room = max_length or length + max_new_tokens
    if state is None:
        x = prompt if context else tokens
        state = decoder.init(params, tokens.shape[1 - decoder.dim], room, x)
    needed = int(state.position) + length + max_new_tokens - 1
    if needed > state.max_length:
        raise unexpected("generate", f"a max_length of at least {needed}", state.max_length)
    stops = torch.tensor(_ids_of(stop), device=tokens.device)
    ends = stops.numel() > 0
    choose: Pure = NextToken(decoder, sampler)
    is_done = torch.zeros(tokens.shape[1 - decoder.dim], dtype=torch.bool, device=tokens.device)
    token = tokens.select(decoder.dim, -1)
    for i in range(max_new_tokens):
        state, new = choose(params, state, (tokens, *context) if context else tokens, key)
        token = torch.where(is_done, token, new) if ends else new
        yield state, token
        if ends:
            is_done = is_done | torch.isin(token, stops)
            if is_done.all():
                return
        tokens = token.unsqueeze(decoder.dim)
        if i == 0:
            try:
                choose = decoder._wrapped(choose)
            except TypeError:  # a sampler without a hash cannot be remembered
                choose = decoder.wrap(choose)


def _ids_of(stop: Any) -> list[int]:  # Any: ids, until they are checked
    """List the ids of the tokens that end a text."""
    if isinstance(stop, Tensor):
        stop = stop.flatten().tolist()
    try:
        is_one = isinstance(stop, str) or not isinstance(stop, Collection)
        return [index(entry) for entry in ([stop] if is_one else stop)]
    except TypeError:
        expected = "stop to be ids of tokens"
        mend = "write the ids that the text's tokens have, such as stop=tokenizer.encode(text)"
        raise unexpected("generate", expected, format_briefly(stop), mend) from None


def _check_no_mask(tokens: Arrays, context: list[Arrays]) -> None:
    """Refuse a mask of padding: a prompt has no padding, and a mask does not grow with the text."""
    for entry in context:
        if isinstance(entry, Tensor) and entry.dtype is torch.bool and entry.shape == tokens.shape:
            mend = "write prompts of one length in each call, and decode the net without lf.masked"
            raise unexpected("generate", "a prompt without padding", "a mask of its tokens", mend)
