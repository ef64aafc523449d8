"""The kinds of layers, by which a composite chooses rules.

A kind is a set of what layers declare (`lf.declare`). Your own layer has a rule if it declares a
kind; or write a set with its constructor or its `forward` in the place of one.
"""

from __future__ import annotations

from typing import Final, TypeAlias

from lincoln_fn import core
from lincoln_fn.core import Function, Layer, declaration

Kind: TypeAlias = frozenset[declaration.Kind | Function]


def kind_of(layer: Layer) -> declaration.Kind | Function:
    """Return a layer's kind; if it declares none, its constructor, or `forward` if it has none.

    Example:
        >>> kind_of(lf.dense(3)) in DENSE, kind_of(lf.inference(lf.dropout())) in DROPOUT
        (True, True)
    """
    return declaration.kind_of(layer) or core.constructor_of(layer) or layer.forward


def belongs(layer: Layer, kind: Kind) -> bool:
    """Return whether a kind has what a layer declares, its constructor or its `forward`."""
    return declaration.is_named_by(layer, kind)


DENSE: Final[Kind] = frozenset({"dense", "scores"})
CONVOLUTION: Final[Kind] = frozenset({"convolution"})
LINEAR: Final[Kind] = DENSE | CONVOLUTION
GATED: Final[Kind] = frozenset({"gated"})
SOFTMAX: Final[Kind] = frozenset({"softmax"})
NORM: Final[Kind] = frozenset({"norm", "batch_norm"})
DROPOUT: Final[Kind] = frozenset({"dropout"})
AVG_POOL: Final[Kind] = frozenset({"average"})
MAX_POOL: Final[Kind] = frozenset({"max_pool"})
ADDITION: Final[Kind] = frozenset({"addition"})
PRODUCT: Final[Kind] = frozenset({"product"})
ATTENTION: Final[Kind] = frozenset({"attention"})
RECURRENT: Final[Kind] = frozenset({"recurrent"})
EMBEDDING: Final[Kind] = frozenset({"embedding"})
MOVING: Final[Kind] = frozenset({"moving"})
ACTIVATION: Final[Kind] = frozenset({"activation"})
