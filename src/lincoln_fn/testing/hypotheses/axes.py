"""Sums over the wrong axes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, product

import torch
from torch import Tensor

from lincoln_fn.testing.diagnosis import close
from lincoln_fn.testing.evidence import Evidence
from lincoln_fn.testing.hypotheses.algebra import list_subsets
from lincoln_fn.testing.hypotheses.hypothesis import Cost, Guess, Hypothesis, guess_alone
from lincoln_fn.testing.hypotheses.order import name_axes, tell_shapes


def _sum_wrongly(evidence: Evidence) -> Iterator[Guess]:
    """Sum along one axis what should be kept."""
    for axis in range(max((r.ndim for r in evidence.expected), default=0)):
        for how, of in (("summed", torch.sum), ("averaged", torch.mean)):
            found = [
                of(r, axis, keepdim=True).expand_as(r) if r.ndim > axis else None
                for r in evidence.expected
            ]
            yield Guess([*found], {"how": how, "axis": axis})


def _find_contributions(evidence: Evidence) -> Iterator[tuple[int, Tensor]]:
    """Find what is summed to the gradient of an array that is broadcast, before the sum."""
    for tape in evidence.tapes:
        for call in tape.calls:
            for k, u in enumerate(call.inputs):
                i = next((i for i, array in enumerate(tape.arrays) if array is u), None)
                if i is None or len(call.outputs) != 1 or call.outputs[0].shape == u.shape:
                    continue
                wide = list(call.inputs)
                try:
                    wide[k] = u.detach().expand(call.outputs[0].shape)
                    yield i, call.vjp(tape.arrived(call), wide)[k]
                except RuntimeError:  # it does not broadcast
                    continue


def _sum_other_axes(evidence: Evidence) -> Iterator[Guess]:
    for i, parts in _find_contributions(evidence):
        given, right = evidence.given[i], evidence.expected[i]
        told = "" if given.shape == right.shape else f": {tell_shapes(given, right)}"
        whole = parts.sum_to_size(right.shape)
        for axes in [(), *list_subsets(range(parts.ndim))]:
            summed = parts.sum(axes) if axes else parts
            if summed.numel() != given.numel():
                continue
            # The right axes of one use of several are no wrong axes.
            if not close(summed, whole):
                how = f"summed over {name_axes(axes)} alone"
                yield guess_alone(evidence, i, summed.reshape(given.shape), how=how, told=told)
            if axes:
                how = f"averaged over {name_axes(axes)}, not summed"
                average = parts.mean(axes).reshape(given.shape)
                yield guess_alone(evidence, i, average, how=how, told=told)


def _leave_unsummed(evidence: Evidence) -> Iterator[Guess]:
    """Accept what becomes right by a sum over some of its axes."""
    for i, (given, right) in enumerate(evidence.pairs()):
        kept = _kept_axes(given, right)
        if kept and close(given.sum(kept, keepdim=True), right):
            yield _guess_of_shape(evidence, i, given, axes=name_axes(kept))
        extra = given.ndim - right.ndim
        for axes in combinations(range(given.ndim), extra) if extra > 0 else ():
            if given.sum(axes).shape == right.shape:
                error = given.mean(axes, keepdim=True) - _widen(right, axes) / _count(given, axes)
                is_first = axes == tuple(range(extra))
                said = _name_left(evidence, given, axes) if is_first else name_axes(axes)
                yield _guess_of_shape(evidence, i, given - error, axes=said)


def _kept_axes(given: Tensor, right: Tensor) -> tuple[int, ...]:
    """List the axes that have size 1 in the right gradient alone."""
    if given.ndim != right.ndim:
        return ()
    sizes = enumerate(zip(given.shape, right.shape, strict=True))
    return tuple(axis for axis, (a, b) in sizes if b == 1 != a)


def _widen(right: Tensor, axes: tuple[int, ...]) -> Tensor:
    for axis in axes:
        right = right.unsqueeze(axis)
    return right


def _count(given: Tensor, axes: tuple[int, ...]) -> int:
    return torch.Size(given.shape[axis] for axis in axes).numel()


def _name_left(evidence: Evidence, given: Tensor, axes: tuple[int, ...]) -> str:
    """Name the axes of g that are left in a gradient, if its shape tells."""
    shape = evidence.g[0].shape if len(evidence.g) == 1 else torch.Size()
    places = [
        some
        for some in combinations(range(len(shape)), given.ndim)
        if [shape[axis] for axis in some] == [*given.shape]
    ]
    if len(places) != 1:
        return "all axes of g"
    left = places[0][: len(axes)]
    return "the batch" if left == (0,) else f"{name_axes(left)} of g"


def _leave_padding(evidence: Evidence) -> Iterator[Guess]:
    """Accept what has the right gradient inside, with more places around it."""
    for i, (given, right) in enumerate(evidence.pairs()):
        if _is_inside(right, given):
            yield _guess_of_shape(evidence, i, given)


def _cut_too_much(evidence: Evidence) -> Iterator[Guess]:
    """Accept what is an inner part of the right gradient, or all but its end."""
    for i, (given, right) in enumerate(evidence.pairs()):
        if _is_inside(given, right):
            yield _guess_of_shape(evidence, i, given)


def _is_inside(inner: Tensor, outer: Tensor) -> bool:
    """Return whether a tensor is a part of a larger one."""
    more = [a - b for a, b in zip(outer.shape, inner.shape, strict=False)]
    if inner.ndim != outer.ndim or min(more, default=0) < 0 or not any(more):
        return False
    sizes = inner.shape
    return any(
        close(inner, outer[tuple(slice(a, a + n) for a, n in zip(starts, sizes, strict=True))])
        for starts in product(*(range(extra + 1) for extra in more))
    )


def _sum_too_much(evidence: Evidence) -> Iterator[Guess]:
    for i, (given, right) in enumerate(evidence.pairs()):
        for axes in list_subsets(range(right.ndim)) if given.shape != right.shape else ():
            for keepdim, of in product((False, True), (torch.sum, torch.mean)):
                done = of(right, axes, keepdim=keepdim)
                if done.shape == given.shape:
                    yield _guess_of_shape(evidence, i, done, axes=name_axes(axes))


def _guess_of_shape(evidence: Evidence, i: int, guess: Tensor, **words: object) -> Guess:
    told = tell_shapes(evidence.given[i], evidence.expected[i])
    return guess_alone(evidence, i, guess, shapes=told, **words)


HYPOTHESES = [
    Hypothesis("not summed", "is not summed over {axes}: {shapes}", _leave_unsummed, Cost.SHAPE),
    Hypothesis("padding kept", "has the right values, but the padding is not cut off: {shapes}",
               _leave_padding, Cost.SHAPE),
    Hypothesis("cut too much", "is cut off: it lacks places of the right gradient: {shapes}; does "
               "it cut off more padding than there is?", _cut_too_much, Cost.SHAPE),
    Hypothesis("summed too much", "is summed over {axes}, which it should keep: {shapes}",
               _sum_too_much, Cost.SHAPE),
    Hypothesis("wrong axes", "is {how}{told}", _sum_other_axes, Cost.OPERATION),
    Hypothesis("summed over an axis", "is {how} over axis {axis}, which it should keep",
               _sum_wrongly, Cost.OPERATION),
]  # fmt: skip
