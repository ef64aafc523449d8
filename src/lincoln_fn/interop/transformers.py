"""torch's stacks of transformer blocks: an encoder, a decoder, and the two together.

A stack is `combine.with_context` of the blocks, with its derivation, and a norm behind them. Both
together compute m = encoder((s, mask_s)) and y = decoder((t, m, mask_t, mask_m)).

Masks in torch's call and here, where True means that attention is allowed:

    m of (length, key length), bool                  ~m[None, None]
    m of (length, key length), floating              m[None, None]
    m of (batch * heads, length, key length)         ~m.unflatten(0, (batch, heads))
    padding p of (batch, key length), bool           ~p
    both                                             ~(m | p[:, None, None])
    is_causal=True, with a mask of n times n         blocks with is_causal=True and no mask
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import attrs

from lincoln_fn.combine import Context, in_turn, wired
from lincoln_fn.core import Arrays, Layer, Spec, call_of, format_briefly, made_by, unexpected
from lincoln_fn.layers.identity import identity


@attrs.frozen
class _Both(Context):
    """The encoder reads the source and its mask; the decoder the target, the memory and masks."""

    def values_of(self, label: str, x: Arrays) -> tuple[Arrays, ...]:
        if type(x) is not tuple or len(x) not in (2, 5):
            expected = "x to be (source, target) or with masks of source, target and memory behind"
            raise unexpected(label, expected, format_briefly(x))
        return *x[:2], x[2:3] or None, x[3:] or None

    def dx_of_x(self, gs: Sequence[Arrays]) -> Arrays:
        return gs[0], gs[1], *(gs[2] or ()), *(gs[3] or ())


_BOTH = _Both(reads=((0, 2), (1, 4, 3)), y=5, entries=4)


def _stack(of: Callable[..., Layer], blocks: tuple[Layer, ...], norm: Layer | None) -> Layer:
    if not blocks:
        raise ValueError(f"{of.__name__}: expected at least one block, got none")
    parts = (*blocks, identity() if norm is None else norm)
    n = len(blocks)
    wiring = Context((*in_turn(n), n + 1), n + 2, entries=2)
    return wired(of, parts, wiring, call=partial(_call, of))


def _call(of: Callable[..., Layer], parts: tuple[Layer, ...]) -> Spec:
    *blocks, norm = parts
    return call_of(of, *blocks, norm=None if made_by(norm, identity) else norm)


def transformer_encoder(*blocks: Layer, norm: Layer | None = None) -> Layer:
    """Stack blocks as torch's `nn.TransformerEncoder` does.

    x is a sequence or (sequence, mask), as each block takes it; y is a sequence. Params, caches and
    dparams are tuples with an entry for each block, and one for the norm.

    Example:
        >>> block = lf.transformer_encoder_block(2, 16)
        >>> net = transformer_encoder(block, block, norm=lf.layer_norm())
        >>> x = torch.zeros(3, 5, 8), torch.ones(3, 5, dtype=torch.bool)
        >>> net.predict(net.init(lf.Key(0), x), x).shape
        torch.Size([3, 5, 8])
    """
    return _stack(transformer_encoder, blocks, norm)


def transformer_decoder(*blocks: Layer, norm: Layer | None = None) -> Layer:
    """Stack blocks as torch's `nn.TransformerDecoder` does.

    x is (target, memory) or (target, memory, target mask, memory mask), as each block takes it; y
    is a sequence as the target is.

    Example:
        >>> net = transformer_decoder(lf.transformer_decoder_block(2, 16), norm=lf.layer_norm())
        >>> x = torch.zeros(3, 5, 8), torch.zeros(3, 7, 8)
        >>> net.predict(net.init(lf.Key(0), x), x).shape
        torch.Size([3, 5, 8])
    """
    return _stack(transformer_decoder, blocks, norm)


def transformer(encoder: Layer, decoder: Layer) -> Layer:
    """Encode a source and decode a target with it, as torch's `nn.Transformer` does.

    x is (source, target) or (source, target, source mask, target mask, memory mask), each mask or
    None as `multi_head_attention` takes it; y is a sequence as the target is.

    Args:
        encoder: from the source, or (source, mask), to the memory, such as `transformer_encoder`.
        decoder: from (target, memory), or these and their masks, such as `transformer_decoder`.

    Example:
        >>> encoder = transformer_encoder(lf.transformer_encoder_block(2, 16))
        >>> net = transformer(encoder, transformer_decoder(lf.transformer_decoder_block(2, 16)))
        >>> x = torch.zeros(3, 7, 8), torch.zeros(3, 5, 8)
        >>> net.predict(net.init(lf.Key(0), x), x).shape
        torch.Size([3, 5, 8])
    """
    return wired(transformer, (encoder, decoder), _BOTH)


def part_name(layer: Layer, i: int) -> str:
    """Return what torch calls part i of a layer: "layers.0", "norm", "encoder", or its number."""
    if made_by(layer, transformer):
        return ("encoder", "decoder")[i]
    if not made_by(layer, transformer_encoder, transformer_decoder):
        return str(i)
    return "norm" if i == len(layer.parts) - 1 else f"layers.{i}"
