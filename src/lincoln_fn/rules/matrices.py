"""The layers that have matrices, which a rule may replace, and the blocks that begin with them.

A matrix is a trained tensor with two axes or more in a layer that multiplies by it: dense,
convolution, bilinear and recurrent layers, and attention. Biases have one axis. The parameters of a
norm do not mix the features of x, and an embedding passes nothing back, so these have no matrices
here. Attention is a composition, but counts as one layer, with the matrices of its projections.

Rules that send no gradient from one block to the one before it treat a serial network as blocks:
activations, norms and pooling belong to the layer before them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Final, TypeAlias

from torch import Tensor

from lincoln_fn import combine, core
from lincoln_fn.core import Arrays, Key, Layer, LayerError, Params, Spec, tree, unexpected
from lincoln_fn.initializers import Fans, Initializer
from lincoln_fn.layers import multi_head_attention
from lincoln_fn.walk import VisitThere, composition, is_trained
from lincoln_fn.walk.internal import Back, There, composition_of

Selector: TypeAlias = Callable[[Layer], bool]

# Kinds of layers that multiply by matrices of their own.
_KINDS: Final = ("dense", "convolution", "bilinear", "recurrent")


def has_matrices(layer: Layer) -> bool:
    """Return whether a layer, or a part, is dense, convolutional, bilinear, recurrent or attention.

    A layer of your own is, if it declares such a kind.

    Example:
        >>> [has_matrices(layer) for layer in (lf.gru(3), lf.batch_norm(), lf.serial(lf.dense(2)))]
        [True, False, True]
    """
    if is_one_layer(layer):
        return layer.composition is not None or core.kind_of(layer) in _KINDS
    return any(map(has_matrices, layer.parts))


def is_one_layer(layer: Layer) -> bool:
    """Return whether rules treat a layer as one: a single layer, or attention."""
    composed = composition_of(layer)
    return composed is None or composed.gather is multi_head_attention.gather


def map_chosen(rule: str, f: Callable[[Layer], Layer], net: Layer, layers: Selector) -> Layer:
    """Replace every layer that a selector takes, of those that rules treat as one."""
    chosen: list[Layer] = []

    def visit(layer: Layer) -> Layer:
        if not is_one_layer(layer):
            return layer.rebuild(tuple(map(visit, layer.parts)))
        if not layers(layer):
            return layer
        chosen.append(layer)
        return f(layer)

    network = visit(net)
    if not chosen:
        raise no_matrices(rule, net)
    return network


def no_matrices(rule: str, net: Layer) -> LayerError:
    """Make the error about a network in which a rule has nothing to replace."""
    return unexpected(rule, "a layer with matrices", net, "name your own layers by `layers=`")


def matrices(params: Params) -> tuple[Tensor, ...]:
    """List the matrices of one layer."""
    return tuple(leaf for leaf in tree.leaves(params) if leaf.ndim > 1)


def with_matrices(params: Params, others: tuple[Tensor, ...]) -> Params:
    """Return one layer's params with other matrices in the places of its own."""
    remaining = iter(others)
    return tree.map(lambda leaf: next(remaining) if leaf.ndim > 1 else leaf, params)


def fans_of(matrix: Tensor) -> Fans:
    """Return the fans of a matrix (n_in, n_out), or of kernels (n_out, n_in, *kernel)."""
    if matrix.ndim == 2:
        return Fans(*matrix.shape)
    n_out, n_in, *kernel = matrix.shape
    size = math.prod(kernel)
    return Fans(n_in * size, n_out * size)


@core.record
class Projections(core.State):
    """Fixed random matrices: each maps an error to the shape of one position's activation."""

    matrices: tuple[Tensor, ...]


def blocks_of(rule: str, net: Layer, layers: Selector) -> tuple[int, ...]:
    """Return the positions of the parts of a serial network that begin a block."""
    if not combine.is_serial(net):
        raise unexpected(rule, "net to be made by serial", net)
    starts = tuple(i for i, part in enumerate(net.parts) if layers(part))
    if not starts:
        raise no_matrices(rule, net)
    return starts


def advance_parts(visit: VisitThere, params: Params, cache: core.Cache) -> Params:
    """Advance each part, by the `caches` in the cache of a rule."""
    pairs = enumerate(zip(params, cache.caches, strict=True))
    return tuple(visit.advance(i, entry, record) for i, (entry, record) in pairs)


def needs_dx_in_block(i: int, params: Params, *, starts: tuple[int, ...]) -> bool:
    """Return whether a trained part in the same block is before part i."""
    start = max((start for start in starts[1:] if start <= i), default=0)
    return any(map(is_trained, params[start:i]))


def draw_projection(
    rule: str, key: Key, error: Arrays, target: Arrays, initializer: Initializer
) -> Tensor:
    """Draw the matrix from the last axis of an error to the axes of an array that it lacks."""
    k = error.ndim - 1 if isinstance(error, Tensor) else 0
    fits = k > 0 and isinstance(target, Tensor) and target.shape[:k] == error.shape[:k]
    if not fits or not target.is_floating_point():
        expected = "an error of shape (batch, n), or one for each entry of a sequence"
        given, sent_to = core.format_briefly(error), core.format_briefly(target)
        raise unexpected(rule, expected, f"{given} to be sent to {sent_to}")
    shape = tuple(target.shape[k:])
    n_in, n_out = error.shape[-1], math.prod(shape)
    return initializer.draw(key, (n_in, *shape), Fans(n_in, n_out), target.dtype)


def projected(error: Tensor, matrix: Tensor) -> Tensor:
    """Compute e B, with all axes of B after its first in place of the last axis of e."""
    return (error @ matrix.flatten(1)).reshape(*error.shape[:-1], *matrix.shape[1:])


# A function of a composition, which may take `starts`. Any: what it returns.
Loop: TypeAlias = Callable[..., Any]


def of_blocks(
    net: Layer, starts: tuple[int, ...], added: tuple[Layer, ...], there: Loop, back: Loop,
    **loops: Loop,
) -> Layer:  # fmt: skip
    """Make the network of a rule, from within its constructor, and give `starts` to its loops."""
    parts, count = (*net.parts, *added), len(net.parts)

    def begun(loop: Loop) -> Loop:
        asked = core.asked_of(loop, {"starts": starts})
        return partial(loop, **asked) if asked else loop

    def make(call: Spec, there: There, back: Back, **loops: Any) -> Layer:
        loops["call"] = partial(_call, call=call, count=count)
        return composition(call.of.__name__, parts, there, back, **loops)

    own: dict[str, Any] = {name: begun(loop) for name, loop in loops.items()}
    return core.bare(make, begun(there), begun(back), **own)


def _call(parts: tuple[Layer, ...], *, call: Spec, count: int) -> Spec:
    """Write the call of a rule for the parts of its network, behind which are those it added."""
    return Spec(call.of, {**call.arguments, "net": combine.serial(*parts[:count])})


def _stays(params: Projections, x: Arrays) -> tuple[Arrays, None]:
    core.check_params("projections", params, Projections)
    return x, None


core.declare(_stays, kind="moving")


def _stays_backward(params: Projections, cache: None, g: Arrays) -> tuple[Arrays, Projections]:
    return g, params


# The last part of a rule's network: y = x, and its params are the matrices.
PROJECTIONS: Final = Layer("projections()", _stays, _stays_backward)
