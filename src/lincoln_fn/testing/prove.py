"""`prove`: `backward` is the derivative of `forward`, by equality of exact numbers.

`forward` and `backward` run, unchanged, on elements of a finite field (`testing.exact`). Each
number of params and x has a random value and a random derivative, its tangent. With y' the tangents
of y, and dx, dw what `backward` returns for a random g, the chain rule is one equation of integers:

    sum g y' = sum dx x' + sum dw w'
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from importlib import import_module
from importlib.util import find_spec
from typing import Final, TypeAlias

import numpy as np
import torch
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import Arrays, Key, LayerError, Params, is_derived, keys, tree, unchanged
from lincoln_fn.testing.diagnosis import TOLERANCE, GradientError, Proof, Refutation, Undecided
from lincoln_fn.testing.exact.field import FREE, READ, TIE, Array, Field, MissingError, small_ratio
from lincoln_fn.testing.exact.numbers import Numbers
from lincoln_fn.testing.exact.operations import STOPPED, Space
from lincoln_fn.testing.point import by_differences
from lincoln_fn.testing.sample import Sample, Subject, mirrored, perturbed, random_like, sample
from lincoln_fn.testing.subject import Differentiable, subject_of

Result: TypeAlias = Proof | Refutation | Undecided
DRAWS: Final = 2
# So many draws are made of numbers with true roots, and so many if no output has them.
TRIES, HOPELESS = 60, 8
# Rounded constants and cut-off series are no mistakes: a difference of so many eps is none.
LEAST: Final = 16 * 2.0**-52
# At so many points, which differ by so much, rounding errors differ, and a mistake stays the same.
POINTS, APART = 8, 1e-4
BELOW_ROUNDING: Final = (
    "floats see no difference: a series or a loop that is cut off, or a root whose sign the field "
    "has not"
)
NO_ROOT: Final = "some output depends on too many numbers that have no root in the field"


class Trial:
    """A layer at one draw of exact numbers.

    If given, the leaf `only` alone has a tangent; `seen` says by output where g is not 0.
    """

    def __init__(
        self, of: Subject, field: Field, only: int | None = None, seen: Sequence[Array] = ()
    ) -> None:
        self.of, self.field, self.space, self.seen = of, field, Space(field), seen
        self.tangents: list[Array] = []

        def enter(leaf: Tensor) -> Tensor:
            is_exact = leaf.is_floating_point()
            return self.space.enter(leaf, field.draw(leaf.numpy())) if is_exact else leaf

        def move(leaf: Tensor) -> Tensor:
            if not leaf.is_floating_point():
                return leaf
            drawn, i = field.direction(tuple(leaf.shape)), len(self.tangents)
            self.tangents.append(drawn if only in (None, i) else np.zeros_like(drawn))
            return self.space.moved(leaf, self.tangents[-1])

        still = tree.map(enter, (of.params, of.x), states=True)
        self.params, self.x = tree.map(move, still)
        self.layer = of.layer
        with self.active():
            self.y, self.cache = self.layer.forward(self.params, self.x)

    def alone(self, i: int) -> Trial:
        """Make the same draw again, in which one leaf alone has a tangent."""
        return Trial(self.of, self.field.again(), i, seen=self.seen)

    @contextmanager
    def active(self) -> Iterator[None]:
        """Let floating tensors be exact, and autograd be off."""
        with torch.no_grad(), np.errstate(all="ignore"), self.space:
            yield

    def cotangent(self, key: Key) -> Arrays:
        """Draw a g, with the shadows of a normal distribution."""
        plain = tree.map(lambda y: torch.zeros(y.shape, dtype=y.dtype), self.y)
        seen = iter(self.seen)

        def enter(g: Tensor) -> Tensor:
            if not g.is_floating_point():
                return g
            drawn, shown = self.field.draw(g.numpy()), next(seen, True)
            return self.space.enter(g * torch.as_tensor(shown), drawn * shown)

        return tree.map(enter, random_like(plain, key))

    @cached_property
    def g(self) -> Arrays:
        """The cotangent of y."""
        return self.cotangent(Key(0))

    def backward(self, g: Arrays) -> list[Numbers]:
        """Run `backward`, and read the gradients in the order of the leaves of (params, x)."""
        with self.active():
            dx, dparams = self.layer.backward(self.params, self.cache, g)
        return self.read(mirrored(self.layer.name, (self.params, self.x), (dparams, dx)))

    def read(self, arrays: Arrays) -> list[Numbers]:
        """Read the numbers of a tree's floating leaves."""
        return [*map(self.space.numbers, filter(Tensor.is_floating_point, tree.leaves(arrays)))]

    @cached_property
    def gradients(self) -> list[Numbers]:
        """What `backward` returns."""
        return self.backward(self.g)

    @cached_property
    def slope(self) -> Array:
        """<g, y'>."""
        ys = self.read(self.y)
        self._total(ys, [0 * y.value for y in ys])
        return self._total(self.read(self.g), [y.tangent for y in ys])

    def given(self, i: int | None = None) -> Array:
        """Compute <dx, x'> + <dw, w'>, or the part of one leaf."""
        cut = slice(None) if i is None else slice(i, i + 1)
        return self._total(self.gradients[cut], self.tangents[cut])

    @cached_property
    def holds(self) -> bool:
        """Whether the two are equal."""
        return bool(self.slope == self.given())

    def _total(self, numbers: Sequence[Numbers], tangents: Sequence[Array]) -> Array:
        reduce, total = self.field.reduce, 0
        for each, tangent in zip(numbers, tangents, strict=True):
            if not np.isfinite(each.shadow).all():
                raise MissingError("a number is not finite")
            total = reduce(total + np.sum(reduce(each.value * tangent)))
        return total


