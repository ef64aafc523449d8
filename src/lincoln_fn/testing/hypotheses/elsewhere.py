"""The gradient at other arguments: another value of x or of a parameter."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from lincoln_fn.testing.evidence import Evidence
from lincoln_fn.testing.hypotheses.hypothesis import Cost, Guess, Hypothesis


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


HYPOTHESES = [
    Hypothesis("at other values", "is computed with {words}", _change_values, Cost.ANOTHER),
]  # fmt: skip
