"""A whole check: the contract, the gradients, and the part that is wrong."""

from __future__ import annotations

import attrs
import torch

from lincoln_fn.core import Arrays, Cache, Key, Layer, LayerError, Params, tree
from lincoln_fn.testing.diagnosis import GradientError, ImpureError
from lincoln_fn.testing.failure import Part, failure
from lincoln_fn.testing.functions import Results, check_other_functions, close_trees
from lincoln_fn.testing.held import (
    Reference,
    agrees_with,
    as_reference,
    copied,
    held_to,
    is_followed,
    on_copies,
    sample_held,
)
from lincoln_fn.testing.hidden import with_hidden_mistakes, with_mistakes_in_eps
from lincoln_fn.testing.plain import first_not_linear, is_plainly_right
from lincoln_fn.testing.point import DETACHED, leaves_torch
from lincoln_fn.testing.precision import Doubled
from lincoln_fn.testing.purity import (
    check_finite,
    check_kept,
    check_parts,
    check_same,
    check_untouched,
    snapshot,
)
from lincoln_fn.testing.report import Finding, Report
from lincoln_fn.testing.sample import (
    Sample,
    floating,
    floating_leaves,
    random_like,
    run_backward,
    run_forward,
    sample,
    sample_of,
)
from lincoln_fn.testing.walks import check_walks

# The name of a mistake that is none in a gradient.
IN_PLACE = "in place"


@attrs.frozen
class Options:
    """The options of `check_layer`."""

    key: Key
    directions: int = 3
    predict_is_forward: bool | None = None
    all: bool = False
    reference: Layer | None = None


def checked(layer: Layer, params: Params, x: Arrays, options: Options) -> Report:
    """Check a layer."""
    try:
        report = _with_impurity(layer, params, x, options)
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


def _with_impurity(layer: Layer, params: Params, x: Arrays, options: Options) -> Report:
    """Check a layer, and if it changes its arguments, its gradients on copies of them."""
    given = tree.map(copied, (params, x), states=True)
    try:
        return _checked(layer, params, x, options)
    except ImpureError as impure:
        try:
            report = _checked(on_copies(layer), *given, options)
        except GradientError:
            raise impure from None
        finding = Finding("", layer.name, impure.function, "wrong", IN_PLACE, str(impure))
        return attrs.evolve(report, findings=(*report.findings, finding))


def _checked(layer: Layer, params: Params, x: Arrays, options: Options) -> Report:
    key, other = map(options.key.fold_in, range(2))
    problem: GradientError | None = None
    doubled = Doubled()
    at: Sample | None = None
    try:
        at = _pure(layer, params, x, key)
        if is_followed(at) and not _computes_another(at, options):
            is_right = is_plainly_right(at, key, options.directions)
            if is_right and first_not_linear(at, other) is None:
                _check_others(at, options)
                findings = tuple(Finding("", layer.name, name, "right") for name in at.names)
                return _elsewhere(Report(layer.name, findings), at, at, options)
            at = None
    except ImpureError:  # with any number of digits
        raise
    except GradientError as error:
        problem = error
    if at is None or not _is_double(at):
        at = _pure(doubled.inside(layer), params, x, key)
    else:
        at = attrs.evolve(at, layer=doubled.inside(layer))
    report = _judged(at, options)
    if problem is not None and not report.mistakes and not doubled.remarks():
        raise problem
    return attrs.evolve(report, remarks=(*report.remarks, *doubled.remarks()))


def _judged(at: Sample, options: Options) -> Report:
    """Judge gradients that did not pass the plain comparison."""
    # Code that passes the plain comparison does not import what judges.
    from lincoln_fn.testing.blame import blamed

    reference, is_own = _reference_of(at, options)
    if reference is not None and not is_own:
        return _judged_against(reference, at, options)
    own = at
    if reference is not None:
        at = sample_held(at, reference)
    key, other = map(options.key.fold_in, range(2))
    not_linear = first_not_linear(at, other)
    if reference is not None and not_linear is None and is_plainly_right(at, key, 1):
        findings = tuple(Finding("", at.layer.name, name, "right") for name in at.names)
        told = () if options.reference or leaves_torch(own) else (DETACHED.format(at.names[0]),)
        report = Report(at.layer.name, findings, told)
    else:
        report = Report(at.layer.name, *blamed(at, key, not_linear))
    if report.mistakes:
        return report
    _check_others(own, options)
    return _elsewhere(report, at, own, options)