def prove(
    subject: Differentiable,
    params: Params,
    x: Arrays = None,
    *,
    key: Key = Key(0),
    predict_is_forward: bool | None = None,
) -> Proof | Refutation | Undecided:
    """Prove that `backward` is the derivative of `forward`, by equality of exact numbers.

    It runs the code on elements of a finite field. A wrong formula of degree d passes a draw with a
    probability of about d / P, where P is 2 10^9: there is no step and no tolerance. Also proven:
    `backward` is linear in g, `grads` and `input_grad` are its halves, `predict` is `forward`, and
    the gradients of single examples, where `per_example` has them, add up to `grads`.

    A proof is for this code, these shapes, and the branches that these numbers take. It says
    nothing of rounding and overflow, of purity (`check_layer` does), or whether `forward` is the
    function that you want.

    Args:
        subject: a layer; a loss, with its prediction and target in place of params and x; a pair of
            a network and its loss, with (x, target) in place of x; or the adjoint of an optimizer,
            with params. Of an `nn.Module`, a function of torch or an `autograd.Function`, with x in
            place of params, it is the gradient that torch's engine computes.
        params: of which only the shapes matter, and on which side of a kink a number lies.
        predict_is_forward: as `check_layer` takes it.

    Returns:
        A `Proof`; a `Refutation`, which floats confirm; or `Undecided`, with the reason.

    Raises:
        GradientError: if forward or backward raise an error, or return trees of another structure.

    Example:
        >>> tanh, x = lf.tanh(), torch.ones(2, 3)
        >>> prove(tanh, (), x)
        Proof(name='tanh()', leaves=('dx',), also=('backward is linear in g',), assumed=())
        >>> backward = lambda params, y, g: (g * (1 - y**2) * (1 + 1e-14), ())
        >>> print(prove(tanh.replace(backward=backward), (), x))
        tanh(): refuted
          dx is not the derivative of forward
    """
    of = subject_of("prove", subject, params, x, torch.float64)
    at = sample(*of, key)
    for name, array, given in zip(at.names, at.arrays, at.given, strict=True):
        # What broadcasts has the same product with a tangent.
        if given.shape != array.shape:
            return Refutation(of.layer.name, name)
    try:
        return _verdict(of, at, key, predict_is_forward)
    except MissingError as error:
        return Undecided(of.layer.name, str(error))
    except (GradientError, LayerError, RuntimeError, TypeError, ValueError) as error:
        # The same code has just run on floats.
        return Undecided(of.layer.name, f"{type(error).__name__} on exact numbers: {error}")


