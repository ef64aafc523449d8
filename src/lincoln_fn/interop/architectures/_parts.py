"""What networks of several families are made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import torch
from torch import Tensor

from lincoln_fn.combine import branch, complete, parallel, residual, select, serial, tied
from lincoln_fn.core import Layer
from lincoln_fn.interop.architectures.family import ACTIVATIONS, Network, Options, read_names
from lincoln_fn.layers.common.constructors import ours

MASK: Final = "attention_mask"
INPUTS: Final = ("input_ids", MASK)


def arguments(*names: str, least: int = 1) -> Layer:
    """Make a layer that takes the arguments of a pretrained model, the first or a tuple of more.

    The entries that are not given become None, and masks of integers become masks of bools.
    """
    counts = range(least, len(names) + 1)
    forms = tuple((n, f"({', '.join(names[:n])})" if n > 1 else names[0]) for n in counts)
    masks = tuple(i for i, name in enumerate(names) if MASK in name)
    return complete(forms, f"arguments({', '.join(names)})", masks)


def maybe_dropout(p: float) -> Layer:
    """Make a dropout, or the identity where none is dropped: then no mask is drawn."""
    return ours.dropout(p) if p else ours.identity()


# Where the parts of a block are: of `pre_norm`, and of `parallel_block` with one norm or two.
SEQUENTIAL: Final = {
    "norm_1": "0.0.0.0", "attention": "0.0.1", "after_1": "0.0.2",
    "norm_2": "1.0.0", "feed_forward": "1.0.1", "after_2": "1.0.2",
}  # fmt: skip
ONE_NORM: Final = {"norm_1": "0.0.0", "attention": "0.1.0.0", "feed_forward": "0.1.1.1"}
TWO_NORMS: Final = {
    "norm_1": "0.0.0.0", "attention": "0.0.1", "norm_2": "0.1.1", "feed_forward": "0.1.2",
}  # fmt: skip


_IDENTITY: Final = ours.identity()


def pre_norm(
    norm: Layer,
    attention: Layer,
    feed_forward: Layer,
    after: Layer = _IDENTITY,
    *,
    has_mask: bool = True,
) -> Layer:
    """Make a block of (h, mask): h + attention(norm(h), mask), then h + feed_forward(norm(h)).

    The layer `after` is behind both. Without a mask, it is a block of h alone, with the same paths.
    """
    first = parallel(norm, ours.identity()) if has_mask else serial(norm)
    attend = serial(first, attention, after)
    return serial(
        residual(attend, select(0)) if has_mask else residual(attend),
        residual(serial(norm, feed_forward, after)),
    )


def parallel_block(
    norm: Layer, attention: Layer, feed_forward: Layer, after: Layer, *, shares_norm: bool
) -> Layer:
    """Make a block of (h, mask): h + attention(norm(h), mask) + feed_forward(norm(h))."""
    first = parallel(norm, ours.identity())
    if shares_norm:
        both = serial(attention, after), serial(select(0), feed_forward, after)
        way = serial(first, branch(*both, merge=ours.add()))
    else:
        both = serial(first, attention, after), serial(select(0), norm, feed_forward, after)
        way = branch(*both, merge=ours.add())
    return residual(way, select(0))


def post_norm(norm: Layer, attention: Layer, feed_forward: Layer, p: float = 0.0) -> Layer:
    """Make a block of (h, mask): norm(h + attention(h, mask)), then norm(h + feed_forward(h))."""
    return serial(
        serial(residual(serial(attention, maybe_dropout(p)), select(0)), norm),
        serial(residual(serial(feed_forward, maybe_dropout(p))), norm),
    )


def tuple_of(*layers: Layer) -> Layer:
    """Make a layer whose y is a tuple: what each of some layers computes of x."""
    return branch(*layers, merge=ours.identity())


def norm_of(options: Options) -> Layer:
    """Make a layer norm, by an option with BERT's name."""
    return ours.layer_norm(eps=options.layer_norm_eps)


