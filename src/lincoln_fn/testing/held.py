"""A layer whose gradients are held against a reference, since autograd does not follow forward."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TypeAlias

import attrs
from torch import Tensor

from lincoln_fn.core import Arrays, Cache, Layer, LayerError, Params, tree
from lincoln_fn.testing.diagnosis import GradientError
from lincoln_fn.testing.oracles import by_autograd
from lincoln_fn.testing.sample import Sample, floating, floating_leaves

# From the floating arrays, an output of the structure of y.
Reference: TypeAlias = Callable[[Sequence[Tensor]], Arrays]
# How well a reference agrees with forward, in parts of the largest number.
AGREEMENT = 1e-9


@attrs.frozen(eq=False, slots=False)
class _Deferred:
    """The cache of a forward that runs when backward needs it."""

    layer: Layer
    params: Params
    x: Arrays

    @cached_property
    def cache(self) -> Cache:
        """Run forward."""
        return self.layer.forward(self.params, self.x)[1]


def held_to(layer: Layer, reference: Reference) -> Layer:
    """Make the layer that has a reference's output, and its own backward pass."""

    def forward(params: Params, x: Arrays) -> tuple[Arrays, Cache]:
        return reference(floating(params, x)[1]), _Deferred(layer, params, x)

    def backward(params: Params, cache: _Deferred, g: Arrays) -> tuple[Arrays, Params]:
        return layer.backward(params, cache.cache, g)

    return layer.replace(forward=forward, backward=backward)


def is_held(at: Sample) -> bool:
    """Return whether a sample's forward is a reference."""
    return isinstance(at.cache, _Deferred)


def sample_held(at: Sample, reference: Reference) -> Sample:
    """Make the sample of a held layer, of what its layer has computed already."""
    held = held_to(at.layer, reference)
    y, deferred = held.forward(at.params, at.x)
    deferred.__dict__["cache"] = at.cache
    return attrs.evolve(at, layer=held, y=y, cache=deferred)


def as_reference(layer: Layer, like: tuple[Params, Arrays]) -> Reference:
    """Make a reference of a layer, which takes the same tensors in records of its own."""
    rebuild = floating(*like)[2]

    def reference(arrays: Sequence[Tensor]) -> Arrays:
        y: Arrays = layer.forward(*rebuild(arrays))[0]
        return y

    return reference


def agrees_with(reference: Reference, at: Sample) -> bool:
    """Return whether a reference has the output of a layer."""
    pairs = zip(floating_leaves(reference(at.arrays)), floating_leaves(at.y), strict=False)
    return all(
        made.shape == y.shape
        and made.dtype == y.dtype
        and bool(((made - y).abs() <= AGREEMENT * y.abs().max() + 1e-300).all())
        for made, y in pairs
    )


def is_followed(at: Sample) -> bool:
    """Return whether autograd follows forward, in torch or in numpy."""
    try:
        return by_autograd(at.forward, at.arrays, at.g) is not None
    except (LayerError, GradientError):
        return False


def on_copies(layer: Layer) -> Layer:
    """Make the layer whose functions are given copies, so that changes in place do no harm."""

    def forward(params: Params, x: Arrays) -> tuple[Arrays, Cache]:
        y, cache = layer.forward(*tree.map(copied, (params, x), states=True))
        # A cache that y is part of may change later.
        return tree.map(copied, y), cache

    def backward(params: Params, cache: Cache, g: Arrays) -> tuple[Arrays, Params]:
        return layer.backward(*copies(params, cache, g))

    return layer.replace(forward=forward, backward=backward)


def copies(params: Params, cache: Cache, g: Arrays) -> tuple[Params, Cache, Arrays]:
    """Copy what backward is given."""
    params, g = tree.map(copied, (params, g), states=True)
    return params, _deep(cache), g


def copied(leaf: object) -> object:
    """Copy a tensor."""
    return leaf.clone() if isinstance(leaf, Tensor) else leaf


def _deep(cache: Cache) -> Cache:
    try:
        return copy.deepcopy(cache)
    except Exception:  # a cache may hold anything
        return cache
