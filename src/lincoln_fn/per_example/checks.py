"""Which layers have gradients for single examples, and where the examples are."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from torch import Tensor

from lincoln_fn import tree
from lincoln_fn.fastpath import attention as fast_attention
from lincoln_fn.fastpath import batch_norm as fast_batch_norm
from lincoln_fn.layer import Arrays, Layer, unbound
from lincoln_fn.layers import (
    _by_running,
    _heads,
    batch_norm,
    log_softmax,
    permute,
    scaled_dot_product_attention,
    softmax,
    softmin,
)
from lincoln_fn.record import brief
from lincoln_fn.shapes import LayerError

# Layers whose output for one example depends on the others.
_MIXING: Final = (batch_norm.backward, fast_batch_norm.backward)
# Layers in which the positions of a sequence depend on each other.
_ATTENTION: Final = (
    _heads.backward,
    fast_attention.backward,
    scaled_dot_product_attention.backward,
)
_ALONG_AN_AXIS: Final = (log_softmax.forward, softmax.forward, softmin.forward)


def check_independent(net: Layer, position: str = "") -> None:
    """Check that no layer of a network mixes the examples of a batch.

    Args:
        net: the network.
        position: of the network in one around it.

    Raises:
        LayerError: if one does, with its position.

    Example:
        >>> check_independent(lf.serial(lf.dense(2), lf.batch_norm()))
        Traceback (most recent call last):
        lincoln_fn.shapes.LayerError: serial[1] batch_norm(): expected a layer that computes each \
example alone, got one that normalises over the batch; use group_norm, layer_norm or \
inference(batch_norm())
    """
    made = net.composition
    if made is not None:
        options = getattr(made.there, "keywords", {})
        if options.get("batch_first") is False:
            raise _length_first(f"{position}{net.name}", "batch_first=True")
        if made.label == "scan" and options.get("dim") == 0:
            raise _length_first(f"{position}{net.name}", "dim=1")
        for i, part in enumerate(made.parts):
            check_independent(part, f"{position}{made.label}[{i}] ")
        return
    if _mixes(net):
        problem = "expected a layer that computes each example alone, got one that normalises over"
        mend = "use group_norm, layer_norm or inference(batch_norm())"
        raise LayerError(f"{position}{net.name}", f"{problem} the batch; {mend}")
    if _moves(net):
        problem = "expected the examples on axis 0 of every layer's output, got a layer that moves"
        raise LayerError(f"{position}{net.name}", f"{problem} them; leave axis 0 where it is")


def _moves(layer: Layer) -> bool:
    if unbound(layer.forward) is not permute.forward:
        return False
    dims = _option(layer, "dims")
    return bool(dims[0] % len(dims))


# Any: a hyperparameter.
def _option(layer: Layer, name: str) -> Any:
    return layer.forward.keywords[name] if isinstance(layer.forward, partial) else None


def _mixes(layer: Layer) -> bool:
    backward = unbound(layer.backward)
    if backward is _by_running.backward:
        is_batch_norm = getattr(layer.backward, "keywords", {})["norm"] is _by_running.BATCH
        options = getattr(layer.init, "keywords", {})
        return is_batch_norm and not options.get("track_running_stats", True)
    return backward in _MIXING


def _length_first(where: str, mend: str) -> LayerError:
    problem = "expected the examples on axis 0 of every layer's output, got sequences of"
    return LayerError(where, f"{problem} (length, batch, ...); use {mend}")


def check_axes(layer: Layer, g: Arrays) -> None:
    """Check that attention and softmax do not run along axis 0, which is that of the examples."""
    is_along = unbound(layer.forward) in _ALONG_AN_AXIS
    if (unbound(layer.backward) in _ATTENTION and g.ndim < 3) or (is_along and g.ndim < 2):
        raise no_batch(layer.name, g)
    if is_along and _option(layer, "dim") % g.ndim == 0:
        problem = "expected a layer that computes each example alone, got one along their axis"
        raise LayerError(layer.name, f"{problem}; use another dim")


def check_rows(layer: str, g: Tensor) -> None:
    """Check that g has an axis of examples before the features."""
    if g.ndim < 2:
        raise no_batch(layer, g)


def check_batch_axis(layer: str, axis: int | None, g: Tensor) -> None:
    """Check that the batch of a recurrent layer is on axis 0."""
    if axis is None:
        raise no_batch(layer, g)
    if axis:
        raise _length_first(layer, "batch_first=True")


def no_batch(layer: str, g: Tensor) -> LayerError:
    """Make the error for an input without an axis of examples."""
    return LayerError(
        layer, f"expected a batch, with the examples on axis 0, got g of shape {tuple(g.shape)}"
    )


def examples_in(g: Arrays) -> int:
    """Count the examples: axis 0 of g.

    Args:
        g: dL/dy of the network.

    Returns:
        The number of examples.

    Raises:
        LayerError: if g has no axis 0.

    Example:
        >>> examples_in((torch.zeros(5, 2), None))
        5
    """
    for leaf in tree.leaves(g):
        if isinstance(leaf, Tensor) and leaf.ndim:
            return len(leaf)
    raise LayerError("per_example", f"expected g with the examples on axis 0, got {brief(g)}")


def check_any(name: str, count: int) -> None:
    """Check that there is an example to take a mean over.

    Example:
        >>> check_any("variance", 0)
        Traceback (most recent call last):
        lincoln_fn.shapes.LayerError: variance: expected at least one example, got none
    """
    if not count:
        raise LayerError(name, "expected at least one example, got none")
