"""Dual tensors: a value and its tangent, the derivative along one direction.

torch's forward mode computes both through any layer's formulas. A layer that is linear in each of
its factors, dense or convolution, needs no formula for the way back. By the product rule its own
functions give the tangents, which are written with a prime, in less time:

    dx = input_grad(params, g)     dx' = input_grad(params', g) + input_grad(params, g')
    dW = grads(x, g)               dW' = grads(x', g) + grads(x, g')

So two calls of its backward give both tangents: that of (params, x, g'), and that of
(params', x', g). A factor without a tangent saves its term. The value of dW itself is not computed.
The bias is in the first call alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache, partial, reduce
from typing import Any, Final, TypeVar

import torch
from torch import Tensor
from torch.autograd import forward_ad

from lincoln_fn import core
from lincoln_fn.core import Arrays, Cache, Layer, Params, evolve, file_of, made_by, tree
from lincoln_fn.fastpath import fast, rearrange
from lincoln_fn.layers import conv, conv_transpose, dense, group_norm, lstm, silu
from lincoln_fn.losses.internal import Loss, check_one_number, unchecked
from lincoln_fn.rules.internal import with_true_gradient
from lincoln_fn.runtime import load_forward_mode
from lincoln_fn.walk import Composition
from lincoln_fn.walk.internal import BACKWARD, Record, Wants, sum_uses, untrained, walk_back

T = TypeVar("T")

# Any: torch writes no types for it.
_FORWARD_MODE: Final[Any] = forward_ad
_LINEAR: Final = (conv, conv_transpose, dense)
# Their fast functions are kernels that torch has no forward mode for.
_FORMULAS: Final = (group_norm.group_norm, lstm.lstm, silu.silu)


# A power iteration, say, has the same network again and again. A layer is its own key.
@lru_cache(maxsize=1)
def fast_for_forward_mode(net: Layer) -> Layer:
    """Return `lf.fast(net)`, with the formulas of layers whose kernels have no forward mode."""
    return _faster(net, lambda layer: not made_by(layer, *_FORMULAS))


def fast_for_columns(net: Layer) -> Layer:
    """Return a network of fast dense layers, and of formulas otherwise."""
    # vmap puts the columns into the batch, and ATen's kernels for images then copy it to another
    # memory layout. The formulas take less time.
    return _faster(net, lambda layer: made_by(layer, dense.dense))


def _faster(net: Layer, is_fast: Callable[[Layer], bool]) -> Layer:
    """Take fast functions for some layers, and out what changes the backward: rules."""
    whole = rearrange(with_true_gradient(net))
    return core.map_layers(lambda layer: fast(layer) if is_fast(layer) else layer, whole)


def check_not_nested(name: str, *given: Arrays) -> None:
    """Refuse what autograd or torch.func sees: torch nests no forward mode in another one."""
    mend = "use torch.func.jvp through net.backward"
    core.check_not_transformed(name, "it uses torch's forward mode itself", mend, given)


@contextmanager
def forward_mode() -> Iterator[None]:
    """Compute with dual tensors, and record nothing for autograd."""
    load_forward_mode()
    with torch.no_grad(), forward_ad.dual_level():
        yield


def with_tangents(values: T, tangents: T) -> T:
    """Make dual tensors of the leaves of two trees."""
    return tree.map(_FORWARD_MODE.make_dual, values, tangents)


def values_of(duals: T) -> T:
    """Return the values of a tree's leaves, those inside a state too."""
    # A cache may have leaves that are not tensors.
    return tree.map(
        lambda leaf: _unpacked(leaf)[0] if isinstance(leaf, Tensor) else leaf, duals, states=True
    )


def tangents_of(duals: T) -> T:
    """Return the tangents of a tree's leaves: zeros for a leaf without one."""

    def tangent(dual: Tensor) -> Tensor:
        value, its = _unpacked(dual)
        return torch.zeros_like(value) if its is None else its

    return tree.map(tangent, duals)


def _split(duals: Arrays) -> tuple[Arrays, Arrays]:
    """Return the values of a tree's leaves, and their tangents; None if no leaf has one."""
    if isinstance(duals, Tensor):
        return _unpacked(duals)
    has_tangent = any(_unpacked(leaf)[1] is not None for leaf in tree.leaves(duals))
    return values_of(duals), tangents_of(duals) if has_tangent else None


def _unpacked(dual: Tensor) -> tuple[Tensor, Tensor | None]:
    value, tangent = _FORWARD_MODE.unpack_dual(dual)
    return value, tangent


def loss_gradient(loss: Loss, prediction: Arrays, target: Arrays) -> Arrays:
    """Compute g, the gradient of a loss, which has to be one number."""
    loss = unchecked(loss)
    value, cache = loss.forward(prediction, target)
    check_one_number(loss.name, value)
    return loss.backward(cache)


def tangents_leaf(
    layer: Layer, path: str, params: Params, cache: Cache, g: Arrays, wants: Wants
) -> tuple[Arrays, Params]:
    """Compute dx, dual, and the tangents of a single layer's dparams."""
    if file_of(layer) in _LINEAR:
        return _product_leaf(layer, path, params, cache, g, wants)
    dx, dparams = BACKWARD.visit(layer, path, params, cache, g, wants)
    return dx, tangents_of(dparams) if wants.dparams else None


def _product_leaf(
    layer: Layer, path: str, params: Params, cache: Cache, g: Tensor, wants: Wants
) -> tuple[Arrays, Params]:
    """Compute (dx', dparams') = backward(params, x, g') + backward(params', x', g), and dx."""
    (at, at_tangent), (x, x_tangent), (g, g_tangent) = _split(params), _split(cache), _split(g)
    along_g = torch.zeros_like(g) if g_tangent is None else g_tangent
    of_x, dparams = BACKWARD.visit(layer, path, at, x, along_g, wants)
    tangents = [of_x] if g_tangent is not None else []
    # Without a tangent, nothing that depends on it is asked for, so any value takes its place.
    others = Wants(wants.dx and at_tangent is not None, wants.dparams and x_tangent is not None)
    if others.dx or others.dparams:
        other = evolve(at if at_tangent is None else at_tangent, bias=None)
        x_prime = x if x_tangent is None else x_tangent
        of_x, more = BACKWARD.visit(layer, path, other, x_prime, g, others)
        tangents += [of_x] if others.dx else []
        if others.dparams:
            dparams = evolve(dparams, weight=dparams.weight + more.weight)
    dx = layer.input_grad(at, x, g) if wants.dx else None
    return with_tangents(dx, reduce(torch.add, tangents)) if wants.dx and tangents else dx, dparams


def walk_of(leaf: Callable[..., Arrays]) -> Callable[..., tuple[Arrays, Record]]:
    """Make a walk back that adds up what mirrors params."""
    return partial(walk_back, leaf, skip=untrained, gather=Composition.gathered, add=sum_uses)
