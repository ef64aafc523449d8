"""The gradient at other arguments: another value of x or of a parameter, or another cache."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import torch
from torch import Tensor

from lincoln_fn.core import tree
from lincoln_fn.testing.diagnosis import close
from lincoln_fn.testing.evidence import Evidence
from lincoln_fn.testing.hypotheses.hypothesis import Cost, Guess, Hypothesis
from lincoln_fn.testing.sample import mirrored

# The diagonal takes one backward pass for each element.
LARGEST = 400


def _keep_diagonal(evidence: Evidence) -> Iterator[Guess]:
    """Keep of the Jacobian of an array only its diagonal, y_i by x_i."""
    found: list[Tensor | None] = []
    for i, array in enumerate(evidence.sample.arrays):
        g = evidence.g[0] if len(evidence.g) == 1 else None
        if g is None or array.shape != g.shape or not 0 < g.numel() <= LARGEST:
            found.append(None)
            continue
        entries = []
        for j, value in enumerate(g.flatten()):
            one = torch.zeros_like(g).flatten()
            one[j] = value
            rows = evidence.gradients(g=one.view(g.shape))
            entries.append(rows[i].flatten()[j] if rows else torch.nan * value)
        found.append(torch.stack(entries).view(g.shape))
    yield Guess(found)


def _change_values(evidence: Evidence) -> Iterator[Guess]:
    """Give one array another value: y, g, its negative or transpose, or another array."""
    names, arrays = _list_arrays(evidence)
    for i, (what, array) in enumerate(zip(names, arrays, strict=True)):
        others = [(f"{said} in place of {what}", v) for said, v in _list_others(evidence, i)]
        if array.ndim >= 2:
            others.append((f"{what} transposed", array.mT))
            others.append((f"{what} with its first two axes exchanged", array.transpose(0, 1)))
        others += [
            (f"{what} reversed along axis {axis}", array.flip(axis)) for axis in range(array.ndim)
        ]
        if array.ndim > 2:
            others.append((f"{what} reversed along its last two axes", array.flip(-2, -1)))
        for words, value in others:
            if value.shape == array.shape:
                moved = [*arrays[:i], value, *arrays[i + 1 :]]
                yield Guess([*evidence.gradients(moved)], {"words": words})


def _exchange(evidence: Evidence) -> Iterator[Guess]:
    names, arrays = _list_arrays(evidence)
    for i, j in combinations(range(len(arrays)), 2):
        if arrays[i].shape == arrays[j].shape:
            moved = list(arrays)
            moved[i], moved[j] = arrays[j], arrays[i]
            words = f"{names[i]} and {names[j]} exchanged"
            yield Guess([*evidence.gradients(moved)], {"words": words})


def _list_arrays(evidence: Evidence) -> tuple[list[str], list[Tensor]]:
    return [name.removeprefix("d") for name in evidence.sample.names], evidence.sample.arrays


def _list_others(evidence: Evidence, i: int) -> Iterator[tuple[str, Tensor]]:
    names, arrays = _list_arrays(evidence)
    yield from (("y", y) for y in evidence.y[:1])
    yield from (("g", g) for g in evidence.g[:1])
    yield f"-{names[i]}", -arrays[i]
    yield "zeros", torch.zeros_like(arrays[i])
    yield "ones", torch.ones_like(arrays[i])
    yield from ((names[j], arrays[j]) for j in range(len(arrays)) if j != i)


def _exchange_caches(evidence: Evidence) -> Iterator[Guess]:
    """Run the submitted backward with x for y in its cache, or y for x."""
    # If that gives the right gradients, the guess is the submitted ones.
    sample, xs, ys = evidence.sample, evidence.x, evidence.y
    for used, old, needed, new in (("x", xs, "y", ys), ("y", ys, "x", xs)):
        for was, becomes in ((a, b) for a in old for b in new if a.shape == b.shape):
            changed = tree.map(
                lambda leaf, was=was, becomes=becomes: becomes if _is_equal(leaf, was) else leaf,
                sample.cache,
            )
            try:
                dx, dparams = sample.layer.backward(sample.params, changed, sample.g)
                of = (sample.params, sample.x)
                found = mirrored(sample.layer.name, sample.names, of, (dparams, dx))
            except Exception:  # a submission may fail in any way
                continue
            triples = zip(found, evidence.given, evidence.expected, strict=True)
            guesses = [given if close(now, right) else None for now, given, right in triples]
            yield Guess([*guesses], {"used": used, "needed": needed})


def _is_equal(leaf: object, array: Tensor) -> bool:
    return isinstance(leaf, Tensor) and leaf.shape == array.shape and bool((leaf == array).all())


HYPOTHESES = [
    Hypothesis("diagonal", "has only the diagonal of the Jacobian: each x also changes the other y",
               _keep_diagonal, Cost.ANOTHER),
    Hypothesis("at x for y", "uses {used} of the cache where the formula needs {needed}",
               _exchange_caches, Cost.ANOTHER),
    Hypothesis("at other values", "is computed with {words}", _change_values, Cost.ANOTHER),
    Hypothesis("exchanged", "is computed with {words}", _exchange, Cost.ANOTHER),
]  # fmt: skip
