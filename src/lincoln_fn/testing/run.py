"""A whole check: the contract, the gradients, and the part that is wrong."""

from __future__ import annotations

import attrs

from lincoln_fn.core import tree
from lincoln_fn.core.keys import Key
from lincoln_fn.core.layer import Arrays, Layer, Params
from lincoln_fn.errors.errors import LayerError
from lincoln_fn.testing.diagnosis import GradientError, ImpureError
from lincoln_fn.testing.failure import failure
from lincoln_fn.testing.functions import Results, check_other_functions
from lincoln_fn.testing.hidden import with_hidden_mistakes
from lincoln_fn.testing.localise import Part
from lincoln_fn.testing.plain import first_not_linear, is_plainly_right
from lincoln_fn.testing.precision import Doubled
from lincoln_fn.testing.purity import check_finite, check_same, check_untouched, snapshot
from lincoln_fn.testing.report import Finding, Report
from lincoln_fn.testing.sample import (
    Sample,
    floating,
    random_like,
    run_backward,
    run_forward,
    sample_of,
)
from lincoln_fn.testing.walks import check_walks


@attrs.frozen
class Options:
    """The options of `check_layer`."""

    key: Key
    directions: int = 3
    predict_is_forward: bool | None = None
    all: bool = False


def checked(layer: Layer, params: Params, x: Arrays, options: Options) -> Report:
    """Check a layer."""
    try:
        report = _checked(layer, params, x, options)
    except OverflowError as error:
        names, _, _ = floating(params, x)
        findings = tuple(Finding("", layer.name, name, "not judged") for name in names)
        return Report(layer.name, findings, (str(error),))
    except (GradientError, LayerError) as error:
        if not options.all:
            raise
        return Report(layer.name, (failure(Part("", layer, params, x), error),))
    if report.mistakes and not options.all:
        raise GradientError(report.mistakes[0].sentence)
    return report


def _checked(layer: Layer, params: Params, x: Arrays, options: Options) -> Report:
    key, other = options.key.split()
    problem: GradientError | None = None
    try:
        at = _pure(layer, params, x, key)
        is_right = is_plainly_right(at, key, options.directions)
        if is_right and first_not_linear(at, other) is None:
            _check_others(at, options)
            findings = tuple(Finding("", layer.name, name, "right") for name in at.names)
            return _elsewhere(Report(layer.name, findings), at, options)
    except ImpureError:  # with any number of digits
        raise
    except GradientError as error:
        problem = error
    doubled = Doubled()
    report = _judged(doubled.inside(layer), params, x, options)
    if problem is not None and not report.mistakes and not doubled.remarks():
        raise problem
    return attrs.evolve(report, remarks=(*report.remarks, *doubled.remarks()))


def _judged(layer: Layer, params: Params, x: Arrays, options: Options) -> Report:
    """Judge gradients that did not pass the plain comparison."""
    # Code that passes the plain comparison does not import what judges.
    from lincoln_fn.testing.blame import blamed

    key, other = options.key.split()
    at = _pure(layer, params, x, key)
    findings, remarks = blamed(at, key, first_not_linear(at, other))
    report = Report(layer.name, findings, remarks)
    if report.mistakes:
        return report
    _check_others(at, options)
    return _elsewhere(report, at, options)


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
    check_same(layer.name, "a second backward", run_backward(layer, params, cache, g), gradients)
    return sample_of(layer, params, x, (y, cache), g, gradients)


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


def _elsewhere(report: Report, at: Sample, options: Options) -> Report:
    """Add what is wrong at perturbed params and x to a report without a mistake."""
    return with_hidden_mistakes(report, at, options.key.fold_in(1), options.predict_is_forward)
