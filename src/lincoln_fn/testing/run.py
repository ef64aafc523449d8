"""A whole check: the contract, the gradients, and the part that is wrong."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import cache

import attrs

from lincoln_fn.core import Arrays, Cache, Key, Layer, LayerError, Params, tree
from lincoln_fn.testing.blame import Part, blamed, failure
from lincoln_fn.testing.containers import ContainerError
from lincoln_fn.testing.contract import (
    check_halves,
    check_kept,
    check_other_functions,
    check_parts,
    check_same,
    check_untouched,
    check_walks,
    close_trees,
    not_finite,
    snapshot,
)
from lincoln_fn.testing.diagnosis import Finding, GradientError, ImpureError, Report
from lincoln_fn.testing.elsewhere import elsewhere
from lincoln_fn.testing.point import NOT_LINEAR, is_plainly_right, not_linear
from lincoln_fn.testing.precision import Doubled
from lincoln_fn.testing.sample import (
    Sample,
    copied,
    floating,
    floating_leaves,
    on_copies,
    random_like,
    run_backward,
    run_forward,
    sample,
    sample_of,
)

# The name of a mistake that is none in a gradient.
IN_PLACE = "in place"
# Functions that a layer need not have of its own.
HALVES = ("grads", "input_grad")
# How well a reference agrees with forward, in parts of the largest number.
AGREEMENT = 1e-9


@attrs.frozen
class Options:
    """The options of `check_layer`, and the gradients whose mistakes need no name."""

    key: Key = Key(0)
    directions: int = 1
    predict_is_forward: bool | None = None
    all: bool = False
    reference: Layer | None = None
    named: frozenset[str] = frozenset()


def checked(layer: Layer, params: Params, x: Arrays, options: Options) -> Report:
    """Check a layer."""
    try:
        report = _with_others(layer, params, x, options)
    except OverflowError as error:
        names, _, _ = floating(params, x)
        findings = tuple(Finding("", layer.name, name, "not judged") for name in names)
        return Report(layer.name, findings, (str(error),))
    except (GradientError, LayerError) as error:
        if not options.all:
            raise
        return Report(layer.name, (failure(Part("", layer, params, x), error),))
    if report.mistakes and not options.all:
        raise GradientError(foremost(report).sentence)
    return report


def foremost(report: Report) -> Finding:
    """Return the mistake to tell first: what the contract forbids comes before what is wrong."""
    return next((f for f in report.mistakes if f.name == IN_PLACE), report.mistakes[0])


def _with_others(
    layer: Layer, params: Params, x: Arrays, options: Options, told: tuple[str, ...] = ()
) -> Report:
    """Check a layer; what is wrong beside its gradients is told, and they are judged without it."""
    given = tree.map(copied, (params, x), states=True)
    try:
        return _checked(layer, params, x, options)
    except GradientError as error:
        what = f"{type(error).__name__} of {error.function}"
        rest = _without(layer, error) if options.all and what not in told else None
        if rest is None:
            raise
        name = IN_PLACE if isinstance(error, ImpureError) else "contract"
        try:
            report = _with_others(rest, *given, options, (*told, what))
        except GradientError:
            raise error from None
        findings = report.findings
        if isinstance(error, ContainerError):
            name, findings = error.name, tuple(map(error.told_of, findings))
        finding = Finding("", layer.name, error.function, "wrong", name, str(error))
        return attrs.evolve(report, findings=(*findings, finding))


def _without(layer: Layer, error: GradientError) -> Layer | None:
    """Make the layer without what an error tells; None if nothing is left to judge."""
    if isinstance(error, ImpureError):
        return on_copies(layer)
    if isinstance(error, ContainerError):
        return error.mended(layer)
    if layer.composition is not None or error.function not in HALVES:
        return None
    others = {half: getattr(layer, half) for half in HALVES if half != error.function}
    return layer.replace(backward=layer.backward, **others)


def _checked(layer: Layer, params: Params, x: Arrays, options: Options) -> Report:
    key, doubled = options.key.fold_in(0), Doubled()
    problem: GradientError | None = None
    at: Sample | None = None
    try:
        at = _pure(layer, params, x, key)
        is_other = _computes_another(at, options.reference)
        if not is_other and is_plainly_right(at, key, options.directions):
            _check_others(at, options)
            return elsewhere(_all_right(at), at, at, options.key, options.predict_is_forward)
    except ImpureError:  # with any number of digits
        raise
    except GradientError as error:
        problem = error
    in_float64 = _pure(doubled.inside(layer), params, x, key)
    own = at if at is not None and not doubled.remarks() else in_float64
    report = _judged(own, options, doubled)
    if problem is not None and not report.mistakes and not doubled.remarks():
        raise problem
    return attrs.evolve(report, remarks=(*report.remarks, *doubled.remarks()))


def _all_right(at: Sample) -> Report:
    return Report(at.layer.name, tuple(Finding("", at.layer.name, n, "right") for n in at.names))


def _computes_another(at: Sample, reference: Layer | None) -> bool:
    """Return whether forward computes something else than the reference that was given."""
    return reference is not None and not close_trees(at.y, reference.forward(at.params, at.x)[0])


def _judged(own: Sample, options: Options, doubled: Doubled) -> Report:
    """Judge gradients that did not pass the plain comparison."""
    key, reference, at = options.key.fold_in(0), options.reference, own
    if options.all and own.layer.composition is None:
        check_halves(own)
    is_other = _computes_another(own, reference)
    try:
        # What autograd does not follow, a reference may say.
        is_blind = reference is not None and own.automatic is None
        if reference is not None and (is_other or (is_blind and _agrees_with(reference, own))):
            at = sample(_held_to(own.layer, reference), own.params, own.x, key)
        is_right = at is not own and is_plainly_right(at, key, 1)
        report = (
            _all_right(at) if is_right else Report(at.layer.name, *blamed(at, key, options.named))
        )
    except (GradientError, LayerError) as error:
        if not is_other:
            raise
        failed = failure(Part("", own.layer, own.params, own.x), error)
        report = Report(own.layer.name, (failed,))
    if is_other:
        name, told = report.name, "forward does not compute y"
        y = Finding("", name, "y", "wrong", "another forward", f"{name}: {told}")
        return attrs.evolve(report, findings=(y, *report.findings))
    if report.mistakes:
        return report
    _check_others(own, options, doubled)
    return elsewhere(report, at, own, options.key, options.predict_is_forward)


def _held_to(layer: Layer, reference: Layer) -> Layer:
    """Make the layer that has a reference's output, and its own backward pass."""

    def forward(params: Params, x: Arrays) -> tuple[Arrays, Cache]:
        # The layer's own forward runs when backward needs its cache.
        return reference.forward(params, x)[0], cache(lambda: layer.forward(params, x)[1])

    def backward(params: Params, own: Callable[[], Cache], g: Arrays) -> tuple[Arrays, Params]:
        return layer.backward(params, own(), g)

    return layer.replace(forward=forward, backward=backward)


