"""The search for the function that a forward pass computes."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import partial

import torch
from torch import Tensor

from lincoln_fn.core import Arrays, Key, tree
from lincoln_fn.testing.oracles import full_gradient
from lincoln_fn.testing.perturbed import perturbed
from lincoln_fn.testing.references import convolutions, dense, norms, recurrent
from lincoln_fn.testing.references.known import (
    Candidates,
    Function,
    Known,
    Reference,
    agree,
    constants_of,
)
from lincoln_fn.testing.sample import Sample, floating_leaves

# Of more numbers than these, differences take long.
MOST_DIFFERENCES = 120
# What functions raise for arrays that they are not made for.
_DOES_NOT_FIT = (ArithmeticError, IndexError, RuntimeError, ValueError)
_FAMILIES = (
    dense.find_activation,
    norms.find_softmax,
    norms.find_mask,
    dense.find_affine,
    dense.find_embedding,
    convolutions.find_convolution,
    convolutions.find_pooling,
    norms.find_norm,
    recurrent.find_loss,
)


def find_reference(at: Sample) -> Reference | None:
    """Find a function of torch that computes what forward does, here and elsewhere."""

    def gradients() -> list[Tensor]:
        if sum(array.numel() for array in at.arrays) > MOST_DIFFERENCES:
            return []
        ones = tree.map(torch.ones_like, at.g)
        return [full_gradient(at.forward, at.arrays, i, ones) for i in range(len(at.arrays))]

    known = Known(at.arrays, floating_leaves(at.y), constants_of(at), gradients)
    there: Sample | None = None
    for function in _list_functions(known):
        if not _agrees(function, at.arrays, known.y):
            continue
        # A bias of 0 or a scale of 1 would agree with too much.
        there = there or perturbed(at, Key(0)) or at
        if _agrees(function, there.arrays, floating_leaves(there.y)):
            return partial(_run, function, at.y)
    return None


def _list_functions(known: Known) -> Candidates:
    for family in (recurrent.find_recurrent, *(_FAMILIES if len(known.y) == 1 else ())):
        with suppress(*_DOES_NOT_FIT):
            yield from family(known)


def _agrees(function: Function, arrays: list[Tensor], y: list[Tensor]) -> bool:
    try:
        found = function(arrays)
    except _DOES_NOT_FIT:
        return False
    made = list(found) if isinstance(found, tuple) else [found]
    return len(made) == len(y) and all(map(agree, made, y))


def _run(function: Function, like: Arrays, arrays: Sequence[Tensor]) -> Arrays:
    """Give the outputs of a function the structure of y."""
    found = function(list(arrays))
    made = iter(found if isinstance(found, tuple) else (found,))
    return tree.map(lambda leaf: next(made) if leaf.is_floating_point() else leaf, like)
