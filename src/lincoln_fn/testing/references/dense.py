"""Products: affine layers and embeddings; and activations."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

import torch
from torch import Tensor

from lincoln_fn.testing.hypotheses.others import list_functions
from lincoln_fn.testing.references.known import Candidates, Known, apply, choose

Product: TypeAlias = Callable[[Tensor, Tensor, "Tensor | None"], Tensor]


def affine(x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    """Compute x w + b, with all axes of x but the first as one."""
    y = x.reshape(len(x), -1) @ w
    return y if b is None else y + b


def linear(x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    """Compute x w + b along the last axis."""
    y = x @ w
    return y if b is None else y + b


def embedding(x: Tensor, w: Tensor) -> Tensor:
    """Take the rows of w that x names."""
    rows: Tensor = w[x]
    return rows


def find_affine(known: Known) -> Candidates:
    """List products of x with a matrix, with a bias or without."""
    (y,) = known.y
    for x, w, b in (*choose(known, None, 2, 1), *choose(known, None, 2, 2), *_without_bias(known)):
        assert x is not None
        assert w is not None
        shape = known.arrays[x].shape
        if not shape or (b is not None and known.arrays[b].numel() != y.shape[-1:].numel()):
            continue
        for turned in (False, True):
            rows, columns = known.arrays[w].shape[:: -1 if turned else 1]
            if columns == y.shape[-1:].numel() and shape[-1] == rows:
                yield apply(_product, x, w, b, of=linear, turned=turned, shape=y.shape)
            if y.shape == (shape[0], columns) and shape[1:].numel() == rows:
                yield apply(_product, x, w, b, of=affine, turned=turned, shape=y.shape)


def _product(
    x: Tensor, w: Tensor, b: Tensor | None, of: Product, turned: bool, shape: torch.Size
) -> Tensor:
    y = of(x, w.mT if turned else w, b)
    return y if y.shape == shape else y.reshape(shape)


def _without_bias(known: Known) -> list[tuple[int | None, ...]]:
    return [(x, w, None) for x, w in choose(known, None, 2)]


def find_embedding(known: Known) -> Candidates:
    """List the rows of a matrix that integers name."""
    for x in known.integers:
        for (w,) in choose(known, 2):
            yield apply(partial(embedding, x), w)


def find_activation(known: Known) -> Candidates:
    """List the library's activations of one array."""
    (y,) = known.y
    if len(known.arrays) == 1 and known.arrays[0].shape == y.shape:
        for function in list_functions().values():
            yield apply(function, 0)
        yield from _find_slope(known.arrays[0], y)


def _find_slope(x: Tensor, y: Tensor) -> Candidates:
    """List the leaky ReLU whose slope the output shows."""
    below = x < 0
    if bool(below.any()):
        slope = float((y[below] / x[below]).median())
        yield apply(_leak, 0, slope=slope)


def _leak(x: Tensor, slope: float) -> Tensor:
    return torch.where(x > 0, x, slope * x)