def _agrees_with(reference: Layer, at: Sample) -> bool:
    """Return whether a reference has the output of a layer, so that it may stand for forward."""
    made = reference.forward(at.params, at.x)[0]
    return all(
        a.shape == b.shape
        and a.dtype == b.dtype
        and bool(((a - b).abs() <= AGREEMENT * b.abs().max() + 1e-300).all())
        for a, b in zip(floating_leaves(made), floating_leaves(at.y), strict=False)
    )


def _pure(layer: Layer, params: Params, x: Arrays, key: Key) -> Sample:
    before = snapshot(params=params, x=x)
    y, cache = run_forward(layer, params, x)
    check_untouched(layer.name, "forward", before)
    _check_range(layer.name, y)
    check_same(layer.name, "a second forward", run_forward(layer, params, x)[0], y)
    g = random_like(y, key)
    before = snapshot(params=params, x=x, cache=cache, g=g, y=y)
    gradients = run_backward(layer, params, cache, g)
    check_untouched(layer.name, "backward", before)
    check_parts(layer, params, x, g)
    check_same(layer.name, "a second backward", _repeated(layer, params, cache, g), gradients)
    at = sample_of(layer, params, x, (y, cache), g, gradients)
    check_kept(at)
    return at


def _repeated(layer: Layer, params: Params, cache: Cache, g: Arrays) -> tuple[Arrays, Params]:
    try:
        return run_backward(layer, params, cache, g)
    except GradientError as error:
        told = str(error).removeprefix(f"{layer.name}: ")
        sentence = f"{layer.name}: a second {told}: does backward change its cache?"
        raise ImpureError(sentence, "backward") from error


def _check_range(name: str, y: Arrays) -> None:
    """Raise an error for nan, and another if y is only too large to be a number."""
    if told := not_finite(y):
        if any(bool(leaf.isnan().any()) for leaf in tree.leaves(y)):
            raise GradientError(f"{name}: y {told}", "forward")
        raise OverflowError("y is infinite for these numbers: take smaller ones")


def _check_others(at: Sample, options: Options, mode: Doubled | None = None) -> None:
    if wrong := not_linear(at, options.key.fold_in(1)):
        raise GradientError(f"{at.layer.name}: {wrong[0]} {NOT_LINEAR}")
    check_other_functions(at, options.predict_is_forward)
    with mode or nullcontext():  # a walk calls the parts
        check_walks(at)
