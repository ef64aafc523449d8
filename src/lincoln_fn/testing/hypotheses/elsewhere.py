"""The gradient at other arguments: another value of x or of a parameter, or another cache."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from lincoln_fn import tree
from lincoln_fn.testing.diagnosis import close
from lincoln_fn.testing.evidence import Evidence
from lincoln_fn.testing.hypotheses.hypothesis import Guess, Hypothesis
from lincoln_fn.testing.sample import mirrored


def _changed(evidence: Evidence, i: int, to: Tensor, **words: object) -> Iterator[Guess]:
    arrays = list(evidence.sample.arrays)
    arrays[i] = to
    yield Guess([*evidence.gradients(arrays)], words)


def _values(evidence: Evidence) -> Iterator[Guess]:
    """Give one array another value: y, g, its negative or transpose, or another array."""
    names, arrays = evidence.sample.names, evidence.sample.arrays
    for i, (name, array) in enumerate(zip(names, arrays, strict=True)):
        what = name.removeprefix("d")
        others = {
            f"y in place of {what}": evidence.y[0] if evidence.y else None,
            f"g in place of {what}": evidence.g[0] if evidence.g else None,
            f"-{what} in place of {what}": -array,
        }
        if array.ndim >= 2:
            others[f"{what} transposed"] = array.mT
            others[f"{what} with its first two axes exchanged"] = array.transpose(0, 1)
        for axis in range(array.ndim):
            others[f"{what} reversed along axis {axis}"] = array.flip(axis)
        if array.ndim > 2:
            others[f"{what} reversed along its last two axes"] = array.flip(-2, -1)
        others[f"zeros in place of {what}"] = torch.zeros_like(array)
        others[f"ones in place of {what}"] = torch.ones_like(array)
        for j, other in enumerate(arrays):
            if j != i:
                others[f"{names[j].removeprefix('d')} in place of {what}"] = other
        for words, value in others.items():
            if value is not None and value.shape == array.shape:
                yield from _changed(evidence, i, value, words=words)


def _exchanged(evidence: Evidence) -> Iterator[Guess]:
    names, arrays = evidence.sample.names, evidence.sample.arrays
    for i in range(len(arrays)):
        for j in range(i):
            if arrays[i].shape == arrays[j].shape:
                moved = list(arrays)
                moved[i], moved[j] = arrays[j], arrays[i]
                first, second = names[j].removeprefix("d"), names[i].removeprefix("d")
                yield Guess(
                    [*evidence.gradients(moved)], {"words": f"{first} and {second} exchanged"}
                )


def _caches(evidence: Evidence) -> Iterator[Guess]:
    """Run the submitted backward with x for y in its cache, or y for x.

    If that gives the right gradients, the guess is the submitted ones.
    """
    sample, xs, ys = evidence.sample, evidence.x, evidence.y
    for name, old, other, new in (
        ("x", xs, "y", ys), ("y", ys, "x", xs),
    ):  # fmt: skip
        for was in old:
            for becomes in new:
                if was.shape != becomes.shape:
                    continue
                changed = tree.map(
                    lambda leaf, was=was, becomes=becomes: becomes if _equal(leaf, was) else leaf,
                    sample.cache,
                )
                try:
                    dx, dparams = sample.layer.backward(sample.params, changed, sample.g)
                    found = mirrored(
                        sample.layer.name, sample.names, (sample.params, sample.x), (dparams, dx)
                    )
                except Exception:  # a submission may fail in any way
                    continue
                guesses = [
                    given if close(now, right) else None
                    for now, given, right in zip(
                        found, evidence.given, evidence.expected, strict=True
                    )
                ]
                yield Guess([*guesses], {"used": name, "needed": other})


def _equal(leaf: object, array: Tensor) -> bool:
    return isinstance(leaf, Tensor) and leaf.shape == array.shape and bool((leaf == array).all())


HYPOTHESES = [
    Hypothesis(
        "at x for y",
        "uses {used} of the cache where the formula needs {needed}",
        _caches,
    ),
    Hypothesis("at other values", "is computed with {words}", _values),
    Hypothesis("exchanged", "is computed with {words}", _exchanged),
]
