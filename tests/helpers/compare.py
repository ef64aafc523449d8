"""The three comparisons of the tests: `same_bits`, `same_number` and `same_statistics`.

The same code on the same numbers in the same process gives `same_bits`: a resumed run, a replay,
a world of processes, a pure function called twice, numbers that were saved or only moved. Two
ways to compute a number give the `same_number`, up to rounding, which differs from processor to
processor: a formula and its faster version, a compiled step, autograd, an example worked out by
hand. Random draws have the `same_statistics` as their distribution, up to their standard error.

Each returns a `Comparison`, to be asserted: `assert same_bits(y, again)`.
"""

import math

import attrs
import numpy as np
import torch

import lincoln_fn as lf

HALVES = torch.bfloat16, torch.float16


@attrs.frozen
class Comparison:
    """What a comparison found: true if nothing differs, and otherwise the difference in words."""

    difference: str = ""

    def __bool__(self):
        return not self.difference

    def __repr__(self):
        return self.difference or "the same"


def same_bits(given, expected):
    """Compare two trees by structure, shapes, dtypes and every bit: nan equals nan, 0 is not -0."""

    def difference(_, ours, theirs):
        differs = torch.ne(_bytes_of(ours), _bytes_of(theirs)).any(1)
        if differs.any():
            first = differs.nonzero()[0].item()
            pair = ours.flatten()[first].item(), theirs.flatten()[first].item()
            return f"{differs.sum()} of {len(differs)} differ, first {pair[0]!r}, not {pair[1]!r}"
        return ""

    return _compare(given, expected, difference, None)


def same_number(given, expected, *, terms=None, length=256, results=4, error=0.0, dtype=None):
    """Compare two trees by structure, shapes, dtypes and numbers, up to their rounding errors.

    A sum of n numbers t of one size and random signs is about sqrt(n) t. Each of its roundings is
    off by up to eps/2 of what has been summed so far; all of them by no more than n eps sqrt(n) t,
    which is n eps times the result. A rounding elsewhere (a product, exp, a division) counts as
    one term more. So a number may be off by

        (length * eps(dtype) + error) * terms

    where `length` counts the roundings on the way to a number and `terms` is the size of what was
    summed. 256 roundings suffice for the layers, losses and small networks of these tests. They
    are 3e-5 in float32 and 6e-14 in float64. bfloat16 and float16 are summed in float32, and each
    result is rounded once, by up to eps(dtype) on another processor: `results` eps(dtype) more.

    Args:
        given: the tree to test.
        expected: the tree to hold it against. Integers must be equal; so must infinities, and
            nan equals nothing.
        terms: the size of the terms, where they cancel and their sum is small: a number, a tensor
            (for each element its own size) or a tree like `expected`. None: the largest finite
            number of the leaf.
        length: how many roundings a number has gone through.
        results: how many results of bfloat16 or float16 lie on the way to a number.
        error: the relative error of a method that is not exact by itself: what a solver stops at,
            the step of a finite difference, a constant that the other way does not add.
        dtype: that of the computation, where the leaves do not show it: floats, or a tensor of
            float32 against an exact one of float64. dtypes are then not compared.
    """
    sizes = None if terms is None or _is_leaf(terms) else lf.tree.leaves(terms, states=True)

    def difference(i, ours, theirs):
        if not theirs.is_floating_point():
            return "" if torch.equal(ours, theirs) else f"{_head(ours)}, not {_head(theirs)}"
        size = terms if sizes is None else sizes[i]
        computed_in = dtype or theirs.dtype
        ours, theirs = ours.double(), theirs.double()
        if size is None:
            size = largest(theirs)
        off = torch.where(ours == theirs, 0.0, (ours - theirs).abs())
        # Below the normal range, a processor may flush to zero.
        tiny = torch.finfo(computed_in).tiny
        allowed = (_relative(computed_in, length, results) + error) * size + tiny
        beyond = ~(off <= allowed)
        if beyond.any():
            worst = torch.where(beyond, off.nan_to_num(math.inf), -1.0).argmax()
            limit = torch.as_tensor(allowed).expand(off.shape).flatten()[worst]
            return (
                f"{beyond.sum()} of {off.numel()} are off, the worst {ours.flatten()[worst]:.9g}, "
                f"not {theirs.flatten()[worst]:.9g}: by {off.flatten()[worst]:.3g}, and up to "
                f"{limit:.3g} is rounding"
            )
        return ""

    return _compare(given, expected, difference, dtype)


