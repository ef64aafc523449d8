"""A whole check: the contract, the gradients, and the part that is wrong."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import cache

import attrs

from lincoln_fn.core import Arrays, Cache, Key, Layer, LayerError, Params, tree
from lincoln_fn.testing import contract
from lincoln_fn.testing.blame import blamed, failure
from lincoln_fn.testing.diagnosis import ContractError, Finding, GradientError, ImpureError, Report
from lincoln_fn.testing.elsewhere import elsewhere
from lincoln_fn.testing.point import NOT_LINEAR, is_plainly_right, not_linear
from lincoln_fn.testing.precision import Doubled
from lincoln_fn.testing.sample import Sample, Subject, copied, floating, on_copies, sample

# How well a reference agrees with forward, and in parts of the largest number.
AGREEMENT = 1e-300, 1e-9


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
        return Report(layer.name, (failure(Subject(layer, params, x), error),))
    if report.mistakes and not options.all:
        raise GradientError(foremost(report).sentence)
    return report


def foremost(report: Report) -> Finding:
    """Return the mistake to tell first: what the contract forbids comes before what is wrong."""
    return next((f for f in report.mistakes if f.name == ImpureError.name), report.mistakes[0])


def _with_others(
    layer: Layer, params: Params, x: Arrays, options: Options, told: tuple[str, ...] = ()
) -> Report:
    """Check a layer; what is wrong beside its gradients is told, and they are judged without it."""
    given = tree.map(copied, (params, x), states=True)
    try:
        return _checked(layer, params, x, options)
    except GradientError as error:
        what = f"{type(error).__name__} of {error.function}"
        if not options.all or what in told:
            raise
        plain = ContractError(str(error), error.function)
        of = error if isinstance(error, ContractError) else plain
        rest = on_copies(layer) if isinstance(of, ImpureError) else of.mended(layer)
        if rest is None:
            raise
        try:
            report = _with_others(rest, *given, options, (*told, what))
        except GradientError:
            raise error from None
        finding = Finding("", layer.name, of.function, "wrong", of.name, str(of))
        return attrs.evolve(report, findings=(*map(of.told_of, report.findings), finding))


def _checked(layer: Layer, params: Params, x: Arrays, options: Options) -> Report:
    key, doubled = options.key.fold_in(0), Doubled()
    problem: GradientError | None = None
    at: Sample | None = None
    try:
        at = contract.pure(layer, params, x, key)
        is_other = contract.differs(at, options.reference)
        if not is_other and is_plainly_right(at, key, options.directions):
            _check_others(at, options)
            return elsewhere(_all_right(at), at, at, options.key, options.predict_is_forward)
    except ImpureError:  # with any number of digits
        raise
    except GradientError as error:
        problem = error
    in_float64 = contract.pure(doubled.inside(layer), params, x, key)
    own = at if at is not None and not doubled.remarks() else in_float64
    report = _judged(own, options, doubled)
    if problem is not None and not report.mistakes and not doubled.remarks():
        raise problem
    return attrs.evolve(report, remarks=(*report.remarks, *doubled.remarks()))


def _all_right(at: Sample) -> Report:
    return Report(at.layer.name, tuple(Finding("", at.layer.name, n, "right") for n in at.names))


def _judged(own: Sample, options: Options, doubled: Doubled) -> Report:
    """Judge gradients that did not pass the plain comparison."""
    key, reference, at = options.key.fold_in(0), options.reference, own
    if options.all and own.layer.composition is None:
        contract.check_halves(own)
    is_other = contract.differs(own, reference)
    try:
        # What autograd does not follow, a reference may say.
        is_same = own.automatic is None and not contract.differs(own, reference, *AGREEMENT)
        if reference is not None and (is_other or is_same):
            at = sample(_held_to(own.layer, reference), own.params, own.x, key)
        is_right = at is not own and is_plainly_right(at, key, 1)
        judged = None if is_right else Report(at.layer.name, *blamed(at, key, options.named))
        report = judged or _all_right(at)
    except (GradientError, LayerError) as error:
        if not is_other:
            raise
        failed = failure(Subject(own.layer, own.params, own.x), error)
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


def _check_others(at: Sample, options: Options, mode: Doubled | None = None) -> None:
    if wrong := not_linear(at, options.key.fold_in(1)):
        raise GradientError(f"{at.layer.name}: {wrong[0]} {NOT_LINEAR}")
    contract.check_other_functions(at, options.predict_is_forward)
    with mode or nullcontext():  # a walk calls the parts
        contract.check_walks(at)