def _verdict(of: Subject, at: Sample, key: Key, predict_is_forward: bool | None) -> Result:
    """Try each way to write a root, and then the outputs that depend on true roots alone."""
    seeds = [int(key.fold_in(i).bits.item()) % (1 << 62) for i in range(TRIES)]
    trials: list[Trial] = []
    for free, stops in ((False, False), (True, False), (False, True), (True, True)):
        notes = {note for trial in trials for note in trial.field.notes}
        if trials and not (STOPPED in notes if stops else FREE in notes):
            continue
        tried = [Trial(of, Field(seed, free=free, stops=stops)) for seed in seeds[:DRAWS]]
        if all(trial.holds for trial in tried):
            return _proven(tried[0], at, predict_is_forward)
        trials = tried if stops else trials or tried
    has_roots = True
    if any(FREE in trial.field.notes for trial in trials):
        clean = _of_true_roots(of, seeds)
        if clean and all(trial.holds for trial in clean):
            return _proven(clean[0], at, predict_is_forward)
        has_roots, trials = bool(clean), clean or trials
    wrong = [trial for trial in trials if not trial.holds]
    notes = {note for trial in wrong for note in trial.field.notes}
    if TIE in notes:
        return Undecided(of.layer.name, TIE)
    # What is read in forward lacks its tangent, a root that the field has not lacks its square, and
    # a loop that ends by a comparison finds its result to a tolerance: then a mistake is what
    # central differences see.
    is_near = READ in notes or not has_roots or any(trial.space.branches for trial in wrong)
    least = 10 * TOLERANCE if is_near else LEAST
    doubt = "no gradient alone is unequal"
    for i, name in enumerate(at.names):
        parts = [(trial.alone(i).slope, trial.given(i)) for trial in wrong]
        if any(slope != given for slope, given in parts):
            # Scales of 1 and biases of 0 hide a mistake from floats.
            doubts = [_doubt(here, i, key, least) for here in (at, perturbed(at, key) or at)]
            if not all(doubts):
                return Refutation(of.layer.name, name, small_ratio(parts))
            doubt = READ if READ in notes else doubts[0] if has_roots else NO_ROOT
    return Undecided(of.layer.name, doubt)


def _of_true_roots(of: Subject, seeds: Sequence[int]) -> list[Trial]:
    """Draw until each output was one that depends on no number without a root; [] if none is."""
    # What depends on such a number changes with the other one that is drawn for its root.
    trials: list[Trial] = []
    left: list[Array] = []
    for seed in seeds:
        trial, twin = (Trial(of, Field(seed, other=other)) for other in (False, True))
        pairs = zip(trial.read(trial.y), twin.read(twin.y), strict=True)
        seen = [(a.value == b.value) & (a.tangent == b.tangent) for a, b in pairs]
        left = left or [np.ones_like(now) for now in seen]
        left = [rest & ~now for rest, now in zip(left, seen, strict=True)]
        if not any(now.any() for now in seen):
            if not trials and seed == seeds[HOPELESS]:
                return []
            continue
        trial.seen = twin.seen = seen
        if trial.given() != twin.given():
            continue
        trials.append(trial)
        if not trial.holds or not any(rest.any() for rest in left):
            return trials
    return []


