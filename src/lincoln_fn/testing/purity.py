"""Checks that a function changed no argument, and gives the same result again."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from lincoln_fn import tree
from lincoln_fn.testing.diagnosis import GradientError, ImpureError


class Seen(NamedTuple):
    """A recorded tensor: its path, the tensor, its version counter, and a copy of its values."""

    path: str
    tensor: Tensor
    version: int
    copy: Tensor


def snapshot(**trees: object) -> list[Seen]:
    """Record tensors as they are.

    Args:
        **trees: by name, the tensors that should not change.

    Returns:
        The record that `check_untouched` compares with.

    Example:
        >>> [seen.path for seen in snapshot(x=(torch.zeros(1), torch.zeros(1)))]
        ['x.0', 'x.1']
    """
    pairs = zip(tree.paths(trees, states=True), tree.leaves(trees, states=True), strict=True)
    return [Seen(p, t, t._version, t.clone()) for p, t in pairs if isinstance(t, Tensor)]


def check_untouched(name: str, function: str, before: list[Seen]) -> None:
    """Check that recorded tensors were not changed in place, not even temporarily.

    Args:
        name: the layer's name.
        function: the function that ran since.
        before: from `snapshot`.

    Raises:
        ImpureError: naming the tensor that was changed.

    Example:
        >>> before = snapshot(x=torch.zeros(2))
        >>> before[0].tensor.add_(1)
        tensor([1., 1.])
        >>> check_untouched("mine", "forward", before)
        Traceback (most recent call last):
        lincoln_fn.testing.diagnosis.ImpureError: mine: forward changed x in place
    """
    for path, tensor, version, copy in before:
        if tensor._version != version or not _identical(tensor, copy):
            raise ImpureError(f"{name}: {function} changed {path} in place")


def check_same(name: str, what: str, given: object, expected: object) -> None:
    """Check that a repeated call gave the same result, bit for bit.

    Args:
        name: the layer's name.
        what: the repeated call.
        given: its result.
        expected: the result of the first call.

    Raises:
        ImpureError: if they differ.

    Example:
        >>> check_same("mine", "a second forward", torch.ones(2), torch.zeros(2))
        Traceback (most recent call last):
        lincoln_fn.testing.diagnosis.ImpureError: mine: a second forward gives something else
    """
    same = tree.same_structure(given, expected) and all(
        _identical(a, b) for a, b in zip(tree.leaves(given), tree.leaves(expected), strict=True)
    )
    if not same:
        raise ImpureError(f"{name}: {what} gives something else")


def check_finite(name: str, path: str, arrays: object) -> None:
    """Check that every value is finite.

    Args:
        name: the layer's name.
        path: the name of what is checked.
        arrays: its tensors.

    Raises:
        GradientError: counting the values that are not.

    Example:
        >>> check_finite("mine", "dx", torch.tensor([1.0, torch.nan]))
        Traceback (most recent call last):
        lincoln_fn.testing.diagnosis.GradientError: mine: dx holds 1 value that is not finite
    """
    if told := not_finite(arrays):
        raise GradientError(f"{name}: {path} {told}")


def not_finite(arrays: object) -> str:
    """Count the values that are not finite, in words; "" if all are.

    Example:
        >>> not_finite(torch.tensor([1.0, torch.nan]))
        'holds 1 value that is not finite'
    """
    count = sum(int((~torch.isfinite(leaf)).sum()) for leaf in tree.leaves(arrays))
    values = "1 value that is" if count == 1 else f"{count} values that are"
    return f"holds {values} not finite" if count else ""


def _identical(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.allclose(a, b, rtol=0, atol=0, equal_nan=True)
