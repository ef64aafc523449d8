"""A layer at one point: what was given to its functions, and what they returned.

At perturbed params and x, no 1, no 0 and no symmetry hides a mistake: every number is multiplied by
a random factor of its own between 0.3 and 0.9, and a zero becomes a small number. So signs stay,
probabilities and variances stay what they are, and nothing becomes larger. What a layer needs
beyond that is found by trying: if forward raises, or gives numbers that are not finite, the numbers
change less, then leaf by leaf, and a leaf that cannot change stays.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import is_dataclass
from functools import cached_property
from typing import NamedTuple, TypeVar

import attrs
import torch
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import Arrays, Cache, Key, Layer, LayerError, Params, keys, named_leaves, tree
from lincoln_fn.testing.diagnosis import ContainerError, GradientError, not_finite, raised
from lincoln_fn.testing.oracles import Reached, differentiated, scales

T = TypeVar("T")
Rebuild = Callable[[Sequence[Tensor]], tuple[Params, Arrays]]
# By what numbers are multiplied at perturbed params and x.
FACTORS = 0.3, 0.9
# How much of the change is tried: all, a part, and that part in the other direction.
CLOSER = 0.1
STEPS = 1.0, CLOSER, -CLOSER


class Subject(NamedTuple):
    """A layer, or what is judged as one, and its arguments."""

    layer: Layer
    params: Params
    x: Arrays


@attrs.frozen(eq=False, slots=False)
class Sample:
    """A layer's forward and backward at one point."""

    layer: Layer
    params: Params
    x: Arrays
    y: Arrays
    cache: Cache
    g: Arrays
    dx: Arrays
    dparams: Params
    names: list[str]
    arrays: list[Tensor]
    given: list[Tensor]
    rebuild: Rebuild

    def forward(self, moved: Sequence[Tensor]) -> Arrays:
        """Compute y at other arrays."""
        return self.layer.forward(*self.rebuild(moved))[0]

    def at(self, moved: Sequence[Tensor]) -> Sample:
        """Make the sample of the same layer, for the same g, at other arrays."""
        return sample(self.layer, *self.rebuild(moved), self.g)

    @property
    def leaves(self) -> list[Tensor]:
        """All leaves of params and x, states included."""
        return tree.leaves((self.params, self.x), states=True)

    def with_leaves(self, leaves: Sequence[Tensor]) -> Sample:
        """Make the sample, for the same g, at other leaves of params and x, states included."""
        values = iter(leaves)
        params, x = tree.map(lambda leaf: next(values), (self.params, self.x), states=True)
        return sample(self.layer, params, x, self.g)

    def nearer(self, to: Sample) -> Sample:
        """Make the sample nearer to another one."""
        return self.with_leaves(_between(to.leaves, self.leaves, CLOSER))

    @cached_property
    def reached(self) -> Reached:
        """Autograd's gradients."""
        return differentiated(self.forward, self.arrays, self.g)

    @cached_property
    def automatic(self) -> list[Tensor] | None:
        """Autograd's gradients; None if forward leaves torch."""
        if self.reached is None:
            return None
        pairs = zip(self.arrays, self.reached, strict=True)
        return [torch.zeros_like(array) if grad is None else grad for array, grad in pairs]


def sample(layer: Layer, params: Params, x: Arrays, g: Arrays | Key) -> Sample:
    """Run a layer's forward and backward."""
    y, cache = run_forward(layer, params, x)
    cotangent = random_like(y, g) if isinstance(g, Key) else g
    gradients = run_backward(layer, params, cache, cotangent)
    return sample_of((layer, params, x), (y, cache, cotangent), gradients)


def sample_of(
    of: tuple[Layer, Params, Arrays],
    ran: tuple[Arrays, Cache, Arrays],
    gradients: tuple[Arrays, Params],
) -> Sample:
    """Make the sample of a forward and a backward that have run, with y, the cache and g."""
    layer, params, x = of
    names, arrays, rebuild = floating(params, x)
    given = mirrored(layer.name, (params, x), gradients[::-1])
    return Sample(*of, *ran, *gradients, names, arrays, given, rebuild)


def run_forward(layer: Layer, params: Params, x: Arrays) -> tuple[Arrays, Cache]:
    """Run `forward`, and raise a `GradientError` if it fails or does not return a pair."""
    return _pair(layer, "forward", ("y",), params, x)


