"""What is known of a wrong gradient: the right ones of all operations, and the values at hand."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import cached_property
from itertools import combinations
from math import prod
from types import FrameType
from typing import Any

import attrs
import numpy as np
import torch
from torch import Tensor

from lincoln_fn.core import Arrays, Key, named_leaves, tree
from lincoln_fn.testing.diagnosis import close
from lincoln_fn.testing.from_numpy import as_tensor, held_by
from lincoln_fn.testing.lines import Place, Replacements, Trace, assigned, to_tensor, trace_of
from lincoln_fn.testing.point import truth
from lincoln_fn.testing.sample import Sample, floating_leaves, on_copies, perturbed, sample
from lincoln_fn.testing.tape import Call, Tape
from lincoln_fn.testing.terms import Hand, one_hot

NOTHING = Trace({}, {})
# Of values that a term may be made of.
MOST_AT_HAND = 14
# A larger value is no factor of a term.
LARGEST = 20_000


@attrs.frozen(eq=False)
class Known:
    """A value of forward, or one for each round of a loop, with the right gradients."""

    # As forward calls it, or its code.
    name: str
    # The same, with its line where another value is called so, too.
    said: str
    values: list[Tensor]
    gradients: list[Tensor]
    calls: list[Call] = attrs.field(factory=list)

    def fits(self, values: list[Tensor], *, of_value: bool = False) -> bool:
        """Return whether the values of a line are the right gradients, or the value itself."""
        right = self.values if of_value else self.gradients
        if len(right) == 1:
            return close(values[-1], right[0])
        if len(right) != len(values):
            return False
        return any(all(map(close, values, order)) for order in (right, right[::-1]))


@attrs.frozen(eq=False)
class Run:
    """A run of backward: the gradients that it returned, and what its lines assigned."""

    given: list[Tensor]
    trace: Trace


@attrs.frozen(eq=False, slots=False)
class Evidence:
    """A layer's sample with wrong gradients, and the right ones."""

    # At a point where the layer is differentiable.
    sample: Sample
    expected: list[Tensor]

    def is_right(self, i: int) -> bool:
        """Return whether a submitted gradient is the right one."""
        return close(self.sample.given[i], self.expected[i])

    @cached_property
    def y(self) -> list[Tensor]:
        """The floating tensors of y."""
        return floating_leaves(self.sample.y)

    @cached_property
    def g(self) -> list[Tensor]:
        """The floating tensors of g."""
        return floating_leaves(self.sample.g)

    @cached_property
    def sizes(self) -> list[int]:
        """The numbers that a mean may divide by: sizes of axes, and their products."""
        shapes = [leaf.shape for leaf in (*self.y, *self.sample.arrays)]
        ends = [(s, some) for s in shapes for some in combinations(range(len(s) + 1), 2)]
        found = {shape[first:end].numel() for shape, (first, end) in ends}
        sizes = [leaf.numel() for leaf in (*floating_leaves(self.sample.x), *self.y)]
        # A pooling averages so many numbers.
        found |= {a // b for a in sizes for b in sizes if b and a % b == 0}
        return sorted(n for n in found if n > 1)

    def gradient(self, tensor: Tensor, g: Arrays) -> Tensor:
        """Compute the right gradient of one of the tape's tensors for another g."""
        assert self.tape is not None
        tape = self.tape
        return tape.flow(tape.outputs, tape.cotangents_of(g), [tensor])[0]

    @cached_property
    def _recorded(self) -> tuple[Tape | None, dict[int, str]]:
        tape, names = _record(self.sample)
        right = tape.flow(tape.outputs, tape.cotangents, tape.arrays) if tape else ()
        pairs = zip(self.expected, right, strict=False)
        return (tape if tape and all(close(*pair) for pair in pairs) else None), names

    @property
    def tape(self) -> Tape | None:
        """The operations of forward; None if autograd does not follow it."""
        return self._recorded[0]

    @cached_property
    def known(self) -> list[Known]:
        """The arrays, and the values of all operations, with their right gradients."""
        tape, names = self._recorded
        arrays, found = tape.arrays if tape else self.sample.arrays, list[Known]()
        for leaf, array, right in zip(self.sample.names, arrays, self.expected, strict=True):
            name = (names if tape else {}).get(id(array), leaf.removeprefix("d"))
            found.append(Known(name, name, [array], [right]))
        for calls in tape.sites.values() if tape else ():
            for n in range(min(len(call.outputs) for call in calls)):
                values = [call.outputs[n] for call in calls]
                name = next((names[id(v)] for v in values if id(v) in names), calls[0].short)
                is_taken = any(name == other.said for other in found)
                said = f"{name} (line {calls[0].line})" if is_taken and calls[0].line else name
                gradients = [tape.arrived(call)[n] for call in calls] if tape else []
                found.append(Known(name, said, values, gradients, calls))
        return found

    def run(self, g: Arrays, replaced: Replacements | None = None) -> Run | None:
        """Run backward, with some of what lines assign replaced; None if it fails in any way."""
        at, returned = self.sample, list[Tensor]()

        def backward() -> None:
            dx, dparams = on_copies(at.layer).backward(at.params, at.cache, g)
            returned.extend(tree.leaves({"dparams": dparams, "dx": dx}))

        try:
            with warnings.catch_warnings():  # x.T of one axis warns, say
                warnings.simplefilter("ignore")
                trace = trace_of(backward, replaced)
        except Exception:
            return None
        return Run(returned, trace) if len(returned) == len(self.expected) else None

    @cached_property
    def own(self) -> Run:
        """Backward as it is."""
        return self.run(self.sample.g) or Run(self.sample.given, NOTHING)

    @cached_property
    def scaled(self) -> Run:
        """The same for -2 g: all that is linear in g is -2 times as large."""
        found = self.run(tree.map(lambda leaf: -2 * leaf, self.sample.g))
        return found or Run([-2 * given for given in self.sample.given], NOTHING)

    @cached_property
    def is_of_one_call(self) -> bool:
        """Whether it is a loss whose gradient is computed with its value, so that g is 1 there."""
        is_loss = [g.ndim for g in self.g] == [0]
        if not (is_loss and self._still and len(self._still) == len(self.own.trace.values)):
            return False
        return all(map(close, [-2 * a for a in self.own.given], self.scaled.given))

    def for_one(self) -> Evidence:
        """Make the same for g = 1, the g of the lines of such a loss."""
        at, (g,) = self.sample, self.g
        one = sample(at.layer, at.params, at.x, tree.map(torch.ones_like, at.g))
        return Evidence(one, [right / g for right in self.expected])

    @property
    def constants(self) -> list[Place]:
        """The lines of backward whose values depend on no g."""
        return [] if self.is_of_one_call else self._still

    @cached_property
    def _still(self) -> list[Place]:
        """The lines whose values stay when g changes."""
        own, other, none = self.own.trace.values, self.scaled.trace.values, [torch.zeros(())]
        return [p for p, values in own.items() if all(map(torch.equal, values, other.get(p, none)))]

    def _is_submitted(self, value: Tensor) -> bool:
        """Return whether a value is a wrong gradient that backward returns: it explains none."""
        pairs = zip(self.sample.given, self.expected, strict=True)
        return any(close(value, given) and not close(given, right) for given, right in pairs)

    @cached_property
    def gs(self) -> list[tuple[str, Tensor]]:
        """The gradients that terms are made of: g, and right ones of backward by their names."""
        # The gradient of a loss has its g as a factor, which is 1 for who reads it.
        several = len(self.g) > 1
        found = [(f"g.{n}" if several else "g", "", g) for n, g in enumerate(self.g[:2]) if g.ndim]
        found = found or [("", "", self.g[0])]
        for place, values in self.own.trace.values.items():
            is_one = len(values) == 1 and place.target and place not in self.constants
            is_right = is_one and any(k.calls and k.fits(values) for k in self.known)
            is_other = is_right and not self._is_submitted(values[0])
            if is_other and not any(close(values[0], g) for *_, g in found):
                found.append((place.target, f"line {place.line}", values[0]))
        return _named(found, [])[:3]

    @cached_property
    def hand(self) -> list[tuple[str, Tensor]]:
        """The values that backward has at hand, each once, and with a name that no other has."""
        at, kept = self.sample, _leaves(self.sample.cache)
        calls = self.tape.calls if self.tape else ()
        integers = [leaf for _, leaf in (*_leaves((at.params, at.x)), *kept)]
        integers += held_by(at.layer.forward)
        integers += [leaf for call in calls for leaf in call.leaves]
        scores = [*floating_leaves(at.x), *(k.values[0] for k in self.known if k.calls)]
        found = [(name, "", v) for name, v in one_hot(integers, scores)]
        of_y = [k.values[0] for k in self.known if k.values and bool(k.gradients[0].any())]
        number = prod(g for g in self.g if not g.ndim)
        for name, where, leaf in self._at_hand(kept):
            is_mask = isinstance(leaf, Tensor | np.ndarray) and str(leaf.dtype).endswith("bool")
            value = torch.as_tensor(leaf).double() if is_mask else to_tensor(leaf)
            if value is None or not 0 < value.numel() <= LARGEST:
                continue
            # A loss may keep what it takes for its gradient.
            if self._is_submitted(number * value) and not any(close(value, v) for v in of_y):
                continue
            if not any(close(v, value) for *_, v in found):
                found.append((name, where, value))
        return _named(found, self.gs)[:MOST_AT_HAND]

    def _at_hand(self, kept: list[tuple[str, Any]]) -> Iterator[tuple[str, str, Any]]:
        """List what may be at hand: its name, and where it is from."""
        for place in self.constants:
            if place.target and len(self.own.trace.values[place]) == 1:
                yield place.target, f"line {place.line}", self.own.trace.values[place][0]
        for known in self.known:
            if not known.calls:
                yield known.name, "as given", known.values[0]
        for y in self.y:
            yield "y", "the output", y
            if bool((y <= 0).all()):
                yield "e^y", "of the output", y.exp()
        for path, leaf in kept:
            last = path.rpartition(".")[2]
            yield "cached" if last.isdigit() or not last else last, f"cache.{path}", leaf
        # "add()" tells nobody what it is.
        once = [k for k in self.known if k.calls and len(k.values) == 1 and k.name[-1:] != ")"]
        if self.is_of_one_call:  # its forward computes gradients, too
            once = [k for k in once if bool(k.gradients[0].any())]
        for known in sorted(once, key=lambda known: known.name[:1] == "`"):
            yield known.name, f"line {known.calls[0].line}", known.values[0]

    def again(self, key: Key) -> Evidence | None:
        """Make the same of another draw of params, x and g; None if the layer takes no other."""
        at = perturbed(self.sample, key) or self.sample
        try:
            g = self.sample.g if self.is_of_one_call else key.fold_in(1)
            at = sample(at.layer, at.params, at.x, g)
            # Where differences agreed with autograd once, they need not again.
            pairs = zip(self.sample.automatic or (), self.expected, strict=False)
            if self.sample.automatic and at.automatic and all(a is b for a, b in pairs):
                return Evidence(at, at.automatic)
            return Evidence(at, truth(at, key))
        except Exception:  # the layer may refuse other numbers in any way
            return None


def _record(at: Sample) -> tuple[Tape | None, dict[int, str]]:
    names: dict[int, str] = {}

    def seen(place: Place, frame: FrameType, value: Any) -> None:
        tensor = as_tensor(value)
        if place.target and isinstance(tensor, Tensor):
            names.setdefault(id(tensor), place.target)

    try:
        with assigned(seen):
            tape = Tape(at.forward, at.arrays, at.g)
    except Exception:  # forward may leave torch, or use what the tape cannot follow
        return None, names
    return (tape if tape.outputs else None), names


def _leaves(values: Any) -> list[tuple[str, Any]]:
    """List what a cache holds, with its paths; [] if it is no tree."""
    try:
        return named_leaves(values)
    except Exception:  # a cache may hold anything
        return []


def _named(found: list[tuple[str, str, Tensor]], others: Hand) -> list[tuple[str, Tensor]]:
    """Name values so that no two have one name: the second has where it is from, too."""
    named: dict[str, Tensor] = {}
    taken = {name for name, _ in others}
    for name, where, value in found:
        told = f"{name} ({where})" if name in taken or name in named else name
        named.setdefault(told, value)
    return [*named.items()]