def _judged_against(reference: Reference, at: Sample, options: Options) -> Report:
    """Judge a layer whose forward computes something else than the reference."""
    from lincoln_fn.testing.blame import blamed
    from lincoln_fn.testing.judge import judge

    key, other = map(options.key.fold_in, range(2))
    name = at.layer.name
    y = Finding("", name, "y", "wrong", "another forward", f"{name}: forward does not compute y")
    held = held_to(at.layer, reference)
    try:
        against = sample(held, at.params, at.x, key)
        findings, remarks = blamed(against, key, first_not_linear(against, other))
    except (GradientError, LayerError) as error:
        failed = failure(Part("", at.layer, at.params, at.x), error)
        return Report(name, (y, failed))
    unnamed = {f.leaf for f in findings if f.verdict == "wrong" and not f.name}
    fits = judge(at, key).verdicts if unnamed else []
    fitting = {leaf for leaf, verdict in zip(at.names, fits, strict=False) if verdict == "right"}
    said = "is the gradient of forward as it is written, which does not compute y"
    told = (
        attrs.evolve(f, name="another forward", sentence=f"{name}: {f.leaf} {said}")
        if f.leaf in unnamed & fitting
        else f
        for f in findings
    )
    return Report(name, (y, *told), remarks)


def _is_double(at: Sample) -> bool:
    return all(leaf.dtype is torch.float64 for leaf in (*floating_leaves(at.y), *at.given))


def _reference_of(at: Sample, options: Options) -> tuple[Reference | None, bool]:
    """Return a reference where forward needs one, and whether it has forward's output."""
    if options.reference is None:
        return None, True
    given = as_reference(options.reference, (at.params, at.x))
    if _computes_another(at, options):
        return given, False
    is_needed = not is_followed(at) and agrees_with(given, at)
    return (given if is_needed else None), True


def _computes_another(at: Sample, options: Options) -> bool:
    """Return whether forward computes something else than the reference that was given."""
    if options.reference is None:
        return False
    return not close_trees(at.y, options.reference.forward(at.params, at.x)[0])


def _pure(layer: Layer, params: Params, x: Arrays, key: Key) -> Sample:
    """Run forward and backward twice, and check that they are pure."""
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
    """Run backward once more."""
    try:
        return run_backward(layer, params, cache, g)
    except GradientError as error:
        told = str(error).removeprefix(f"{layer.name}: ")
        sentence = f"{layer.name}: a second {told}: does backward change its cache?"
        raise ImpureError(sentence, "backward") from error


def _check_range(name: str, y: Arrays) -> None:
    """Raise an error for nan, and another if y is only too large to be a number."""
    try:
        check_finite(name, "y", y)
    except GradientError:
        if any(bool(leaf.isnan().any()) for leaf in tree.leaves(y)):
            raise
        raise OverflowError("y is infinite for these numbers: take smaller ones") from None


def _check_others(at: Sample, options: Options) -> None:
    results = Results(at.y, at.cache, at.g, at.dx, at.dparams)
    check_other_functions(at.layer, at.params, at.x, results, options.predict_is_forward)
    check_walks(at)


def _elsewhere(report: Report, at: Sample, own: Sample, options: Options) -> Report:
    """Add what is wrong at other params and x to a report without a mistake."""
    key = options.key.fold_in(1)
    report = with_hidden_mistakes(report, at, key, options.predict_is_forward)
    return report if report.mistakes else with_mistakes_in_eps(report, at, own, key)