def run_backward(layer: Layer, params: Params, cache: Cache, g: Arrays) -> tuple[Arrays, Params]:
    """Run `backward`, and raise a `GradientError` if it fails or does not return a pair."""
    return _pair(layer, "backward", ("dx", "dparams"), params, cache, g)


def _pair(
    layer: Layer, function: str, of_tensors: Sequence[str], *arguments: Arrays
) -> tuple[Arrays, Arrays]:
    try:
        result = getattr(layer, function)(*arguments)
    except (LayerError, GradientError):
        raise
    except Exception as error:
        why = _of_precision(layer, function, arguments)
        raise raised(layer.name, function, error, why) from error
    problem = core.describe_non_pair(function, result)
    if problem := problem or not_dense(dict(zip(of_tensors, result, strict=False))):
        raise GradientError(f"{layer.name}: {problem}", function)
    pair: tuple[Arrays, Arrays] = result
    return pair


def _of_precision(layer: Layer, function: str, arguments: tuple[Arrays, ...]) -> str:
    """Say whether a function that raised works in float32; "" if it does not."""
    try:
        lower = tree.map(lambda t: t.float() if core.is_floating(t) else t, arguments, states=True)
        getattr(layer, function)(*lower)
    except Exception:  # what it raises has another reason
        return ""
    return " (it takes float32, but the checker passes float64)"


def doubled(arrays: T) -> T:
    """Convert what is floating to float64, states included."""
    return tree.map(lambda t: t.double() if core.is_floating(t) else t, arrays, states=True)


def floating_leaves(arrays: Arrays) -> list[Tensor]:
    """List the floating tensors."""
    return [leaf for leaf in tree.leaves(arrays) if leaf.is_floating_point()]


def random_like(arrays: T, key: Key) -> T:
    """Draw a cotangent for an output, with different numbers for each of its tensors."""
    count = iter(range(len(tree.leaves(arrays))))

    def drawn(leaf: Tensor) -> Tensor:
        return keys.normal(key.fold_in(next(count)).near(leaf), tuple(leaf.shape), dtype=leaf.dtype)

    return tree.map(drawn, arrays)


def floating(params: Params, x: Arrays) -> tuple[list[str], list[Tensor], Rebuild]:
    """List the tensors to differentiate by, with names, and a function that replaces them."""
    both = {"dparams": params, "dx": x}
    names = [name for name, leaf in named_leaves(both) if leaf.is_floating_point()]

    def rebuild(moved: Sequence[Tensor]) -> tuple[Params, Arrays]:
        values = iter(moved)
        new = tree.map(lambda leaf: next(values) if leaf.is_floating_point() else leaf, both)
        return new["dparams"], new["dx"]

    return names, floating_leaves(both), rebuild


def mirrored(name: str, of: tuple[Params, Arrays], given: tuple[Params, Arrays]) -> list[Tensor]:
    """List the gradients as `floating` lists arrays, or say why they do not mirror these."""
    # An input that is not floating has no gradient: dx has None there.
    both = {"dparams": of[0], "dx": of[1]}
    expected = tree.map(lambda leaf: leaf if leaf.is_floating_point() else None, both)
    gradients = {"dparams": given[0], "dx": given[1]}
    names, leaves = tree.paths(expected), tree.leaves(gradients)
    if not tree.same_structure(expected, gradients):
        _check_integers(name, of, gradients)
        wanted = ", ".join(names) or "nothing"
        got = ", ".join(tree.paths(gradients)) or "nothing"
        if got != wanted:
            told = f"{name}: expected gradients {wanted}; got {got}"
            raise ContainerError(told, expected, gradients)
        raise ContainerError(f"{name}: {_other_kind(expected, gradients)}", expected, gradients)
    for path, leaf, gradient in zip(names, tree.leaves(expected), leaves, strict=True):
        for what in ("dtype", "device"):
            if getattr(leaf, what) != getattr(gradient, what):
                kinds = f"{getattr(leaf, what)}, got {getattr(gradient, what)}"
                raise GradientError(f"{name}: {path}: expected {what} {kinds}")
    return leaves


def _check_integers(name: str, of: tuple[Params, Arrays], gradients: dict[str, Arrays]) -> None:
    """Check that what is not floating has no gradient."""
    given = tree.paths(gradients)
    for path, leaf in named_leaves({"dparams": of[0], "dx": of[1]}):
        if path in given and not leaf.is_floating_point():
            holds = "bools" if leaf.dtype is torch.bool else "integers"
            where = path.removeprefix("d")
            raise GradientError(f"{name}: {path} should be None: {where} holds {holds}")


