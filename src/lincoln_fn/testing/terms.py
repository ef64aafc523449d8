"""The difference between a wrong gradient and the right one, as one or two terms at hand.

A term is a product of values at hand with a sum of others along axes. Least squares give its
coefficient, which has to be a simple fraction.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations_with_replacement
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lincoln_fn.testing.relations import SAME, Relation, list_axes, same, simple, subsets

MOST_FACTORS = 5
# So many terms are tried alone, and the first of them in pairs.
MOST_TERMS, MOST_PAIRED = 3000, 1500
# Of more numbers than these, the first ones stand for all until a term fits.
SAMPLED = 24
Hand = Sequence[tuple[str, Tensor]]


def of_factor(given: Tensor, right: Tensor, hand: Hand) -> Iterator[Relation]:
    """Find a value at hand that one gradient has as a further factor."""
    if not _counts(right, given):
        return
    for name, value in hand:
        try:
            lacking, further = given * value, right * value
        except RuntimeError:  # the shapes do not fit
            continue
        if same(lacking, right):
            yield "factor missing", f"lacks the factor {name}"
        if same(further, given):
            yield "further factor", f"has the further factor {name}"
        if same(lacking * value, right):
            yield "divided", f"is divided by {name}, where it should be multiplied"
        if same(given, further * value):
            yield "multiplied", f"is multiplied by {name}, where it should be divided"


def _counts(right: Tensor, given: Tensor) -> bool:
    """Return whether a gradient is more than what rounding leaves beside another."""
    return bool(right.abs().max() > 1e-9 * given.abs().max()) if right.numel() else False


def of_sums(given: Tensor, right: Tensor, gs: Hand, hand: Hand) -> Iterator[Relation]:
    """Find what was summed over other axes."""
    for g_name, g in gs:
        for name, value in [("", torch.ones(())), *hand]:
            try:
                product = g * value
            except RuntimeError:  # the shapes do not fit
                continue
            if product.ndim > 4 or product.shape == right.shape:
                continue
            sums = [(axes, product.sum(axes)) for axes in subsets(product.ndim)]
            should = next((axes for axes, s in sums if _equal(s, right)), None)
            did = next((axes for axes, s in sums if _equal(s, given)), None)
            if should is not None and did is not None and did != should:
                what = _times(g_name, name)
                told = (
                    f"the sum of {what} over {list_axes(did)}; it belongs over {list_axes(should)}"
                )
                yield "wrong axes", f"is {told}"


def _equal(total: Tensor, gradient: Tensor) -> bool:
    is_size = total.numel() == gradient.numel()
    return is_size and same(total.flatten(), gradient.flatten())


def of_terms(given: Tensor, right: Tensor, gs: Hand, hand: Hand) -> Iterator[Relation]:
    """Find the terms that make the difference."""
    if given.shape != right.shape or not 4 <= given.numel() <= 4096 or given.ndim > 4:
        return
    difference = given - right
    if same(given, right) or not bool(difference.isfinite().all()):
        return
    # That it differs from what equals the right gradient says nothing.
    others = [(name, g) for name, g in gs if not same(g, right)]
    names, terms = _list_terms(difference.shape, others, hand)
    if not names:
        return
    rows, target = torch.stack(terms), difference.flatten()
    for said in _of_one(names, rows, target):
        yield "term", f"is its gradient {said}"
    for said in _of_pairs(names, rows[:MOST_PAIRED], target):
        yield "term", f"is its gradient {said}"


def _list_terms(shape: torch.Size, gs: Hand, hand: Hand) -> tuple[list[str], list[Tensor]]:
    """List the terms of a shape, each once, those of few factors first."""
    names: list[str] = []
    terms: list[Tensor] = []
    seen: set[tuple[float, ...]] = set()
    for name, value in _every_term(shape, gs, hand):
        term = value.expand(shape).flatten()
        scale = float(term.abs().sum())
        key = tuple((term[:6] / scale).mul(1e9).round().tolist()) if 0 < scale < 1e30 else ()
        if key and key not in seen and tuple(-k for k in key) not in seen:
            seen.add(key)
            names.append(name or "1")
            terms.append(term)
            if len(names) == MOST_TERMS:
                break
    return names, terms


def _every_term(shape: torch.Size, gs: Hand, hand: Hand) -> Iterator[tuple[str, Tensor]]:
    fitting = [(name, value) for name, value in hand if fits(value.shape, shape)][:MOST_FACTORS]
    gs = [(name, g) for name, g in gs if fits(g.shape, shape)]
    axes: list[tuple[int, ...]] = [(a,) for a in range(len(shape))]
    axes += [some for some in (tuple(range(len(shape))),) if len(shape) > 1]
    axes += [(0, *range(2, len(shape)))] if len(shape) > 2 else []
    for count in range(4):
        if count == 2:  # what has no g is no gradient, but a decay is written so
            yield from fitting
        for factors in combinations_with_replacement(fitting, count):
            for inside in ((), *subsets(count)):
                inner = [factors[n] for n in inside]
                outer = [factors[n] for n in range(count) if n not in inside]
                for g_name, g in gs:
                    name = _times(g_name, *(n for n, _ in inner))
                    value = prod((v for _, v in inner), start=g)
                    before = _times(*(n for n, _ in outer))
                    factor = prod((v for _, v in outer), start=torch.ones(()))
                    if not outer:
                        yield name, value
                    for some in axes if value.shape == shape else ():
                        where = ", ".join(map(str, some))
                        total = factor * value.sum(some, keepdim=True)
                        yield _times(before, f"sum({name}, {where})"), total


def fits(shape: torch.Size, to: torch.Size) -> bool:
    """Return whether a tensor of a shape broadcasts to another one."""
    try:
        return np.broadcast_shapes(shape, to) == to
    except ValueError:
        return False


def _times(*names: str) -> str:
    return " ".join(name for name in names if name)


def _coefficient(number: float, name: str) -> str | None:
    fraction = simple(number)
    if fraction is None:
        return None
    size = abs(fraction)
    return f"{'-' if fraction < 0 else '+'} {'' if size == 1 else f'{size} '}{name}"


def _of_one(names: list[str], rows: Tensor, target: Tensor) -> Iterator[str]:
    found = (rows @ target) / (rows * rows).sum(1)
    left = (target - found[:, None] * rows).abs().amax(1)
    for n in (left <= SAME * target.abs().max()).nonzero().flatten().tolist():
        said = _coefficient(float(found[n]), names[n])
        if said:
            yield said


def _of_pairs(names: list[str], rows: Tensor, target: Tensor) -> Iterator[str]:
    """Solve for two terms at once: each is taken out of the others, which then have to fit."""
    if target.numel() < 6:
        return
    part = slice(None, SAMPLED)
    few, goal = rows[:, part], target[part]
    few = few / few.norm(dim=1).clamp(min=1e-30)[:, None]
    for n in range(len(few) - 1):
        first = few[n]
        rest = goal - (goal @ first) * first
        others = few[n + 1 :]
        others = others - (others @ first)[:, None] * first
        sizes = others.square().sum(1)
        left = rest - ((others @ rest) / sizes.clamp(min=1e-18))[:, None] * others
        fits = (left.abs().amax(1) <= SAME * goal.abs().max()) & (sizes > 1e-12)
        for m in fits.nonzero().flatten().tolist():
            both = torch.stack([rows[n], rows[n + 1 + m]])
            found = torch.linalg.lstsq(both.T, target[:, None]).solution.flatten()
            one = _coefficient(float(found[0]), names[n])
            two = _coefficient(float(found[1]), names[n + 1 + m])
            if one and two and same(found @ both, target):
                yield f"{one} {two}"


def one_hot(integers: list[Any], x: list[Tensor]) -> list[tuple[str, Tensor]]:
    """Write the first labels as rows of zeros and a one."""
    for leaf in integers:
        is_list = isinstance(leaf, list) and bool(leaf) and all(type(v) is int for v in leaf)
        is_array = is_list or isinstance(leaf, Tensor | np.ndarray)
        labels = torch.as_tensor(leaf) if is_array else torch.ones(())
        if labels.dtype is not torch.int64 or not labels.numel():
            continue
        labels = labels.squeeze(-1) if labels.shape[-1:] == (1,) else labels  # gather's
        is_count = labels.ndim == 1 and torch.equal(labels, torch.arange(len(labels)))
        for scores in x:
            if labels.shape == scores.shape[:-1] and not is_count:
                classes = torch.arange(scores.shape[-1])
                return [("onehot", (labels[..., None] == classes).double())]
    return []
