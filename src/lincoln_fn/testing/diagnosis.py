"""Names for wrong gradients: the most likely mistake, given the right gradient."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

# Much larger than the errors of the oracles, much smaller than any mistake worth a name.
TOLERANCE = 1e-5


class GradientError(AssertionError):
    """Raised if a layer or loss breaks the contract; names the leaf and the likely mistake."""


def close(given: Tensor, expected: Tensor) -> bool:
    """Return whether two tensors have one shape and, up to the oracles' error, the same values.

    Args:
        given: a tensor.
        expected: the tensor that sets the scale.

    Returns:
        True if the largest difference is within 1e-5 of the largest expected value.

    Example:
        >>> close(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.00001]))
        True
    """
    if given.shape != expected.shape:
        return False
    if given.numel() == 0:
        return True
    if expected.dtype is torch.bool:  # a mask that a layer passes on
        return torch.equal(given, expected)
    return bool((given - expected).abs().max() <= TOLERANCE * expected.abs().max() + 1e-9)


def likeliest_mistake(given: Tensor, expected: Tensor, sizes: tuple[int, ...]) -> str:
    """Say what most likely went wrong in a gradient.

    Args:
        given: the wrong gradient.
        expected: the right one.
        sizes: numbers that a mean may have divided by, such as the number of examples.

    Returns:
        The end of a sentence that begins with the leaf's name.

    Example:
        >>> likeliest_mistake(torch.tensor([-1.0, 2.0]), torch.tensor([1.0, -2.0]), ())
        'has the wrong sign'
    """
    guesses = (
        _shape_guesses(given, expected)
        if given.shape != expected.shape
        else _guesses(given, expected, sizes)
    )
    return next(guesses)


def _shape_guesses(given: Tensor, expected: Tensor) -> Iterator[str]:
    shapes = f"shape {tuple(given.shape)}, expected {tuple(expected.shape)}"
    if given.ndim >= 2 and close(given.mT, expected):
        yield f"is transposed: {shapes}"
    extra = given.ndim - expected.ndim
    if extra > 0 and close(given.sum(tuple(range(extra))), expected):
        yield f"is not summed over the batch: {shapes}"
    if given.numel() == expected.numel() and close(given.reshape(expected.shape), expected):
        yield f"has the right values in another shape: {shapes}"
    if extra < 0 and close(given.expand(expected.shape), expected):
        yield f"is summed over axes that it should keep: {shapes}"
    yield f"has {shapes}"


def _guesses(given: Tensor, expected: Tensor, sizes: tuple[int, ...]) -> Iterator[str]:
    if close(given, torch.zeros_like(expected)):
        yield "is zero"
    if close(-given, expected):
        yield "has the wrong sign"
    yield from _scale_guesses(given, expected, sizes)
    yield from _order_guesses(given, expected)
    wrong = (given - expected).abs()
    bad = wrong > TOLERANCE * expected.abs().max()
    worst = int(wrong.argmax())
    place = [int(i) for i in torch.unravel_index(torch.tensor(worst), wrong.shape)]
    example = f"{given.flatten()[worst]:.6g} at {place}, expected {expected.flatten()[worst]:.6g}"
    count = f"wrong in {int(bad.sum())} of {bad.numel()} places"
    yield f"is {count}, a term missing or wrong: {example}"


def _scale_guesses(given: Tensor, expected: Tensor, sizes: tuple[int, ...]) -> Iterator[str]:
    ratio = ((given * expected).sum() / (expected * expected).sum()).item()
    if ratio == 0 or not close(given / ratio, expected):
        return
    size = ratio if abs(ratio) > 1 else 1 / ratio
    direction = "large" if abs(ratio) > 1 else "small"
    guess = ""
    if any(abs(size - n) < 1e-4 * n for n in sizes):
        guess = ": summed where forward averages?" if abs(ratio) > 1 else ": averaged twice?"
    yield f"is {size:.6g} times too {direction}{guess}"


def _order_guesses(given: Tensor, expected: Tensor) -> Iterator[str]:
    if given.ndim >= 2 and given.shape[-1] == given.shape[-2] and close(given.mT, expected):
        yield "is transposed"
    for dim in range(given.ndim):
        if close(given.flip(dim), expected):
            yield f"is reversed along axis {dim}"
        for shift in (1, -1):
            if close(given.roll(shift, dim), expected):
                yield f"is shifted by {-shift} along axis {dim}"
    if close(given.flatten().sort().values, expected.flatten().sort().values):
        yield "has the right values in the wrong places: reshaped where it should be transposed?"
    for dim in range(given.ndim):
        if close(given, expected.sum(dim, keepdim=True).expand_as(expected)):
            yield f"is summed over axis {dim}, which it should keep"
