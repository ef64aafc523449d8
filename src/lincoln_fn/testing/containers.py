"""Gradients in other containers than those of x and params: their numbers are judged as well."""

from __future__ import annotations

from typing import TypeAlias

import attrs
import torch

from lincoln_fn.core import Arrays, Cache, Layer, Params, is_derived, tree
from lincoln_fn.testing.diagnosis import Finding, GradientError

# Trees by "dx" and "dparams".
Both: TypeAlias = dict[str, Arrays]
_OTHER = {"dx": "dparams", "dparams": "dx"}


class ContainerError(GradientError):
    """Raised if gradients do not have the structure of x and params."""

    def __init__(self, sentence: str, expected: Both, given: Both) -> None:
        super().__init__(sentence)
        # What x and params are, with None for what has no gradient.
        self.expected = expected
        fits = {(a, b): _fits(expected[a], given[b]) for a in expected for b in expected}
        is_crossed = fits["dx", "dparams"] and fits["dparams", "dx"]
        self.is_swapped = is_crossed and not (fits["dx", "dx"] and fits["dparams", "dparams"])
        self.missing = [half for half in expected if not fits[half, half]]
        # By half, what is said of it.
        self.slips = {
            half: f"{half} is a {type(given[half]).__name__}, "
            f"expected a {type(expected[half]).__name__}"
            for half in expected
            if not tree.same_structure(expected[half], given[half])
        }

    def mended(self, layer: Layer) -> Layer:
        """Make the layer whose backward returns the same numbers in the right containers."""

        def backward(params: Params, cache: Cache, g: Arrays) -> tuple[Arrays, Params]:
            dx, dparams = layer.backward(params, cache, g)
            if self.is_swapped:
                dx, dparams = dparams, dx
            return _as(self.expected["dx"], dx), _as(self.expected["dparams"], dparams)

        halves = {
            half: getattr(layer, half)
            for half in ("grads", "input_grad")
            if not is_derived(layer, half)
        }
        return layer.replace(backward=backward, **halves)

    @property
    def name(self) -> str:
        """The name of the mistake."""
        return "swapped" if self.is_swapped else "container"

    def told_of(self, finding: Finding) -> Finding:
        """Add to what was found of a gradient that it has right numbers in another container."""
        half = finding.leaf.partition(".")[0]
        is_missing = half in self.missing and not self.is_swapped
        if half not in self.expected or not (finding.verdict == "right" or is_missing):
            return finding
        if self.is_swapped:
            told = f"is in the place of {_OTHER[half]}: backward returns (dparams, dx)"
        elif half in self.slips:
            how = "is missing" if is_missing else "has the right values in another container"
            told = f"{how}: {self.slips[half]}"
        else:
            return finding
        sentence = f"{finding.layer}: {finding.leaf} {told}"
        return attrs.evolve(finding, verdict="wrong", name=self.name, sentence=sentence)


def _fits(expected: Arrays, given: Arrays) -> bool:
    """Return whether gradients have the shapes of what they are of."""
    both = (sorted(leaf.shape for leaf in tree.leaves(each)) for each in (expected, given))
    return next(both) == next(both)


def _as(expected: Arrays, given: Arrays) -> Arrays:
    """Put gradients into a container, by name or in their order; zeros if they do not fit."""
    named = dict(zip(tree.paths(given), tree.leaves(given), strict=True))
    paths = tree.paths(expected)
    leaves = [named[path] for path in paths] if named.keys() == {*paths} else [*named.values()]
    if [leaf.shape for leaf in leaves] != [leaf.shape for leaf in tree.leaves(expected)]:
        return tree.map(torch.zeros_like, expected)
    found = iter(leaves)
    return tree.map(lambda _: next(found), expected)