def _doubt(at: Sample, i: int, key: Key, least: float) -> str:
    """Say why floats do not confirm a refutation; "" if they do."""
    given = at.given[i]
    if by_differences(at, i, given, key) == "wrong":
        return ""
    # Along this direction, no terms cancel.
    along = keys.normal(key.near(given), tuple(given.shape), dtype=given.dtype).abs()
    along, errors = torch.where(given < 0, -along, along), []
    for n in range(POINTS):
        near = at.at([_near(a, key.fold_in(n)) for a in at.arrays])
        automatic = near.automatic
        if automatic is None or by_differences(near, i, automatic[i], key) == "wrong":
            return "autograd and central differences disagree"
        size = float((near.given[i] * along).abs().sum()) or 1.0
        errors.append(float(((near.given[i] - automatic[i]) * along).sum()) / size)
    smallest, largest = sorted((min(errors), max(errors)), key=abs)
    is_seen = abs(smallest) > least and smallest * largest > 0 and abs(largest) < 2 * abs(smallest)
    return "" if is_seen else BELOW_ROUNDING


def _near(array: Tensor, key: Key) -> Tensor:
    drawn = keys.uniform(key.near(array), tuple(array.shape), -APART, APART)
    return array * (1 + drawn.to(array))


def _proven(trial: Trial, at: Sample, predict_is_forward: bool | None) -> Result:
    """Prove what else holds, of a layer whose gradients are proven."""
    layer, params, cache, g = trial.layer, trial.params, trial.cache, trial.g
    given, of_params = trial.gradients, sum(name.startswith("dparams") for name in at.names)
    h = trial.cotangent(Key(1))
    with trial.active():
        both = tree.map(torch.add, g, h)
    summed = [a + b for a, b in zip(given, trial.backward(h), strict=True)]
    claims = {("backward", "linear in g"): (trial.backward(both), summed)}
    expected = layer.advance is unchanged if predict_is_forward is None else predict_is_forward
    with trial.active():
        if not is_derived(layer, "grads"):
            alone = trial.read(layer.grads(params, cache, g))
            claims["grads", "backward(...)[1]"] = (alone, given[:of_params])
        if not is_derived(layer, "input_grad"):
            alone = trial.read(layer.input_grad(params, cache, g))
            claims["input_grad", "backward(...)[0]"] = (alone, given[of_params:])
        if expected and not is_derived(layer, "predict"):
            alone = trial.read(layer.predict(params, trial.x))
            claims["predict", "forward"] = (alone, trial.read(trial.y))
        notes = trial.field.notes - (set() if trial.field.stops else {STOPPED})
        each = _by_example(trial)  # which may try the layer on numbers of its own
        if each is not None:
            claims["the sum of the gradients of single examples", "grads"] = each, given[:of_params]
    for (function, what), pair in claims.items():
        if not _equal(*pair):
            told = f"{function} is not {what}"
            refuted = Refutation(trial.of.layer.name, told)
            return Undecided(trial.of.layer.name, f"not shown: {told}") if notes else refuted
    also = tuple(map(" is ".join, claims))
    return Proof(trial.of.layer.name, tuple(at.names), also, tuple(sorted(notes)))


def _by_example(trial: Trial) -> list[Numbers] | None:
    """Add up the terms that a layer declares; None if `per_example` refuses it, or is not there."""
    declared = core.gradients_of(trial.layer)
    has_terms = declared.terms is not None or declared.dx_and_terms is not None
    if not has_terms or find_spec("lincoln_fn.per_example") is None:
        return None
    gradients = import_module("lincoln_fn.per_example").gradients
    try:
        each = gradients(trial.layer, trial.params, trial.cache, trial.g)
        return trial.read(tree.map(lambda leaf: leaf.sum(0), each))
    except (LayerError, MissingError):
        return None


def _equal(given: Sequence[Numbers], expected: Sequence[Numbers]) -> bool:
    both = ([each.value for each in numbers] for numbers in (given, expected))
    return len(given) == len(expected) and all(map(np.array_equal, *both))
