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
# The same, and two tensors that are equal if it holds.
Match = tuple[str, str, Tensor, Tensor]


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
    is_shape = given.shape == right.shape
    shapes = f": shape {tuple(given.shape)}, expected {tuple(right.shape)}"
    # An axis of 1 too many or too few is no other mistake.
    one, other = ([n for n in each.shape if n > 1] for each in (given, right))
    times = ratio(given.reshape(right.shape) if one == other else given, right)
    if times and abs(times - 1) > SAME:
        for name, said in _multiple(times, sizes):
            yield name, said if is_shape else f"{said} Also{shapes}"
    for row in _in_order, _of_sums, _of_parts, *((_clipped, _moved) if is_shape else ()):
        for name, said, one, other in row(given, right):
            if same(one, other):
                yield name, said if is_shape else said + shapes
    if is_shape and given.numel():
        yield from _at_places(given, right)


def _multiple(times: float, sizes: Sequence[int]) -> Iterator[Relation]:
    if abs(times + 1) <= SAME:
        yield "sign", "has the wrong sign"
        return
    is_large, sign = abs(times) > 1, "has the wrong sign and " if times < 0 else ""
    size = abs(times) if is_large else 1 / abs(times)
    name, why = "factor", ""
    if any(abs(size - n) <= SAME * n for n in sizes):
        name, other = ("summed", "averaged") if is_large else ("averaged", "summed")
        why = f": {name} where it should be {other}?"
    yield name, f"{sign}is {size:.6g} times too {'large' if is_large else 'small'}{why}"


def _in_order(given: Tensor, right: Tensor) -> Iterator[Match]:
    """The right numbers in another order."""
    one, other = (each.flatten().sort().values for each in (given, right))
    if one.shape != other.shape or not torch.allclose(one, other, SAME, SAME * 1e-3):
        return
    for order in permutations(range(right.ndim)) if right.ndim <= 5 else ():
        if order != tuple(range(right.ndim)):
            moved = [n for n, axis in enumerate(order) if n != axis]
            is_last = moved == [right.ndim - 2, right.ndim - 1]
            said = "is transposed" if is_last else f"has its axes in the order {order}"
            yield "transposed", said, given, right.permute(order)
    if given.shape != right.shape:
        said = "has the right values in another shape"
        yield "another shape", said, given.flatten(), right.flatten()
    for axis, size in enumerate(right.shape):
        yield "reversed", f"is reversed along axis {axis}", given, right.flip(axis)
        for by in range(1, size):
            least = by - size if by > size / 2 else by
            yield "shifted", f"is shifted by {least} along axis {axis}", given, right.roll(by, axis)
    if right.ndim > 1:
        said = f"is reversed along axes {right.ndim - 2}, {right.ndim - 1}"
        yield "reversed", said, given, right.flip((-2, -1))
    said = "has the right values in the wrong places: reshaped for transposed?"
    yield "reordered", said, one, other


def subsets(count: int) -> list[tuple[int, ...]]:
    """List the sets of axes that are not empty, the small ones first."""
    return [some for n in range(1, count + 1) for some in combinations(range(count), n)]


def list_axes(axes: Sequence[int]) -> str:
    """Name axes."""
    return f"{'axis' if len(axes) == 1 else 'axes'} {', '.join(map(str, axes))}"


def _of_sums(given: Tensor, right: Tensor) -> Iterator[Match]:
    """Sums over too few axes, or too many."""
    for axes, keep in product(subsets(given.ndim) if given.ndim <= 5 else (), (False, True)):
        over = "the batch" if axes == (0,) else list_axes(axes)
        yield "not summed", f"is not summed over {over}", given.sum(axes, keepdim=keep), right
    for axes in subsets(right.ndim) if right.ndim <= 5 else ():
        kept = right.sum(axes, keepdim=True)
        for total in right.sum(axes), kept, kept.expand_as(right):
            said = f"is summed over {list_axes(axes)}, which it should keep"
            yield "summed", said, given, total
    if given.ndim == 2 and right.ndim == 1:
        said = "is a matrix product, of which only the diagonal is right"
        yield "matrix", said, given.diagonal(), right


def _of_parts(given: Tensor, right: Tensor) -> Iterator[Match]:
    """More around the right values, or fewer of them."""
    more = "has the right values, and more around them: is padding not cut off?"
    fewer = "is cut off: it lacks places of the right gradient"
    for name, said, large, small in (("not cut", more, given, right), ("cut", fewer, right, given)):
        room = [a - b for a, b in zip(large.shape, small.shape, strict=False)]
        if large.ndim != small.ndim or min(room, default=-1) < 0 or not 0 < max(room) <= 8:
            continue
        parts = large
        for axis, size in enumerate(small.shape):
            parts = parts.unfold(axis, size, 1)
        yield from ((name, said, part, small) for part in parts.flatten(0, small.ndim - 1))


def _clipped(given: Tensor, right: Tensor) -> Iterator[Match]:
    if given.numel():
        low, high = float(given.min()), float(given.max())
        if 1 < int((right > high).sum() + (right < low).sum()) < given.numel():
            yield "clipped", f"is clipped to [{low:.6g}, {high:.6g}]", given, right.clamp(low, high)


def _moved(given: Tensor, right: Tensor) -> Iterator[Match]:
    """A shift by which places at the ends are lost."""
    axes = list(range(2, right.ndim)) if bool(right.any()) else []
    for by in product((-2, -1, 0, 1, 2), repeat=len(axes)):
        one, other = given, right
        if any(by) and all(abs(s) < right.shape[n] for s, n in zip(by, axes, strict=True)):
            for s, axis in zip(by, axes, strict=True):
                size = right.shape[axis] - abs(s)
                one = one.narrow(axis, max(s, 0), size)
                other = other.narrow(axis, max(-s, 0), size)
            said = f"is shifted by {by} along {list_axes(axes)}: is padding cut off wrongly?"
            yield "shifted", said, one, other


def _at_places(given: Tensor, right: Tensor) -> Iterator[Relation]:
    """Right numbers in some places, and others elsewhere."""
    is_wrong = (given - right).abs() > SAME * right.abs().max()
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
    total = torch.stack(parts).reshape(len(parts), -1)
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
