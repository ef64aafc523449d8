"""How a wrong gradient is related to the right one: a ratio, an order, a sum, a factor."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import combinations, permutations, product

import torch
from torch import Tensor

# A relation is as exact as the submission, unless the right gradient is from differences.
SAME = 1e-6
# A fraction with a larger denominator is no number that a student would write.
SIMPLE = 1000

# A name and what follows the name of the gradient.
Relation = tuple[str, str]


def same(given: Tensor, other: Tensor, size: float = 0.0) -> bool:
    """Return whether two gradients are the same numbers."""
    if given.shape != other.shape or not given.numel():
        return False
    size = max(float(given.abs().max()), float(other.abs().max()), 1e-6 * size)
    return bool((given - other).abs().max() <= SAME * size)


def ratio(given: Tensor, right: Tensor) -> float | None:
    """Return the number that the one is times the other; None if there is none."""
    square = float((right * right).sum())
    if given.shape != right.shape or not square:
        return None
    found = float((given * right).sum()) / square
    return found if same(given, found * right) else None


def simple(number: float) -> Fraction | None:
    """Return the simple fraction that a number is; None if it is none."""
    found = Fraction(number).limit_denominator(SIMPLE)
    return found if found and abs(number - found) <= SAME * abs(number) else None


def of_two(given: Tensor, right: Tensor, sizes: Sequence[int]) -> Iterator[Relation]:
    """List what the two gradients alone show."""
    if given.numel() and not bool(given.any()) and bool(right.any()):
        yield "zero", "is zero"
    times = ratio(given, right)
    if times and abs(times - 1) > SAME:
        yield from _multiple(times, sizes)
    shapes = f"shape {_shape(given)}, expected {_shape(right)}"
    for name, said in _in_order(given, right):
        yield name, said if given.shape == right.shape else f"{said}: {shapes}"
    if given.shape != right.shape:
        yield from ((name, f"{said}: {shapes}") for name, said in _of_other_size(given, right))
    else:
        yield from _in_places(given, right)


def _shape(array: Tensor) -> tuple[int, ...]:
    return tuple(array.shape)


def _multiple(times: float, sizes: Sequence[int]) -> Iterator[Relation]:
    size, sign = abs(times), "has the wrong sign and " if times < 0 else ""
    if abs(times + 1) <= SAME:
        yield "sign", "has the wrong sign"
    elif size > 1:
        summed = any(abs(size - n) <= SAME * n for n in sizes)
        why = ": summed where it should be averaged?" if summed else ""
        yield "summed" if summed else "factor", f"{sign}is {size:.6g} times too large{why}"
    else:
        averaged = any(abs(1 / size - n) <= SAME * n for n in sizes)
        why = ": averaged where it should be summed?" if averaged else ""
        yield "averaged" if averaged else "factor", f"{sign}is {1 / size:.6g} times too small{why}"


def _in_order(given: Tensor, right: Tensor) -> Iterator[Relation]:
    """The right numbers in another order."""
    if given.numel() != right.numel() or not torch.allclose(
        given.flatten().sort().values, right.flatten().sort().values, SAME, SAME * 1e-3
    ):
        return
    for order in permutations(range(right.ndim)) if right.ndim <= 5 else ():
        if order != tuple(range(right.ndim)) and same(given, right.permute(order)):
            moved = [n for n, axis in enumerate(order) if n != axis]
            is_last = moved == [right.ndim - 2, right.ndim - 1]
            yield "transposed", "is transposed" if is_last else f"has its axes in the order {order}"
    if given.shape != right.shape and same(given.flatten(), right.flatten()):
        yield "another shape", "has the right values in another shape"
    for axis in range(right.ndim):
        if same(given, right.flip(axis)):
            yield "reversed", f"is reversed along axis {axis}"
        for by in range(1, right.shape[axis]):
            if same(given, right.roll(by, axis)):
                by -= right.shape[axis] if by > right.shape[axis] / 2 else 0
                yield "shifted", f"is shifted by {by} along axis {axis}"
    if right.ndim > 1 and same(given, right.flip(tuple(range(right.ndim - 2, right.ndim)))):
        yield "reversed", f"is reversed along axes {right.ndim - 2}, {right.ndim - 1}"
    yield "reordered", "has the right values in the wrong places: reshaped for transposed?"


def subsets(count: int) -> list[tuple[int, ...]]:
    """List the sets of axes that are not empty, the small ones first."""
    return [some for n in range(1, count + 1) for some in combinations(range(count), n)]


def list_axes(axes: Sequence[int]) -> str:
    """Name axes."""
    return f"{'axis' if len(axes) == 1 else 'axes'} {', '.join(map(str, axes))}"


def _of_other_size(given: Tensor, right: Tensor) -> Iterator[Relation]:
    for axes in subsets(given.ndim) if given.ndim <= 5 else ():
        for keep in (False, True):
            if same(given.sum(axes, keepdim=keep), right):
                over = "the batch" if axes == (0,) else list_axes(axes)
                yield "not summed", f"is not summed over {over}"
    for axes in subsets(right.ndim) if right.ndim <= 5 else ():
        for keep in (False, True):
            if same(given, right.sum(axes, keepdim=keep)):
                yield "summed", f"is summed over {list_axes(axes)}, which it should keep"
    if given.ndim == 2 and right.ndim == 1 and same(given.diagonal(), right):
        yield "matrix", "is a matrix product, of which only the diagonal is right"
    if given.ndim == right.ndim:
        if _holds(given, right):
            yield "not cut", "has the right values, and more around them: is padding not cut off?"
        if _holds(right, given):
            yield "cut", "is cut off: it lacks places of the right gradient"


def _holds(large: Tensor, small: Tensor) -> bool:
    """Return whether one array is a part of the other."""
    room = [a - b for a, b in zip(large.shape, small.shape, strict=True)]
    if min(room, default=-1) < 0 or not small.numel() or max(room) > 8:
        return False
    parts = large
    for axis, size in enumerate(small.shape):
        parts = parts.unfold(axis, size, 1)
    return any(same(part, small) for part in parts.flatten(0, small.ndim - 1))


def _in_places(given: Tensor, right: Tensor) -> Iterator[Relation]:
    """Right numbers in some places, and others elsewhere."""
    size = float(right.abs().max()) if right.numel() else 0.0
    if not given.numel():
        return
    low, high = float(given.min()), float(given.max())
    clipped = int((right > high).sum() + (right < low).sum())
    if (
        1 < clipped < given.numel()
        and same(given, right.clamp(low, high))
        and not same(given, right)
    ):
        yield "clipped", f"is clipped to [{low:.6g}, {high:.6g}]"
    for axes in subsets(right.ndim) if right.ndim <= 4 else ():
        total = right.sum(axes, keepdim=True).expand_as(right)
        if same(given, total):
            yield "summed", f"is summed over {list_axes(axes)}, which it should keep"
    yield from _shifted(given, right)
    is_wrong = (given - right).abs() > SAME * size
    for axis in range(right.ndim):
        others = tuple(n for n in range(right.ndim) if n != axis)
        wrong = is_wrong.sum(others) > 0 if others else is_wrong
        places = wrong.nonzero().flatten().tolist()
        if 0 < len(places) < len(wrong):
            where = f"at {_positions(places, len(wrong))} of axis {axis}"
            part = given.index_select(axis, torch.tensor(places))
            if not bool(part.any()):
                yield "zero at places", f"is zero {where}"
            times = ratio(part, right.index_select(axis, torch.tensor(places)))
            if times is not None and simple(times):
                yield "factor at places", f"is {simple(times)} times the gradient {where}"


def _shifted(given: Tensor, right: Tensor) -> Iterator[Relation]:
    """Find a shift by which places at the ends are lost."""
    if right.ndim < 3 or not bool(right.any()):
        return
    axes = list(range(2, right.ndim))
    for by in product((-2, -1, 0, 1, 2), repeat=len(axes)):
        a, b = given, right
        if not any(by) or any(
            abs(s) >= right.shape[axis] for s, axis in zip(by, axes, strict=True)
        ):
            continue
        for s, axis in zip(by, axes, strict=True):
            size = right.shape[axis] - abs(s)
            a, b = a.narrow(axis, max(s, 0), size), b.narrow(axis, max(-s, 0), size)
        if same(a, b):
            yield (
                "shifted",
                f"is shifted by {by} along {list_axes(axes)}: is padding cut off wrongly?",
            )


def of_last_parts(given: Tensor, parts: Tensor) -> Iterator[Relation]:
    """Compare with the last of the parts in each place, which all have to add up."""
    for ordered in (parts, parts.flip(0)):
        is_part = ordered != 0
        last = is_part.long().cumsum(0).argmax(0, keepdim=True)
        if same(given, ordered.gather(0, last)[0]) and bool((is_part.sum(0) > 1).any()):
            yield (
                "overwritten",
                "is overwritten where parts of several positions of g should add up",
            )


def _positions(places: Sequence[int], count: int) -> str:
    if len(places) == 1:
        word = {0: "the first", count - 1: "the last"}.get(places[0])
        return f"{word} position" if word else f"position {places[0]}"
    return f"positions {', '.join(map(str, places))}"


def of_uses_of_g(given: Tensor, parts: list[Tensor], axis: int, whose: str) -> Iterator[Relation]:
    """Compare with what each position of g gives; the sum of all is right."""
    total = torch.stack(parts).flatten(1)
    if given.shape != parts[0].shape or int(torch.linalg.matrix_rank(total)) < len(parts):
        return
    share = torch.linalg.lstsq(total.T, given.flatten()[:, None]).solution.flatten()
    if not same((share @ total).view(given.shape), given):
        return
    rounded = share.round()
    if bool((share - rounded).abs().max() > SAME) or bool((rounded == 1).all()):
        return
    used, left = (rounded == 1).nonzero().flatten(), (rounded == 0).nonzero().flatten()
    if len(used) + len(left) < len(parts) or not len(used):
        return
    if len(used) <= len(left):
        where = _positions(used.tolist(), len(parts))
        yield "part of g", f"uses {whose} only at {where} of axis {axis}; the others are missing"
    else:
        where = _positions(left.tolist(), len(parts))
        yield "part of g", f"leaves out {where} of axis {axis} of {whose}"
