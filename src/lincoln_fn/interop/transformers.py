"""torch's stacks of transformer blocks: an encoder, a decoder, and the two together.

Derivation of a stack. With x = (h_0, c) and h_i = block_i((h_(i-1), c)), each block turns g_i into
a pair of dh_(i-1) and dc_i. The context c, masks or a memory, enters every block, so

    y = "norm"(h_n)
    g_(i-1) = dh_(i-1)
    dc = sum_i dc_i

Derivation of both. With m = encoder((s, mask_s)) and y = decoder((t, m, mask_t, mask_m)), the
decoder's backward turns g into dt, dm and the gradients of its masks, and the encoder's turns dm
into ds.

Masks in torch's call and here, where True means that attention is allowed:

    m of (length, key length), bool                  ~m[None, None]
    m of (length, key length), floating              m[None, None]
    m of (batch * heads, length, key length)         ~m.unflatten(0, (batch, heads))
    padding p of (batch, key length), bool           ~p
    both                                             ~(m | p[:, None, None])
    is_causal=True, with a mask of n times n         blocks with is_causal=True and no mask
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from lincoln_fn import core
from lincoln_fn.combine import needs_dx
from lincoln_fn.core import Arrays, Cache, Key, Layer, LayerError, Params, Spec, made_by, tree
from lincoln_fn.layers.identity import identity
from lincoln_fn.walk import VisitBack, VisitThere, check_entries, composition
from lincoln_fn.walk.internal import Record

BOTH = "transformer"


def _there(visit: VisitThere, params: Params, x: Arrays) -> tuple[Arrays, Record]:
    """Pass each block's output to the next, with the context, and the last output to the norm."""
    check_entries(visit.label, "params", params, len(visit.parts))
    h, *context = x if type(x) is tuple else (x,)
    records = []
    for i, entry in enumerate(params[:-1]):
        h, record = visit(i, entry, (h, *context) if type(x) is tuple else h)
        records.append(record)
    y, record = visit(len(records), params[-1], h)
    return y, (*records, record)


def _back(visit: VisitBack, params: Params, cache: Cache, g: Arrays) -> tuple[Arrays, Record]:
    """Pass each block's dh to the one before it, and add up their gradients of the context."""
    count = len(visit.parts)
    check_entries(visit.label, "params", params, count)
    check_entries(visit.label, "the cache", cache, count)
    records = [None] * count
    g, records[-1] = visit(count - 1, params[-1], cache[count - 1], g)
    dx, dcontext = g, ()
    for i in reversed(range(count - 1)):
        dx, records[i] = visit(i, params[i], cache[i], g)
        g, *dc = dx if type(dx) is tuple else (dx,)
        dcontext = tree.map(torch.add, tuple(dc), dcontext) if dc and dcontext else (*dc,)
    return ((g, *dcontext) if type(dx) is tuple else dx), tuple(records)


def _init(parts: tuple[Layer, ...], key: Key, x: Arrays) -> Params:
    # A block's output is shaped like the first entry of its input.
    h = x[0] if type(x) is tuple else x
    *blocks, norm = parts
    made = [block.init(key.fold_in(i), x) for i, block in enumerate(blocks)]
    return (*made, norm.init(key.fold_in(len(blocks)), h))


def _stack(of: Callable[..., Layer], blocks: tuple[Layer, ...], norm: Layer | None) -> Layer:
    if not blocks:
        raise ValueError(f"{of.__name__}: expected at least one block, got none")
    parts = (*blocks, identity() if norm is None else norm)

    return composition(
        of,
        parts,
        _there,
        _back,
        init=_init,
        needs_dx=needs_dx,
        call=partial(_call, of),
    )


def _call(of: Callable[..., Layer], parts: tuple[Layer, ...]) -> Spec:
    *blocks, norm = parts
    return core.call_of(of, *blocks, norm=None if made_by(norm, identity) else norm)