def not_dense(arrays: Arrays) -> str:
    """Tell of the first leaf that is no dense tensor; "" if all are."""
    for path, leaf in named_leaves(arrays):
        if not isinstance(leaf, Tensor):
            is_record = attrs.has(type(leaf)) or is_dataclass(leaf)
            mend = ": make its class a record by @lf.record" if is_record else ""
            return f"{path} has the type {type(leaf).__name__}, expected a tensor{mend}"
        if leaf.layout is not torch.strided:
            return f"expected {path} dense, got {leaf.layout}: write {path}.to_dense()"
    return ""


def _other_kind(expected: dict[str, Arrays], given: dict[str, Arrays]) -> str:
    """Say which of two trees with the same leaves is of another kind, such as a list."""
    path = next(key for key in given if not tree.same_structure(expected[key], given[key]))
    kinds = [type(trees[path]).__name__ for trees in (given, expected)]
    if kinds[0] == kinds[1]:
        return f"{path} has parts of other kinds than {path.removeprefix('d')}"
    return f"{path} is a {kinds[0]}, expected a {kinds[1]} as {path.removeprefix('d')} is"


def on_copies(layer: Layer) -> Layer:
    """Make the layer whose functions are given copies, so that changes in place do no harm."""

    def forward(params: Params, x: Arrays) -> tuple[Arrays, Cache]:
        y, cache = layer.forward(*tree.map(copied, (params, x), states=True))
        # A cache that y is part of may change later.
        return tree.map(copied, y), cache

    def backward(params: Params, cache: Cache, g: Arrays) -> tuple[Arrays, Params]:
        with suppress(Exception):  # a cache may hold anything
            cache = copy.deepcopy(cache)
        params, g = tree.map(copied, (params, g), states=True)
        return layer.backward(params, cache, g)

    return layer.replace(forward=forward, backward=backward)


def copied(leaf: object) -> object:
    """Copy a tensor."""
    return leaf.clone() if isinstance(leaf, Tensor) else leaf


def perturbed(at: Sample, key: Key) -> Sample | None:
    """Run a layer at perturbed params and x, states included, for the same g."""
    given = at.leaves
    movable = [i for i, leaf in enumerate(given) if is_movable(leaf)]
    if not movable:
        return None
    small, sizes = list(given), [given[i].numel() for i in movable]
    drawn = keys.uniform(key.near(given[movable[0]]), (sum(sizes),), *FACTORS)
    for i, factor in zip(movable, torch.split(drawn, sizes), strict=True):
        small[i] = _scaled(given[i], factor.view(given[i].shape).to(given[i]))
    for step in STEPS:
        if found := _tried(at, _between(given, small, step)):
            return found
    best, leaves = None, list(given)
    for i in movable:
        for step in STEPS:
            candidate = torch.lerp(given[i], small[i], step)
            if found := _tried(at, [*leaves[:i], candidate, *leaves[i + 1 :]]):
                best, leaves[i] = found, candidate
                break
    return best


def is_movable(leaf: Tensor) -> bool:
    """Return whether a leaf has floating numbers, all of them finite."""
    return core.is_floating(leaf) and leaf.numel() > 0 and bool(leaf.isfinite().all())


def _tried(at: Sample, leaves: Sequence[Tensor]) -> Sample | None:
    """Run the layer at other leaves; None if it is not defined there."""
    try:
        found = at.with_leaves(leaves)
    except (GradientError, LayerError):
        return None
    return None if not_finite(found.y) else found


def _scaled(array: Tensor, factor: Tensor) -> Tensor:
    """Multiply each number by a factor of its own; a zero changes by as much as a typical one."""
    is_zero, is_negative = array == 0, array < 0
    step = scales(array) * (1 - factor)
    if bool(is_negative.any()):  # in both directions, unless all are negative
        is_down = (factor < sum(FACTORS) / 2) | bool((is_zero | is_negative).all())
        step = torch.where(is_down, -step, step)
    return torch.where(is_zero, step, array * factor)


def _between(given: Sequence[Tensor], moved: Sequence[Tensor], step: float) -> list[Tensor]:
    pairs = zip(given, moved, strict=True)
    return [a if a is b else b if step == 1 else torch.lerp(a, b, step) for a, b in pairs]