def same_statistics(draws, *, mean=None, std=None, sigmas=5):
    """Compare the mean and the standard deviation of independent draws with the true ones.

    The mean of n draws has the standard error std / sqrt(n), and their standard deviation has
    sqrt((m4 / std^2 - std^2) / n) / 2, where m4 is the fourth central moment. Right draws are more
    than five standard errors off once in two million times; a tenth of std is found in 2,500.

    Args:
        draws: shape (n, *rest), draws along the first axis.
        mean: the true mean, which broadcasts with rest; None: it is not compared.
        std: the true standard deviation, likewise.
        sigmas: how many standard errors are allowed.
    """
    draws, n = torch.as_tensor(draws).double(), len(draws)
    centred = draws - draws.mean(0)
    variance, m4 = centred.square().mean(0), centred.square().square().mean(0)
    for name, found, true, error in (
        ("mean", draws.mean(0), mean, (variance / n).sqrt()),
        ("std", variance.sqrt(), std, ((m4 / variance - variance).clamp(min=0) / n).sqrt() / 2),
    ):
        if true is not None:
            off = (found - true).abs()
            beyond = ~(off <= sigmas * error + 1e-12 * found.abs())
            if beyond.any():
                return Comparison(
                    f"{name}: {_head(found)}, not {_head(torch.as_tensor(true))}: "
                    f"{(off / error).max():.3g} standard errors"
                )
    return Comparison()


def largest(tree):
    """Give the largest finite size of a tree's floating numbers, as `terms` of what cancels."""
    leaves = [leaf for leaf in lf.tree.leaves(tree) if leaf.is_floating_point() and leaf.numel()]
    return max(
        (leaf.detach().double().abs().nan_to_num(0, 0).max().item() for leaf in leaves), default=0.0
    )


def _compare(given, expected, difference, dtype):
    """Compare leaf by leaf, after the structure, the shapes and, unless given, the dtypes."""
    if not lf.tree.same_structure(given, expected, states=True):
        mine, theirs = (lf.tree.paths(tree, states=True) for tree in (given, expected))
        return Comparison(f"another structure: {type(given)} {mine}, not {type(expected)} {theirs}")
    leaves = (lf.tree.leaves(tree, states=True) for tree in (given, expected))
    paths = lf.tree.paths(expected, states=True)
    for i, (path, *pair) in enumerate(zip(paths, *leaves, strict=True)):
        if not all(map(_is_leaf, pair)):
            found = "" if pair[0] == pair[1] else f"{pair[0]!r}, not {pair[1]!r}"
        else:
            ours, theirs = _tensors(*pair)
            if ours.shape != theirs.shape:
                found = f"shape {tuple(ours.shape)}, not {tuple(theirs.shape)}"
            elif dtype is None and ours.dtype is not theirs.dtype:
                found = f"{ours.dtype}, not {theirs.dtype}"
            else:
                found = difference(i, ours, theirs)
        if found:
            return Comparison(f"{path}: {found}" if path else found)
    return Comparison()


def _is_leaf(leaf):
    return isinstance(leaf, torch.Tensor | np.ndarray | np.generic | bool | int | float)


def _tensors(*pair):
    """Make tensors; a number of Python's has the dtype of what it is compared with."""
    plain = [type(leaf) in (int, float) for leaf in pair]
    ours, theirs = (
        torch.tensor(leaf, dtype=torch.float64 if any(type(n) is float for n in pair) else None)
        if is_plain
        else torch.as_tensor(leaf).detach()
        for leaf, is_plain in zip(pair, plain, strict=True)
    )
    if plain == [True, False]:
        ours = ours.to(theirs.dtype)
    if plain == [False, True]:
        theirs = theirs.to(ours.dtype)
    return ours, theirs


def _bytes_of(leaf):
    flat = leaf.reshape(-1).clone(memory_format=torch.contiguous_format)
    return flat.view(torch.uint8).reshape(leaf.numel(), leaf.element_size())


def _relative(dtype, length, results):
    if dtype in HALVES:
        return results * torch.finfo(dtype).eps + length * torch.finfo(torch.float32).eps
    return length * torch.finfo(dtype).eps


def _head(leaf):
    return f"{leaf.flatten()[:4].tolist()}"