def transformer_encoder(*blocks: Layer, norm: Layer | None = None) -> Layer:
    """Stack blocks as torch's `nn.TransformerEncoder` does.

    x is a sequence or (sequence, mask), as each block takes it; y is a sequence.

    Args:
        *blocks: the blocks, first to last, such as `transformer_encoder_block` makes.
        norm: a layer for the last block's output, or None.

    Returns:
        The layer. Its params, caches and dparams are tuples with an entry for each block, and one
        for the norm.

    Raises:
        ValueError: if there is no block.

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

    Args:
        *blocks: the blocks, first to last, such as `transformer_decoder_block` makes.
        norm: a layer for the last block's output, or None.

    Returns:
        The layer. Its params, caches and dparams are tuples with an entry for each block, and one
        for the norm.

    Raises:
        ValueError: if there is no block.

    Example:
        >>> net = transformer_decoder(lf.transformer_decoder_block(2, 16), norm=lf.layer_norm())
        >>> x = torch.zeros(3, 5, 8), torch.zeros(3, 7, 8)
        >>> net.predict(net.init(lf.Key(0), x), x).shape
        torch.Size([3, 5, 8])
    """
    return _stack(transformer_decoder, blocks, norm)


def _both_there(visit: VisitThere, params: Params, x: Arrays) -> tuple[Arrays, Record]:
    """Encode the source, and decode the target with it."""
    check_entries(visit.label, "params", params, 2)
    source, target, masks = _divide(x)
    memory, encoded = visit(0, params[0], (source, masks[0]) if masks else source)
    y, decoded = visit(1, params[1], (target, memory, *masks[1:]))
    return y, (encoded, decoded)


def _both_back(visit: VisitBack, params: Params, cache: Cache, g: Arrays) -> tuple[Arrays, Record]:
    """Run the decoder's backward, and then the encoder's on the memory's gradient."""
    check_entries(visit.label, "params", params, 2)
    check_entries(visit.label, "the cache", cache, 2)
    dx, decoded = visit(1, params[1], cache[1], g)
    dtarget, dmemory, *dmasks = (None, None) if dx is None else dx
    dx, encoded = visit(0, params[0], cache[0], dmemory)
    dsource, *dmask = dx if type(dx) is tuple else (dx,)
    return (dsource, dtarget, *dmask, *dmasks), (encoded, decoded)


def _both_init(parts: tuple[Layer, ...], key: Key, x: Arrays) -> Params:
    source, target, masks = _divide(x)
    encoder = parts[0].init(key.fold_in(0), (source, masks[0]) if masks else source)
    # The memory is shaped like the source.
    return encoder, parts[1].init(key.fold_in(1), (target, source, *masks[1:]))


def _divide(x: Arrays) -> tuple[Arrays, Arrays, tuple[Arrays, ...]]:
    if type(x) is not tuple or len(x) not in (2, 5):
        expected = "(source, target) or with masks of source, target and memory behind"
        raise LayerError(BOTH, f"expected x to be {expected}, got {core.format_briefly(x)}")
    return x[0], x[1], x[2:]


def transformer(encoder: Layer, decoder: Layer) -> Layer:
    """Encode a source and decode a target with it, as torch's `nn.Transformer` does.

    x is (source, target) or (source, target, source mask, target mask, memory mask), each mask or
    None as `multi_head_attention` takes it; y is a sequence as the target is.

    Args:
        encoder: from the source, or (source, mask), to the memory, such as `transformer_encoder`.
        decoder: from (target, memory), or these and their masks, such as `transformer_decoder`.

    Returns:
        The layer. Its params, caches and dparams are those of the encoder and of the decoder.

    Example:
        >>> encoder = transformer_encoder(lf.transformer_encoder_block(2, 16))
        >>> net = transformer(encoder, transformer_decoder(lf.transformer_decoder_block(2, 16)))
        >>> x = torch.zeros(3, 7, 8), torch.zeros(3, 5, 8)
        >>> net.predict(net.init(lf.Key(0), x), x).shape
        torch.Size([3, 5, 8])
    """
    parts = (encoder, decoder)
    return composition(
        transformer,
        parts,
        _both_there,
        _both_back,
        init=_both_init,
        needs_dx=needs_dx,
    )


def part_name(layer: Layer | None, i: int) -> str:
    """Return what torch calls part i of a layer: "layers.0", "norm", "encoder", or its number."""
    if layer is not None and made_by(layer, transformer):
        return ("encoder", "decoder")[i]
    if layer is None or not made_by(layer, transformer_encoder, transformer_decoder):
        return str(i)
    return "norm" if i == len(layer.parts) - 1 else f"layers.{i}"
