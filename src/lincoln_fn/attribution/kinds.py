"""The kinds of layers, by which a composite chooses rules; and which output is explained.

A kind is a set of what layers declare (`lf.declare`). Your own layer has a rule if it
declares a kind; or write a set with its constructor or its `forward` in the place of one.

A target picks one output of each example:

    int                       the class with this index, for all examples
    integer tensor            the class of each example, of y's shape without the classes' axis
    floating tensor           weights of y's shape: sum(weights * y) is explained
    None                      the class with the highest score

The classes' axis is 1, as for the losses, or 0 for a y of one axis. Networks are explained as they
are after training, `inference(net)`, and by their true gradient, without rules.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import torch
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.combine import inference
from lincoln_fn.core import Arrays, Function, Layer, declaration, format_briefly, tree, unexpected
from lincoln_fn.rules.internal import with_true_gradient

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


Target: TypeAlias = int | Tensor | None


def at_inference(function: str, net: Layer, x: Arrays) -> Layer:
    """Return the network to explain; x must be floating, for it gets the attribution."""
    core.check_argument(function, "net", Layer, net, ("net", "params", "x", "target"))
    if not any(isinstance(leaf, Tensor) and leaf.is_floating_point() for leaf in tree.leaves(x)):
        mend = "explain the part of the network behind its embedding, or use lrp"
        raise unexpected(function, "a floating x", format_briefly(x), mend)
    return with_true_gradient(inference(net))


def explained_output(function: str, y: Arrays, target: Target) -> Tensor:
    """Return g: 1 at the outputs that the target picks, or its weights."""
    if not isinstance(y, Tensor) or y.ndim == 0:
        raise unexpected(function, "a network with one output", format_briefly(y))
    if isinstance(target, Tensor) and target.is_floating_point():
        wanted = f"weights of shape {tuple(y.shape)}"
        core.require(target.shape == y.shape, function, wanted, tuple(target.shape))
        return target.to(y)
    axis = min(1, y.ndim - 1)
    index = _index(function, y, target, axis)
    return torch.zeros_like(y).scatter(axis, index.unsqueeze(axis), 1.0)


def _index(function: str, y: Tensor, target: object, axis: int) -> Tensor:
    shape = (*y.shape[:axis], *y.shape[axis + 1 :])
    if target is None:
        return y.argmax(axis)
    if isinstance(target, Tensor) and target.shape == shape:
        index = target.to(y.device).long()
    elif type(target) is int:
        index = torch.full(shape, target, device=y.device)
    else:
        wanted = f"a class, or integer classes of shape {shape}, or weights of {tuple(y.shape)}"
        raise unexpected(function, f"target to be {wanted}", format_briefly(target))
    classes = y.shape[axis]
    if index.numel() and not 0 <= int(index.min()) <= int(index.max()) < classes:
        got = f"{int(index.min())} to {int(index.max())}"
        raise unexpected(function, f"classes from 0 to {classes - 1}", got)
    return index


def product(first: Arrays, second: Arrays) -> Arrays:
    """Multiply two trees of tensors, leaf by leaf; None where one of them has None."""
    if isinstance(first, tuple) and isinstance(second, tuple):
        return tuple(product(a, b) for a, b in zip(first, second, strict=True))
    return None if first is None or second is None else first * second


def expanded(where: str, wanted: str, value: object, x: Tensor) -> Tensor:
    """Give a number or a tensor the shape, the dtype and the device of x."""
    try:
        return torch.as_tensor(value).to(x).expand(x.shape)
    except (RuntimeError, TypeError, ValueError) as error:
        raise unexpected(where, f"{wanted} {tuple(x.shape)}", format_briefly(value)) from error
