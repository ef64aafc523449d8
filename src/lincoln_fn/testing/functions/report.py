"""The order in which a function is tried, and the findings."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from typing import Any, Final

import attrs
import torch

from lincoln_fn.core import Key, Layer, LayerError, describe, is_floating, unexpected
from lincoln_fn.testing.diagnosis import Finding, GradientError, Report, short
from lincoln_fn.testing.functions.function import Function, RefusedError
from lincoln_fn.testing.functions.further import ASKED, FURTHER, HALF, REMARKED
from lincoln_fn.testing.functions.trials import FIRST, SAME, TRIALS, NotTriedError, Point, Trial
from lincoln_fn.testing.functions.value import Judge, finding_of, referred, tolerance
from lincoln_fn.testing.oracles import relative_error
from lincoln_fn.testing.precision import Doubled

_NOT_DIFFERENTIABLE: Final = re.compile(r"not differentiable with respect to argument '(\w+)'")
DTYPES: Final = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
# By which part inputs change where a function in float64 has to change, too.
LAST_DIGITS = 1e-12
# By how much y of a function that computes in float64 changes, at most, from a reference's.
AGREEMENT = 1e-9


def report_of(
    f: Function, reference: Callable[..., Any] | None, key: Key, asked: set[str]
) -> Report:
    """Try one thing after the other, and what of `ASKED` is asked for."""
    f, findings, remarks = _settled(f), list[Finding](), list[str]()
    if f.outputs is None:
        told = f"{f.name}: no output is a floating tensor"
        return Report(f.name, (Finding("", f.name, "y", "not judged", sentence=told),))
    if not f.outputs:
        told = "no output requires grad: it has no backward that autograd sees"
        return Report(f.name, (finding_of(f, "y", told),))
    if reference is not None:
        _check_reference(f, reference)
    run = f.run()
    g = run.cotangent(key)
    try:
        grads = run.gradients(g)
        at = Point(f, Judge(reference, _is_exact(f, reference, key)), key, run.y, g, grads)
        findings += _tried(at, FIRST, remarks)
        if any(each.leaf in SAME and each.verdict == "wrong" for each in findings):
            remarks.append("values, layouts, sizes and dtypes were not tried: two runs differ")
            return Report(f.name, tuple(findings), tuple(remarks))
        if reference is not None:
            findings.append(finding_of(f, "y", _other_y(f, reference)))
        judged = at.judge.of(f, key, elsewhere=True)
    except GradientError as error:
        findings.append(finding_of(f, "backward", str(error).removeprefix(f"{f.name}: ")))
        return Report(f.name, tuple(findings), tuple(remarks))
    findings += [_of_none(at, each) for each in judged.findings]
    remarks += judged.remarks
    asked = asked | {"long sums"} if grads[0].dtype in HALF else asked
    trials = TRIALS if judged.mistakes else TRIALS | FURTHER
    findings += _tried(at, trials | {name: ASKED[name] for name in asked}, remarks)
    for each in _tried(at, {name: ASKED[name] for name in REMARKED - asked}, []):
        if each.sentence and not judged.mistakes:
            remarks.append(each.sentence.removeprefix(f"{f.name}: "))
    if judged.verdict == "not judged":  # what is right beside the values makes no function right
        findings = [each for each in findings if each.verdict != "right"]
    return Report(f.name, tuple(findings), tuple(remarks))


def _tried(at: Point, trials: dict[str, Trial], remarks: list[str]) -> list[Finding]:
    """List what trials find; add a remark for each that cannot be tried."""
    findings = []
    for name, trial in trials.items():
        try:
            # What a function warns of where it was not called does not concern the caller.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                findings.append(finding_of(at.f, name, next(trial(at), "")))
        except (NotTriedError, RefusedError, GradientError) as error:
            remarks += [f"not tried: {name}: {error}"] * bool(str(error))
    return findings


def _other_y(f: Function, reference: Callable[..., Any]) -> str:
    part = _disagreement(f, referred(f, reference))
    if part <= tolerance(f.run().y[0].dtype):
        return ""
    return f"forward does not compute the reference's y: it differs by {part:.2g} of the largest"


def _disagreement(f: Function, of: Function) -> float:
    """Compute by how much y differs from a reference's, in parts of the largest value."""
    return max(map(relative_error, f.run().y, of.in_dtype(torch.float64).run().y))


