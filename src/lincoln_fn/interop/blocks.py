"""Transformer blocks, which are one module in torch: where its names belong in our nested params.

A block's params are (nothing, self-attention, [attention to a memory,] dense layers); how each of
these sublayers nests is what combine/transformer.py composes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, TypeAlias

from lincoln_fn.combine import transformer_decoder_block, transformer_encoder_block
from lincoln_fn.core import Arrays, Layer, Params
from lincoln_fn.interop.names import KINDS, NamedTensors, Slot, like, size

# A path into params, and torch's name for it.
BlockPaths: TypeAlias = list[tuple[str, tuple[int, ...]]]


def is_block(layer: Layer) -> bool:
    """Return whether a layer is a transformer block."""
    return layer.spec is not None and layer.spec.of in PLACES


def block_slots(layer: Layer, params: Params) -> Iterator[Slot]:
    """List the slots of a block."""
    assert layer.spec is not None, "a block's constructor is known"
    for name, path in PLACES[layer.spec.of](params):
        part = params
        for i in path:
            part = part[i]
        for slot in KINDS[type(part)].slots(part):
            yield slot.below(f"{name}.", "".join(f"{i}." for i in path))


def block_example(layer: Layer, names: NamedTensors) -> Arrays:
    """Make an example input for a block."""
    x = like(1, 1, size(names, "linear1.weight", 1))
    assert layer.spec is not None, "a block's constructor is known"
    if PLACES[layer.spec.of] is _encoder:
        return x
    return x, like(1, 1, size(names, "multihead_attn.in_proj_weight", 1, x.shape[-1]))


def _attention(params: Any, path: tuple[int, ...], name: str, norm: str) -> BlockPaths:
    """Find the attention and the norm of a sublayer."""
    # Its layers: serial(residual(way, x_0), norm) or, with norm_first, residual(serial(select,
    # parallel(norm, ...), attention, dropout), x_0).
    if _norm_first(params):
        return [(name, (*path, 0, 2)), (norm, (*path, 0, 1, 0))]
    return [(name, (*path, 0, 0, 1)), (norm, (*path, 1))]


def _feed_forward(params: Any, path: tuple[int, ...], norm: str) -> BlockPaths:
    """Find the dense layers and the norm of a sublayer."""
    # Its layers: serial(residual(serial(layers)), norm) or, with norm_first, residual(serial(norm,
    # layers)).
    if _norm_first(params):
        way, first = (*path, 0, 1), (*path, 0, 0)
    else:
        way, first = (*path, 0, 0, 0), (*path, 1)
    return [("linear1", (*way, 0)), ("linear2", (*way, 3)), (norm, first)]


def _norm_first(params: Any) -> bool:
    # The second entry is the norm's parameters, or the () of the way around.
    return type(params[1]) is tuple


def _encoder(params: Any) -> BlockPaths:
    attention, norm1 = _attention(params[1], (1,), "self_attn", "norm1")
    *linear, norm2 = _feed_forward(params[2], (2,), "norm2")
    return [attention, *linear, norm1, norm2]


def _decoder(params: Any) -> BlockPaths:
    own, norm1 = _attention(params[1][0], (1, 0), "self_attn", "norm1")
    other, norm2 = _attention(params[1][1], (1, 1), "multihead_attn", "norm2")
    *linear, norm3 = _feed_forward(params[1][2][1], (1, 2, 1), "norm3")
    return [own, other, *linear, norm1, norm2, norm3]


# By constructor; a room above adds those of its own blocks.
PLACES: Final[dict[Callable[..., Any], Callable[[Any], BlockPaths]]] = {
    transformer_encoder_block: _encoder,
    transformer_decoder_block: _decoder,
}