def patches(
    n_features: int, size: int | tuple[int, int], count: int, *, bias: bool = True
) -> list[Layer]:
    """List the layers from an image to its patches' features, behind a class token."""
    return [
        ours.conv2d(n_features, size, size, bias=bias),
        ours.flatten(2),
        ours.permute(0, 2, 1),
        ours.class_token(),
        ours.positional_embedding(count + 1),
    ]


def feed_forward(n_hidden: int, activation: Layer, n_out: int, *, bias: bool = True) -> Layer:
    """Make two dense layers with an activation between them, at "0" and "2"."""
    return serial(ours.dense(n_hidden, bias=bias), activation, ours.dense(n_out, bias=bias))


def sublayers(options: Options, dropout: float, *, is_causal: bool = False) -> tuple[Layer, Layer]:
    """Make attention and the feed-forward layer of a block, by options with BERT's names."""
    heads = options.num_attention_heads
    attention = ours.multi_head_attention(heads, dropout=dropout, is_causal=is_causal)
    activation = ACTIVATIONS[options.hidden_act]()
    return attention, feed_forward(options.intermediate_size, activation, options.hidden_size)


def of_tokens(
    names: tuple[str, ...],
    embedding: Layer,
    body: Layer,
    head: Layer | None = None,
    *,
    ties: bool = False,
    **options: Any,  # Any: further fields of the network
) -> Network:
    """Embed tokens, run the body on (h, *context), and the head on its output.

    With `ties` the embedding's matrix scores the body's output, and the head gets these scores.
    The network's places are "embedding", "body" and "head".
    """
    first, rest = arguments(*names), () if head is None else (head,)
    context = (ours.identity(),) * (len(names) - 1)
    layers = (tied(embedding, body),) if ties else (parallel(embedding, *context), body)
    net = serial(first, *layers, *rest)
    at = ("1.0", "1.1", "2") if ties else ("1.0", "2", "3")
    places = dict(zip(("embedding", "body", "head"), at, strict=True))
    return Network(net, token_ids(), places, **options)


def causal(
    options: Options,
    n_features: int,
    body: Layer,
    scores: tuple[Layer, ...] = (),
    *,
    has_head: bool,
    names: str,
    padding: int | None = None,
    head_bias: bool = False,
    places: Mapping[str, str] = {},
) -> Network:
    """Make a model of texts, whose scores may be those of the embedding's matrix.

    Layers in `scores` are behind the scores, in a `serial` with the matrix. `names` is the family's
    table of them. The vector of the token `padding` has no gradient. `places` are in the body.
    """
    ties = has_head and options.tie_word_embeddings
    tokens = ours.embedding(options.vocab_size, n_features, padding)
    matrix = () if ties else (ours.dense(options.vocab_size, bias=head_bias),)
    parts = (*matrix, *scores) if has_head else ()
    head = serial(*parts) if len(parts) > 1 else next(iter(parts), None)
    theirs = {path: name for name, path in reversed(read_names(names).items())}
    copies = {f"{theirs['head']}.weight": f"{theirs['embedding']}.weight"} if ties else {}
    network = of_tokens(INPUTS, tokens, body, head, ties=ties, is_bare=not has_head, copies=copies)
    first = {"head": network.places["head"] + (".0" if len(parts) > 1 else "")}
    inside = {word: f"{network.places['body']}.{path}" for word, path in places.items()}
    return network._replace(places={**network.places, **first, **inside})


def models(
    name: str, network: Callable[..., Network], head: str = "ForCausalLM"
) -> dict[str, Callable[[Options], Network]]:
    """List the classes of a network without a head and with one."""
    ends = {"Model": False, head: True}
    return {f"{name}{end}": partial(network, has_head=has_head) for end, has_head in ends.items()}


def token_ids() -> Tensor:
    """Make an example input of token ids."""
    return torch.empty((1, 1), dtype=torch.int64, device="meta")


def pixels(options: Options, sizes: tuple[int, int]) -> Tensor:
    """Make an example input of an image."""
    return torch.empty((1, options.num_channels, *sizes), device="meta")
