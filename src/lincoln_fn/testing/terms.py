"""The difference between a wrong gradient and the right one, as one or two changes.

A change is what a mistake in one operation of forward adds, or a term at hand: a product of values
with a sum of others along axes. Least squares give its coefficient, which has to be a simple
fraction.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import combinations_with_replacement, product
from math import prod
from typing import Any, TypeAlias

import attrs
import numpy as np
import torch
from torch import Tensor

# A relation is as exact as the submission, unless the right gradient is from differences.
SAME = 1e-6
# A fraction with a larger denominator is no number that a student would write.
SIMPLE = 1000
MOST_FACTORS = 5
# So many terms are tried alone, and the first of them in pairs.
MOST_TERMS, MOST_PAIRED = 3000, 700
# Of fewer numbers a term fits by chance; of more, the search is long.
FEWEST, MOST_NUMBERS = 3, 4096
# Of all terms together.
MOST_HELD = 2_000_000
CUT, TERM = "path missing", "term"
LARGEST = 1e30
# Of more numbers than these, the largest stand for all until two terms fit.
SAMPLED = 24
Hand = Sequence[tuple[str, Tensor]]
# A mistake's name, what is said of it, and the gradient that it makes.
Guess: TypeAlias = tuple[str, str, Tensor]


def same(given: Tensor, other: Tensor, size: float = 0.0) -> bool:
    """Return whether two gradients are the same numbers."""
    if given.shape != other.shape or not given.numel():
        return False
    size = max(float(given.abs().max()), float(other.abs().max()), 1e-6 * size)
    return bool((given - other).abs().max() <= SAME * size)


def simple(number: float) -> Fraction | None:
    """Return the simple fraction that a number is; None if it is none."""
    found = Fraction(number).limit_denominator(SIMPLE)
    return found if found and abs(number - found) <= SAME * abs(number) else None


def of_sums(given: Tensor, right: Tensor, gs: Hand, hand: Hand) -> Iterator[Guess]:
    """Find what was summed over other axes."""
    for (g_name, g), (name, value) in product(gs, [("", torch.ones(())), *hand]):
        try:
            summed = _times(g_name, name), g * value
        except RuntimeError:  # the shapes do not fit
            continue
        did = next((said for said, s in _sums(*summed, given.shape) if same(s, given)), None)
        should = next((said for said, s in _sums(*summed, right.shape) if same(s, right)), None)
        if did and should and did != should:
            yield "wrong axes", f"is {did}; it should be {should}", given


@attrs.frozen(eq=False)
class Change:
    """What a mistake adds to a gradient: once, or so many times if it is a path or a term."""

    name: str
    said: str
    value: Tensor


def of_changes(
    given: Tensor, right: Tensor | None, changes: Sequence[Change], *, in_pairs: bool = False
) -> Iterator[Guess]:
    """Find the one change, or the two, that make the difference; or the gradient itself."""
    if not changes or given.shape != changes[0].value.shape:
        return
    target = (given if right is None else given - right).flatten()
    if not 0 < target.numel() <= MOST_NUMBERS or not bool(target.isfinite().all()):
        return
    rows = torch.stack([change.value.flatten() for change in changes])
    largest = target.abs().topk(min(SAMPLED, len(target))).indices
    for chosen in (_pairs if in_pairs else _single)(rows[:, largest], target[largest]):
        parts = [(changes[n], fraction) for n, c in chosen if (fraction := simple(c))]
        total = sum((float(c) * change.value for change, c in parts), torch.zeros(()))
        is_fit = len(parts) == len(chosen) and same(total.flatten(), target)
        if is_fit and (told := _told(parts, is_all=right is None)):
            yield *told, given


def _told(parts: list[tuple[Change, Fraction]], *, is_all: bool) -> tuple[str, str] | None:
    """Say what was changed; None if nobody would write it."""
    terms = " ".join(f"{_signed(c)}{change.said}" for change, c in parts if change.name == TERM)
    if is_all:
        return TERM, f"is {terms.removeprefix('+ ')}, not its gradient"
    if any(c != 1 for change, c in parts if change.name not in (CUT, TERM)):
        return None
    said = [(TERM, f"is its gradient {terms}")] if terms else []
    said += [(change.name, change.said) for change, _ in parts if change.name not in (CUT, TERM)]
    paths: dict[Fraction, list[str]] = {}
    for change, c in parts:
        if change.name == CUT:
            paths.setdefault(c, []).append(change.said)
    said += [_of_paths(c, names) for c, names in paths.items()]
    return said[0][0], ", and ".join(phrase for _, phrase in said)


def _of_paths(c: Fraction, names: Sequence[str]) -> tuple[str, str]:
    """Say how often the paths through operations are counted: all but c times."""
    is_one = len(names) == 1
    paths = f"the {'path' if is_one else 'paths'} through {' and '.join(names)}"
    if c == 1:
        what = "it were a constant" if is_one else "they were constants"
        return CUT, f"misses {paths}, as if {what}"
    if c == 2:
        return "sign", f"has the wrong sign in {paths}"
    return "factor", f"counts {paths} {1 - c} times"


def _signed(c: Fraction) -> str:
    size = abs(c)
    return f"{'-' if c < 0 else '+'} {'' if size == 1 else f'{size} '}"


def list_terms(right: Tensor, gs: Hand, hand: Hand) -> list[Change]:
    """List the terms of a gradient's shape, each once, those of few factors first."""
    terms: list[Change] = []
    if not FEWEST <= right.numel() <= MOST_NUMBERS or right.ndim > 4:
        return terms
    # That it differs from what equals the right gradient says nothing.
    gs = [(name, g) for name, g in gs if not same(g, right)]
    seen: set[tuple[float, ...]] = set()
    for name, value in _every_term(right.shape, gs, hand):
        term = value.expand(right.shape)
        key = tuple(term.flatten()[:6].mul(1e9).round().tolist())
        is_new = key not in seen and tuple(-k for k in key) not in seen
        if is_new and 0 < float(term.abs().sum()) < LARGEST:
            seen.add(key)
            terms.append(Change(TERM, name or "1", term))
            if len(terms) == min(MOST_TERMS, MOST_HELD // right.numel()):
                break
    return terms


def _every_term(shape: torch.Size, gs: Hand, hand: Hand) -> Iterator[tuple[str, Tensor]]:
    outside = _fitting(shape, hand)
    for count in range(4):
        if count == 2:  # what has no g is no gradient, but a decay is written so
            yield from outside
        for n, (g_name, g) in product(range(count + 1), gs):
            within = outside if fits(g.shape, shape) else _fitting(g.shape, hand)
            for inside in combinations_with_replacement(within, n):
                name = _times(g_name, *(name for name, _ in inside))
                value = prod((v for _, v in inside), start=g)
                if n == count and fits(value.shape, shape):
                    yield name, value
                for said, total in _sums(name, value, shape):
                    for outer in combinations_with_replacement(outside, count - n):
                        before = _times(*(name for name, _ in outer))
                        yield _times(before, said), prod((v for _, v in outer), start=total)


def _fitting(shape: torch.Size, hand: Hand) -> Hand:
    return [(name, value) for name, value in hand if fits(value.shape, shape)][:MOST_FACTORS]


def _sums(name: str, value: Tensor, shape: torch.Size) -> Iterator[tuple[str, Tensor]]:
    every = tuple(range(value.ndim))
    some = [*((axis,) for axis in every), every, (0, *every[2:])] if every else []
    for axes in dict.fromkeys(some):
        kept = value.sum(axes, keepdim=True)
        for total in (kept, kept.squeeze(axes)):
            if fits(total.shape, shape):
                yield f"sum({name}, {', '.join(map(str, axes))})", total
                break


def fits(shape: torch.Size, to: torch.Size) -> bool:
    """Return whether a tensor of a shape broadcasts to another one."""
    try:
        return np.broadcast_shapes(shape, to) == to
    except ValueError:
        return False


def _times(*names: str) -> str:
    return " ".join(name for name in names if name)


Chosen: TypeAlias = Sequence[tuple[int, float]]


def _single(rows: Tensor, target: Tensor) -> Iterator[Chosen]:
    found = (rows @ target) / (rows * rows).sum(1)
    left = (target - found[:, None] * rows).abs().amax(1)
    for n in (left <= SAME * target.abs().max()).nonzero().flatten().tolist():
        yield [(n, float(found[n]))]


def _pairs(rows: Tensor, target: Tensor) -> Iterator[Chosen]:
    """Solve for two at once: each is taken out of the others, which then have to fit."""
    norms = rows.norm(dim=1).clamp(min=1e-30)
    units = rows / norms[:, None]
    for n, first in enumerate(units[:-1]):
        total, shared = target @ first, units[n + 1 :] @ first
        rest, others = target - total * first, units[n + 1 :] - shared[:, None] * first
        sizes = others.square().sum(1)
        found = (others @ rest) / sizes.clamp(min=1e-18)
        left = rest - found[:, None] * others
        is_fit = (left.abs().amax(1) <= SAME * target.abs().max()) & (sizes > 1e-12)
        of_first, of_second = (total - found * shared) / norms[n], found / norms[n + 1 :]
        for i in is_fit.nonzero().flatten().tolist():
            yield [(n, float(of_first[i])), (n + 1 + i, float(of_second[i]))]


def one_hot(integers: list[Any], x: list[Tensor]) -> list[tuple[str, Tensor]]:
    """Write the first labels of the scores in x as rows of zeros and a one."""
    for leaf in integers:
        is_list = isinstance(leaf, list) and bool(leaf) and all(type(v) is int for v in leaf)
        is_array = is_list or isinstance(leaf, Tensor | np.ndarray)
        labels = torch.as_tensor(leaf) if is_array else torch.ones(())
        if labels.dtype is not torch.int64 or not labels.numel():
            continue
        labels = labels.squeeze(-1) if labels.shape[-1:] == (1,) else labels  # gather's
        is_count = labels.ndim == 1 and torch.equal(labels, torch.arange(len(labels)))
        for scores in x:
            has_rows = scores.ndim > 0 and labels.shape == scores.shape[:-1]
            if has_rows and not is_count and int(labels.max()) < scores.shape[-1]:
                classes = torch.arange(scores.shape[-1])
                return [("onehot", (labels[..., None] == classes).double())]
    return []