def _settled(f: Function) -> Function:
    """Find the inputs and the outputs that have gradients."""
    _check_inputs(f)
    try:
        run = f.run()
    except RefusedError as error:
        fixed = _NOT_DIFFERENTIABLE.search(str(error))
        left = tuple(i for i in f.which if fixed and f.names[i] != fixed[1])
        if fixed is None or left == f.which:
            raise LayerError(f.name, f"forward raises {error}; {_given(f)}") from error
        return _settled(attrs.evolve(f, which=left))
    outputs = [i for i, y in enumerate(run.y) if y.requires_grad]
    return attrs.evolve(f, outputs=tuple(outputs) if run.y else None)


def _check_inputs(f: Function) -> None:
    if isinstance(f.call, Layer):
        raise LayerError(f.name, "a Layer is judged by lf.testing.check_layer(layer, params, x)")
    if not callable(f.call):
        raise unexpected(f.name, "f to be a function", describe(f.call))
    if not f.which:
        mend = "of tensors in a list, make a function of the tensors: lambda a, b: f([a, b])"
        told = f"expected a floating tensor among the inputs; {_given(f)}; {mend}"
        raise LayerError(f.name, told)
    for i in f.which:
        value: Any = f.inputs[i]  # Any: a tensor
        if value.layout != torch.strided or value.is_meta or value.dtype not in DTYPES:
            of = f"{value.dtype} and {value.layout} on {value.device}".replace("torch.", "")
            kinds = ", ".join(map(short, DTYPES))
            raise unexpected(f.name, f"{f.names[i]} dense, in one of {kinds}", of)


def _check_reference(f: Function, reference: Callable[..., Any]) -> None:
    try:
        y = attrs.evolve(f, call=reference, outputs=None).in_dtype(torch.float64).run().y
    except RefusedError as error:
        told = f"expected a reference of the same inputs, and it raises {error}; {_given(f)}"
        raise LayerError(f.name, told) from error
    due = len(f.outputs or ())
    if len(y) < due:
        raise unexpected(f.name, f"the reference to return as many tensors as f, {due}", len(y))
    if not all(each.requires_grad for each in y[:due]):
        told = "expected a reference that autograd differentiates: compute it by functions of torch"
        raise LayerError(f.name, f"{told}, without detach() and no_grad()")


def _given(f: Function) -> str:
    given = [f"{name} = {describe(each)}" for name, each in zip(f.names, f.inputs, strict=True)]
    return f"it was given {', '.join(given) or 'nothing'}"


def _is_exact(f: Function, reference: Callable[..., Any] | None, key: Key) -> bool:
    """Return whether a function computes in float64, so that differences see small mistakes."""
    f = f.in_dtype(torch.float64)
    with Doubled():
        try:
            run = f.run()
            run.gradients(run.cotangent(key))
            # Each number moves in its last digits; 0, too.
            last = (v * (1 + LAST_DIGITS) + LAST_DIGITS if is_floating(v) else v for v in f.inputs)
            moved = f.at([*last]).run()
        except (RefusedError, GradientError):
            return False
        if any(y.dtype is not torch.float64 for y in run.y):
            return False
        if reference is not None:
            return _disagreement(f, referred(f, reference)) <= AGREEMENT
        return not all(map(torch.equal, run.y, moved.y))


def _of_none(at: Point, finding: Finding) -> Finding:
    for n, grad in enumerate(at.f.run().backward(at.g) if finding.verdict == "wrong" else ()):
        if grad is None and at.f.leaves[n] == finding.leaf:
            name, leaf = at.f.names[at.f.which[n]], finding.leaf
            told = f"{at.f.name}: {leaf} is None, and y depends on {name}{at.f.look(n)}"
            return attrs.evolve(finding, name="None", sentence=told)
    return finding
