"""Sums over the wrong axes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, combinations, product

import torch
from torch import Tensor

from lincoln_fn.testing.diagnosis import close
from lincoln_fn.testing.evidence import Evidence
from lincoln_fn.testing.hypotheses.hypothesis import Guess, Hypothesis, alone
from lincoln_fn.testing.hypotheses.order import shapes


def _wrongly_summed(evidence: Evidence) -> Iterator[Guess]:
    """Sum along one axis what should be kept."""
    for axis in range(max((r.ndim for r in evidence.expected), default=0)):
        kept = [
            r.sum(axis, keepdim=True).expand_as(r) if r.ndim > axis else None
            for r in evidence.expected
        ]
        yield Guess([*kept], {"how": "summed", "axis": axis})
        averages = [
            r.mean(axis, keepdim=True).expand_as(r) if r.ndim > axis else None
            for r in evidence.expected
        ]
        yield Guess([*averages], {"how": "averaged", "axis": axis})


def _contributions(evidence: Evidence) -> Iterator[tuple[int, Tensor]]:
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
                    gs = tape.flow(tape.outputs, tape.cotangents, call.outputs)
                    yield i, call.vjp(gs, wide)[k]
                except RuntimeError:  # it does not broadcast
                    continue


def _other_axes(evidence: Evidence) -> Iterator[Guess]:
    for i, parts in _contributions(evidence):
        given, right = evidence.given[i], evidence.expected[i]
        told = "" if given.shape == right.shape else f": {shapes(given, right)}"
        whole = parts.sum_to_size(right.shape)
        for axes in _subsets(parts.ndim):
            summed = parts.sum(axes) if axes else parts
            if summed.numel() != given.numel():
                continue
            # The right axes of one use of several are no wrong axes.
            if not close(summed, whole):
                how = f"summed over {_named(axes)} alone"
                yield alone(evidence, i, summed.reshape(given.shape), how=how, told=told)
            if axes:
                how = f"averaged over {_named(axes)}, not summed"
                average = parts.mean(axes).reshape(given.shape)
                yield alone(evidence, i, average, how=how, told=told)


def _subsets(ndim: int) -> Iterator[tuple[int, ...]]:
    return chain.from_iterable(combinations(range(ndim), n) for n in range(ndim + 1))


def _named(axes: tuple[int, ...]) -> str:
    if not axes:
        return "no axis"
    return f"axis {axes[0]}" if len(axes) == 1 else f"axes {', '.join(map(str, axes))}"


def _not_summed(evidence: Evidence) -> Iterator[Guess]:
    """Accept what becomes right by a sum over its first axes."""
    for i, (given, right) in enumerate(evidence.pairs()):
        extra = given.ndim - right.ndim
        if extra > 0 and given.shape[extra:] == right.shape:
            error = given.sum(tuple(range(extra))) - right
            axes = _shown(evidence, given, right)
            yield _of_shape(evidence, i, given - error / given.shape[:extra].numel(), axes=axes)


def _shown(evidence: Evidence, given: Tensor, right: Tensor) -> str:
    """Name the axes of g that are left in a gradient, if its shape tells."""
    shape = evidence.g[0].shape if len(evidence.g) == 1 else torch.Size()
    places = [
        axes
        for axes in combinations(range(len(shape)), given.ndim)
        if all(shape[axis] == size for axis, size in zip(axes, given.shape, strict=True))
    ]
    if len(places) != 1:
        return "all axes of g"
    left = places[0][: given.ndim - right.ndim]
    return "the batch" if left == (0,) else f"{_named(left)} of g"


def _partly_summed(evidence: Evidence) -> Iterator[Guess]:
    """Accept what becomes right by a sum over some of its axes."""
    for i, (given, right) in enumerate(evidence.pairs()):
        extra = given.ndim - right.ndim
        for axes in combinations(range(given.ndim), extra) if extra > 0 else ():
            summed = given.sum(axes)
            if summed.shape == right.shape:
                size = torch.Size(given.shape[axis] for axis in axes).numel()
                error = (summed - right) / size
                for axis in axes:
                    error = error.unsqueeze(axis)
                yield _of_shape(evidence, i, given - error, axes=_named(axes))


def _not_cut(evidence: Evidence) -> Iterator[Guess]:
    """Accept what has the right gradient inside, with more places around it."""
    for i, (given, right) in enumerate(evidence.pairs()):
        more = [a - b for a, b in zip(given.shape, right.shape, strict=False)]
        if given.ndim != right.ndim or min(more, default=0) < 0 or not any(more):
            continue
        for starts in product(*(range(extra + 1) for extra in more)):
            sizes = zip(starts, right.shape, strict=True)
            inside = tuple(slice(start, start + size) for start, size in sizes)
            if close(given[inside], right):
                yield alone(evidence, i, given, shapes=shapes(given, right))
                break


def _too_much(evidence: Evidence) -> Iterator[Guess]:
    for i, (given, right) in enumerate(evidence.pairs()):
        if given.shape == right.shape:
            continue
        for count in range(1, right.ndim + 1):
            for axes in combinations(range(right.ndim), count):
                for keepdim in (False, True):
                    for how in ("sum", "mean"):
                        done = getattr(right, how)(axes, keepdim=keepdim)
                        if done.shape == given.shape:
                            yield _of_shape(evidence, i, done, axes=_named(axes))


def _of_shape(evidence: Evidence, i: int, guess: Tensor, **words: object) -> Guess:
    told = shapes(evidence.given[i], evidence.expected[i])
    return alone(evidence, i, guess, shapes=told, **words)


SHAPES = [
    Hypothesis("not summed", "is not summed over {axes}: {shapes}", _not_summed),
    Hypothesis("not summed", "is not summed over {axes}: {shapes}", _partly_summed),
    Hypothesis(
        "padding kept", "has the right values, but the padding is not cut off: {shapes}", _not_cut
    ),
    Hypothesis(
        "summed too much", "is summed over {axes}, which it should keep: {shapes}", _too_much
    ),
]
HYPOTHESES = [
    Hypothesis("wrong axes", "is {how}{told}", _other_axes),
    Hypothesis(
        "summed over an axis", "is {how} over axis {axis}, which it should keep", _wrongly_summed
    ),
]
