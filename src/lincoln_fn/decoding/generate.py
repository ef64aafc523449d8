"""`generate`: a stream of tokens, each of which becomes the next input."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from inspect import signature
from operator import index
from typing import Any, Protocol, TypeAlias, runtime_checkable

import attrs
import torch
from torch import Tensor

from lincoln_fn.core import Arrays, Key, Params, PositiveInt, checked, format_briefly, unexpected
from lincoln_fn.decoding.decoder import Decoder, DecodeState, length_of
from lincoln_fn.decoding.samplers import Text, Tokens, temperature
from lincoln_fn.recording import Pure

# A function (logits, key) -> token, such as `lf.samplers` has, or (logits, key, text) -> token.
ChooseToken: TypeAlias = Callable[..., Tokens]

_SOFTMAX = temperature()


@runtime_checkable
class Tokenizer(Protocol):
    """What makes text of ids, such as a tokenizer of Hugging Face's library."""

    def decode(self, ids: list[int], /) -> str:
        """Make the text of ids."""


@attrs.frozen(repr=False)
class NextToken:
    """The pure function (params, state, tokens, key, text) -> (state, next token)."""

    name: str  # of the function that asks for it, for the log
    decoder: Decoder
    sampler: ChooseToken

    def __call__(
        self, params: Params, state: DecodeState, tokens: Arrays, key: Key, *text: Text
    ) -> tuple[DecodeState, Tokens]:
        """Read tokens, and choose the next."""
        y, state = self.decoder.step(params, state, tokens)
        logits = y.select(state.axis, -1)
        return state, self.sampler(logits, key.fold_in(state.position), *text)

    def __repr__(self) -> str:
        return f"{self.name}({self.decoder!r}, {self.sampler!r})"


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
    stop_strings: str | Collection[str] = (),
    tokenizer: Tokenizer | None = None,
    attention_mask: Tensor | None = None,
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
            function (logits, key) -> token. One with a third argument, `text`, gets the ids of the
            text so far, (batch, max_length), with -1 in front. The default draws from the softmax.
        stop: ids of tokens that end a text. The stream ends when all texts of the batch have ended;
            until then, those that have repeat their last token.
        stop_strings: strings that end a text when what it has written has one of them.
        tokenizer: makes the text of ids for it, by `tokenizer.decode(ids)`.
        attention_mask: for prompts of different lengths, 1 or True at tokens and 0 at padding,
            which is in front of each prompt or behind it. The stream then begins at the end of the
            shortest prompt, and has a longer one's own tokens first. No padding is read: a text is
            that of its prompt alone, as far as the sampler chooses alike.
        max_length: the most positions, on which a compiled graph depends; None for the prompt's
            length and `max_new_tokens`.
        state: to go on from, such as that of an earlier text, to which the prompt is an answer.

    Yields:
        The state, which has read all but the token; and the token of each text, (batch,).

    Raises:
        LayerError: if a layer cannot decode, the prompt is empty, a mask has holes, stop is not of
            ids, stop_strings are empty or have no tokenizer, or the text would be longer than
            `max_length`.

    Example:
        >>> net, prompt = lf.serial(lf.embedding(10, 4), lf.gru(8), lf.dense(10)), torch.ones(1, 3)
        >>> decoder, prompt = lf.decode(net), prompt.long()
        >>> params = net.init(lf.Key(0), prompt)
        >>> text = lf.generate(decoder, params, prompt, key=lf.Key(1), max_new_tokens=5)
        >>> torch.stack([token for state, token in text], 1).shape
        torch.Size([1, 5])
    """
    check_prompt("generate", decoder, prompt)
    tokens, *context = prompt if type(prompt) is tuple else (prompt,)
    prompts, lengths = _aligned(tokens, attention_mask, decoder.dim)
    shortest, longest = int(lengths.min()), int(lengths.max())
    room = max_length or longest + max_new_tokens
    if state is None:
        state = decoder.init(params, len(prompts), room, prompt if context else tokens)
    needed = int(state.position) + longest + max_new_tokens - 1
    if needed > state.max_length:
        raise unexpected("generate", f"a max_length of at least {needed}", state.max_length)
    stops = torch.tensor(ids_of("generate", stop), device=tokens.device)
    has_string = _finder(stop_strings, tokenizer)
    reads_text = _reads_text(sampler)
    choose: Pure = NextToken("generate", decoder, sampler)
    read = prompts[:, :shortest]
    text = torch.nn.functional.pad(read, (state.max_length - shortest, 0), value=-1)
    is_done = torch.zeros(len(prompts), dtype=torch.bool, device=tokens.device)
    token = read[:, -1]
    for i in range(shortest, longest + max_new_tokens):
        tokens = read.movedim(-1, decoder.dim)
        x = (tokens, *context) if context else tokens
        so_far = (text,) if reads_text else ()
        state, new = choose(params, state, x, key, *so_far)
        token = new.where(~is_done, token)
        is_own = i >= lengths
        if shortest < longest:
            token = token.where(is_own, prompts[:, min(i, longest - 1)])
        yield state, token
        count = i + 1 - lengths
        is_done = is_done | (is_own & torch.isin(token, stops)) | (count >= max_new_tokens)
        read = token.unsqueeze(-1)
        if reads_text or has_string is not None:
            text = torch.cat([text[:, 1:], read], 1)
        if has_string is not None:
            is_done = is_done | has_string(text, count.masked_fill(is_done, 0))
        if (stops.numel() or has_string is not None) and is_done.all():
            return
        if i == shortest:
            try:
                choose = decoder._wrapped(choose)
            except TypeError:  # a sampler without a hash cannot be remembered
                choose = decoder.wrap(choose)


def check_prompt(where: str, decoder: Decoder, prompt: Arrays) -> None:
    """Check that a prompt has a token, and no mask of padding behind it."""
    tokens, *context = prompt if type(prompt) is tuple else (prompt,)
    length = length_of(prompt, decoder.dim)
    for entry in context:
        if isinstance(entry, Tensor) and entry.dtype is torch.bool and entry.shape == tokens.shape:
            mend = "write attention_mask=mask, and decode the net without lf.masked"
            raise unexpected(where, "a prompt without padding", "a mask of its tokens", mend)
    if not length:
        got, mend = f"shape {tuple(tokens.shape)}", "begin with the token that begins a text"
        raise unexpected(where, "a prompt of at least one token", got, mend)


def _aligned(tokens: Tensor, mask: Tensor | None, dim: int) -> tuple[Tensor, Tensor]:
    """Put the padding behind each prompt; return the prompts, batch first, and their lengths."""
    rows = tokens.movedim(dim, -1)
    count = rows.shape[-1]
    if mask is None:
        return rows, torch.full((len(rows),), count, device=rows.device)
    if mask.shape != tokens.shape:
        expected = f"an attention_mask of shape {tuple(tokens.shape)}"
        raise unexpected("generate", expected, tuple(mask.shape))
    is_token = mask.to(torch.bool).movedim(dim, -1)
    lengths, first = is_token.sum(-1), is_token.int().argmax(-1, keepdim=True)
    place = torch.arange(count, device=rows.device)
    if not torch.equal(is_token, (place >= first) & (place < first + lengths.unsqueeze(-1))):
        raise unexpected("generate", "an attention_mask with padding at one end", "one with holes")
    if not lengths.all():
        raise unexpected("generate", "at least one token in each prompt", "one of padding alone")
    return rows.gather(-1, (place + first) % count), lengths


def _reads_text(sampler: ChooseToken) -> bool:
    reads = getattr(sampler, "reads_text", None)
    return "text" in signature(sampler).parameters if reads is None else bool(reads)


def _finder(
    stop_strings: str | Collection[str], tokenizer: Tokenizer | None
) -> Callable[[Text, Tensor], Tensor] | None:
    """Make the function (text, count) -> whether a string is in so many last tokens of each text.

    A string may begin and end within tokens. None if there are no strings.
    """
    strings = (stop_strings,) if isinstance(stop_strings, str) else tuple(stop_strings)
    if not strings:
        return None
    if not all(strings):  # every text has it
        raise unexpected("generate", "stop_strings that are not empty", strings)
    if tokenizer is None:
        expected = "a tokenizer for stop_strings, which makes text of ids"
        raise unexpected("generate", expected, None, "write tokenizer=...")

    def has_string(text: Text, count: Tensor) -> Tensor:
        rows = zip(text.tolist(), count.tolist(), strict=True)
        texts = (tokenizer.decode(ids[len(ids) - n :]) if n > 0 else "" for ids, n in rows)
        return torch.tensor([any(s in each for s in strings) for each in texts], device=text.device)

    return has_string


def ids_of(where: str, stop: Any) -> list[int]:  # Any: ids, until they are checked
    """List the ids of the tokens that end a text."""
    if isinstance(stop, Tensor):
        stop = stop.flatten().tolist()
    try:
        is_one = isinstance(stop, str) or not isinstance(stop, Collection)
        return [index(entry) for entry in ([stop] if is_one else stop)]
    except TypeError:
        expected = "stop to be ids of tokens"
        mend = "write the ids that the text's tokens have, such as stop=tokenizer.encode(text)"
        raise unexpected(where, expected, format_briefly(stop), mend) from None
