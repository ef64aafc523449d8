"""The network of fast functions, as far as torch's transforms go through them.

Curvature is that of the network's function. So rules are taken out, which change its backward.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from lincoln_fn.core import Layer, made_by, map_layers
from lincoln_fn.fastpath import fast, rearrange
from lincoln_fn.layers import dense, group_norm, lstm, silu
from lincoln_fn.rules.internal import with_true_gradient

# Their fast functions are kernels that torch has no forward mode for.
_FORMULAS: Final = (group_norm.group_norm, lstm.lstm, silu.silu)


# A power iteration, say, has the same network again and again. A layer is its own key.
@lru_cache(maxsize=1)
def fast_for_forward_mode(net: Layer) -> Layer:
    """Return `lf.fast(net)`, with the formulas of layers whose kernels have no forward mode."""

    def faster(layer: Layer) -> Layer:
        return layer if made_by(layer, *_FORMULAS) else fast(layer)

    return map_layers(faster, rearrange(with_true_gradient(net)))


def fast_for_columns(net: Layer) -> Layer:
    """Return a network of fast dense layers, and of formulas otherwise."""

    # vmap puts the columns into the batch, and ATen's kernels for images then copy it to another
    # memory layout. The formulas take less time.
    def faster(layer: Layer) -> Layer:
        return fast(layer) if made_by(layer, dense.dense) else layer

    return map_layers(faster, rearrange(with_true_gradient(net)))
