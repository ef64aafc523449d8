"""Which layers have gradients for single examples, and where the examples are."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from torch import Tensor

from lincoln_fn.combine.outputs import own_loop
from lincoln_fn.core import tree
from lincoln_fn.core.declaration import kind_of
from lincoln_fn.core.layer import Arrays, Cache, Layer, Params, unbound
from lincoln_fn.core.terms import length_first, no_batch
from lincoln_fn.errors.descriptions import format_briefly
from lincoln_fn.errors.errors import LayerError
from lincoln_fn.fastpath.experts import back as experts_back
from lincoln_fn.layers import (
    dilate,
    flip,
    gated_linear_recurrence,
    gather,
    graph_attention,
    graph_conv,
    linear_attention,
    linear_head,
    logsumexp,
    matmul,
    normalize,
    permute,
    reductions,
    scatter,
    selective_scan,
    split,
    stack,
    variance,
)
from lincoln_fn.layers.common import running_statistics
from lincoln_fn.walk.composition import composition_of

# Kinds of layers that run along one axis, their hyperparameter `dim`.
_ALONG_AN_AXIS: Final = ("softmax", "log_softmax")
# Layers whose cache has the axes, or the axis, that they add up, mix or move elements along.
_OF_AXES: Final = (
    reductions.forward, logsumexp.forward, variance.forward, flip.forward, dilate.forward,
)  # fmt: skip
_OF_AXIS: Final = (
    gather.forward, gather.forward_slices, normalize.forward, scatter.forward, split.forward,
    stack.forward,
)  # fmt: skip
# Layers that mix the rows of a matrix, axis 0 without a batch: nodes of a graph, or steps.
_OF_ROWS: Final = (
    gated_linear_recurrence.forward, graph_attention.forward, graph_conv.forward,
    linear_attention.forward, matmul.forward, selective_scan.forward,
)  # fmt: skip


def check_independent(net: Layer, position: str = "") -> None:
    """Check that no layer of a network, at a position in one around it, mixes the examples."""
    made = composition_of(net)
    if made is not None:
        options = getattr(made.there, "keywords", {})
        if options.get("batch_first") is False:
            raise length_first(f"{position}{net.name}", "batch_first=True")
        if made.label == "scan" and options.get("dim") == 0:
            raise length_first(f"{position}{net.name}", "dim=1")
        if made.label == "graph":
            problem = "expected layers that compute each example alone, got an expression, which"
            mend = "compose the layers by serial and branch"
            raise LayerError(f"{position}{net.name}", f"{problem} may work over the batch; {mend}")
        if own_loop(made.back) is experts_back:
            problem = "expected parts that get all examples, got experts that get their own tokens"
            raise LayerError(f"{position}{net.name}", f"{problem}; leave out lf.fast")
        for i, part in enumerate(made.parts):
            check_independent(part, f"{position}{made.label}[{i}] ")
        return
    if _mixes(net):
        problem = "expected a layer that computes each example alone, got one that normalises over"
        mend = "use group_norm, layer_norm or inference(batch_norm())"
        raise LayerError(f"{position}{net.name}", f"{problem} the batch; {mend}")
    if unbound(net.forward) is linear_head.forward:
        problem = "expected a layer that computes each example alone, got one whose loss has added"
        mend = "write dense and softmax_cross_entropy"
        raise LayerError(f"{position}{net.name}", f"{problem} up the examples; {mend}")
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
    if unbound(layer.backward) is running_statistics.backward:
        is_batch_norm = getattr(layer.backward, "keywords", {})["norm"].name == "batch_norm"
        options = getattr(layer.init, "keywords", {})
        return is_batch_norm and not options.get("track_running_stats", True)
    return kind_of(layer) == "batch_norm"


def check_axes(layer: Layer, params: Params, cache: Cache, g: Arrays) -> None:
    """Check that no layer works along axis 0, which is that of the examples."""
    for leaf in tree.leaves(g)[:1]:
        if leaf.ndim < _least_axes(layer, params, cache):
            raise no_batch(layer.name, leaf)
        if 0 in _axes_of(layer, cache, leaf):
            problem = "expected a layer that computes each example alone, got one along their axis"
            raise LayerError(layer.name, f"{problem}; use another dim")
    if getattr(cache, "batch_axis", 0) == 1:
        raise length_first(layer.name, "batch_first=True")


def _least_axes(layer: Layer, params: Params, cache: Cache) -> int:
    """Count the axes that y has at least, if axis 0 is that of the examples."""
    kind = kind_of(layer)
    if kind == "attention" or unbound(layer.forward) in _OF_ROWS:
        return 3
    if kind == "convolution":
        return int(params.weight.ndim)
    if kind == "recurrent":
        return 3 if getattr(cache, "batch_axis", 0) is None else 2
    if kind == "norm" and isinstance(axes := getattr(cache, "axes", None), int):
        return axes + 1
    return 2 if kind == "dense" else 1


def _axes_of(layer: Layer, cache: Cache, g: Tensor) -> tuple[int, ...]:
    """List the axes of y that a layer adds up, mixes or moves elements along."""
    function = unbound(layer.forward)
    if function in _OF_AXES:
        return tuple(cache.axes)
    if function in _OF_AXIS:
        return (cache.dim % g.ndim,)
    dim = _option(layer, "dim") if kind_of(layer) in _ALONG_AN_AXIS else None
    return () if dim is None else (dim % g.ndim,)


def examples_in(g: Arrays) -> int:
    """Count the examples: axis 0 of g."""
    for leaf in tree.leaves(g):
        if isinstance(leaf, Tensor) and leaf.ndim:
            return len(leaf)
    raise LayerError(
        "per_example", f"expected g with the examples on axis 0, got {format_briefly(g)}"
    )


def check_any(name: str, count: int) -> None:
    """Check that there is an example to take a mean over."""
    if not count:
        raise LayerError(name, "expected at least one example, got none")
