"""Cases that a submission is graded by."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from itertools import count as count_from
from typing import TypeAlias

import torch
from torch import Tensor

from lincoln_fn.core import Arrays, Key, Layer, Params, PositiveInt, checked, tree
from lincoln_fn.testing.internal import doubled, is_plainly_right, not_finite, random_like, sample
from lincoln_fn.training import check_example

Case: TypeAlias = tuple[Params, Arrays]


@checked
def make_cases(
    reference: Layer, x: Arrays, *, count: PositiveInt = 2, key: Key = Key(0)
) -> tuple[tuple[Params, Arrays], ...]:
    """Make cases of a layer for `grade`.

    Inputs are drawn from the normal distribution, with a standard deviation of 1 and 4 in turn, so
    that both sides of a kink are met. Normal numbers are also added to the parameters that `init`
    draws: a weight of ones or a bias of zeros would hide mistakes. Every second case has another
    shape, so far as the layer takes it: one axis more at the end, and other sizes.

    Args:
        x: an example input. Floating tensors give their shape; integers and masks are kept, and
            repeated where a case is larger.

    Example:
        >>> cases = make_cases(lf.dense(4), torch.zeros(5, 3))
        >>> [tuple(x.shape) for params, x in cases]
        [(5, 3), (6, 5, 4)]
    """
    check_example("make_cases", x)
    makers = [_other_case if i % 2 else _case for i in range(count)]
    return tuple(make(reference, x, key.fold_in(i)) for i, make in enumerate(makers))


def _case(reference: Layer, x: Arrays, key: Key, scale: float = 1.0) -> Case:
    init_key, x_key, params_key = map(key.fold_in, range(3))
    zeros = tree.map(lambda t: torch.zeros_like(t) if t.is_floating_point() else t, x)
    return _added(reference.init(init_key, x), params_key, 0.5), _added(zeros, x_key, scale)


def _other_case(reference: Layer, x: Arrays, key: Key) -> Case:
    """Make a case with one axis more, and with other sizes, where the reference takes them."""
    case = _case(reference, x, key, 4.0)
    more = _unused(x, 3)
    longer = tree.map(lambda leaf: leaf.unsqueeze(-1).expand(*leaf.shape, more), x)
    case = _first_right(reference, [longer], key) or case
    for size in _sizes(x):
        multiples = [n for n in (2 * size, 3 * size) if n not in _sizes(case[1])]
        others = _unused(case[1], size + 1), *multiples
        changed = [tree.map(partial(_resized, size=size, other=n), case[1]) for n in others]
        case = _first_right(reference, changed, key) or case
    return case


def _first_right(reference: Layer, inputs: Sequence[Arrays], key: Key) -> Case | None:
    """Make a case of the first input at which the reference computes its gradients."""
    for x in inputs:
        with suppress(Exception):  # the reference may refuse a shape in any way
            case = _case(reference, x, key, 4.0)
            at = sample(reference, *doubled(case), key)
            if not not_finite(at.y) and is_plainly_right(at, key, 1):
                return case
    return None


def _sizes(x: Arrays) -> list[int]:
    return list(dict.fromkeys(n for leaf in tree.leaves(x) for n in leaf.shape))


def _unused(x: Arrays, least: int) -> int:
    """Return a size that no axis has, so that no two become equal."""
    known = _sizes(x)
    return next(n for n in count_from(least) if n not in known)


def _resized(leaf: Tensor, size: int, other: int) -> Tensor:
    """Repeat or cut the axes of a size, so that they have another."""
    for axis in (n for n, old in enumerate(leaf.shape) if old == size):
        leaf = leaf.index_select(axis, torch.arange(other, device=leaf.device) % size)
    return leaf


def _added(arrays: Arrays, key: Key, scale: float) -> Arrays:

    def moved(leaf: Tensor, drawn: Tensor) -> Tensor:
        return leaf + scale * drawn if leaf.is_floating_point() else leaf

    return tree.map(moved, arrays, random_like(arrays, key))
