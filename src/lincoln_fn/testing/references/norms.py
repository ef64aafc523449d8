"""Norms, softmax, and functions of one number."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import combinations, permutations

import torch
from torch import Tensor

from lincoln_fn.testing.references.known import Candidates, Known, apply

# What may be the epsilon of a norm.
LARGEST_EPS = 1e-1


def normalise(x: Tensor, axes: tuple[int, ...], eps: float = 1e-5) -> Tensor:
    """Subtract the mean along axes, and divide by the standard deviation."""
    centred = x - x.mean(axes, keepdim=True)
    variance = (centred**2).mean(axes, keepdim=True)
    return centred / torch.sqrt(variance + eps)


def batch_norm(
    x: Tensor, gamma: Tensor | None = None, beta: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """Normalise each feature, or each channel of images, over the batch."""
    axes = (0, *range(2, x.ndim))
    return scale_and_shift(normalise(x, axes, eps), gamma, beta, 1)


def layer_norm(
    x: Tensor, gamma: Tensor | None = None, beta: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """Normalise each example over its features."""
    return scale_and_shift(normalise(x, (-1,), eps), gamma, beta, x.ndim - 1)


def group_norm(
    x: Tensor, gamma: Tensor, beta: Tensor | None, groups: int, eps: float = 1e-5
) -> Tensor:
    """Normalise each group of channels of each example."""
    grouped = x.reshape(len(x), groups, -1)
    return scale_and_shift(normalise(grouped, (-1,), eps).reshape(x.shape), gamma, beta, 1)


def scale_and_shift(x: Tensor, gamma: Tensor | None, beta: Tensor | None, axis: int) -> Tensor:
    """Multiply by gamma and add beta, which lie along one axis."""
    y = x if gamma is None else x * _along(gamma, x, axis)
    return y if beta is None else y + _along(beta, x, axis)


def _lies_along(values: Tensor, x: Tensor, axis: int) -> bool:
    """Return whether there is a number for each place of one axis, or for each place of x."""
    return values.numel() == x.shape[axis] or values.shape == x.shape


def _along(values: Tensor, x: Tensor, axis: int) -> Tensor:
    if values.numel() != x.shape[axis]:
        return values
    return values.reshape([-1 if n == axis else 1 for n in range(x.ndim)])


def find_norm(known: Known) -> Candidates:
    """List norms along all axes and groups, with the epsilon that the output shows."""
    (y,) = known.y
    for x, gamma, beta in _list_parameters(known):
        if known.arrays[x].shape != y.shape or y.ndim < 2:
            continue
        scales = [known.arrays[i] for i in (gamma, beta) if i is not None]
        for axis in range(y.ndim):
            if not all(_lies_along(s, y, axis) for s in scales):
                continue
            x_hat = _undo(known, gamma, beta, axis)
            for shape, axes in _list_views(y.shape):
                eps = _fit_eps(known.arrays[x].reshape(shape), x_hat.reshape(shape), axes)
                if eps is not None:
                    yield apply(
                        _normalise_view, x, gamma, beta, shape=shape, axes=axes, axis=axis, eps=eps
                    )
            if not scales:
                break


def _list_parameters(known: Known) -> Iterator[tuple[int, int | None, int | None]]:
    count = len(known.arrays)
    if count == 1:
        yield 0, None, None
    elif count == 2:
        yield from ((x, gamma, None) for x, gamma in ((0, 1), (1, 0)))
    elif count == 3:
        yield from permutations(range(3))


def _undo(known: Known, gamma: int | None, beta: int | None, axis: int) -> Tensor:
    """Take beta and gamma away from y."""
    (y,) = known.y
    x_hat = y if beta is None else y - _along(known.arrays[beta], y, axis)
    return x_hat if gamma is None else x_hat / _along(known.arrays[gamma], y, axis)


def _list_views(shape: torch.Size) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """List the axes to normalise over, of the array itself and of its channels in groups."""
    axes = range(len(shape))
    for count in range(1, len(shape) + 1):
        for some in combinations(axes, count):
            yield tuple(shape), some
    for groups in range(2, shape[1]) if len(shape) > 2 else ():
        if shape[1] % groups == 0:
            yield (shape[0], groups, shape[1:].numel() // groups), (2,)


def _fit_eps(x: Tensor, x_hat: Tensor, axes: tuple[int, ...]) -> float | None:
    """Find the epsilon that makes x_hat of x; None if none does."""
    centred = x - x.mean(axes, keepdim=True)
    variance = centred.square().mean(axes, keepdim=True)
    rstd = (centred * x_hat).mean(axes, keepdim=True) / variance
    if not bool((rstd > 0).all()) or not torch.allclose(centred * rstd, x_hat, rtol=1e-6):
        return None
    found = rstd**-2 - variance
    eps = float(found.median())
    # A round number fits exactly.
    eps = float(f"{eps:.1e}") if eps > 1e-13 else 0.0
    slack = 1e-9 * float(variance.max()) + 1e-14
    fits = bool(((found - eps).abs() <= slack + 1e-3 * eps).all())
    return eps if fits and eps <= LARGEST_EPS else None


def _normalise_view(
    x: Tensor,
    gamma: Tensor | None,
    beta: Tensor | None,
    *,
    shape: tuple[int, ...],
    axes: tuple[int, ...],
    axis: int,
    eps: float,
) -> Tensor:
    y = x if tuple(x.shape) == shape else x.reshape(shape)
    y = normalise(y, axes, eps)
    y = y if y.shape == x.shape else y.reshape(x.shape)
    return scale_and_shift(y, gamma, beta, axis)


def find_softmax(known: Known) -> Candidates:
    """List softmax and log-softmax along each axis."""
    (y,) = known.y
    if len(known.arrays) == 1 and known.arrays[0].shape == y.shape:
        for function in (torch.softmax, torch.log_softmax):
            for axis in range(y.ndim):
                yield apply(function, 0, dim=axis)


def find_mask(known: Known) -> Candidates:
    """List products of x with a constant that is 0 or one number, as dropout's is."""
    (y,) = known.y
    if len(known.arrays) != 1 or known.arrays[0].shape != y.shape:
        return
    x = known.arrays[0]
    mask = torch.where(x == 0, 0, y / x)
    kept = mask[mask.abs() > 1e-12]
    if kept.numel() and bool(((kept - kept[0]).abs() < 1e-9).all()):
        mask = torch.where(mask.abs() > 1e-12, kept[0], 0.0)
        yield apply(partial(torch.mul, mask), 0)
