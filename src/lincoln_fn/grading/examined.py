"""One case of a grading, as it runs in a process of its own."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import attrs
import torch

from lincoln_fn.core import Arrays, Cache, Key, Layer, Params, tree
from lincoln_fn.grading.submission import Submission, adapted, layer_of, load
from lincoln_fn.testing import Finding, Report, check_layer
from lincoln_fn.testing.internal import (
    Doubled,
    close_trees,
    copies,
    doubled,
    random_like,
    run_backward,
    run_forward,
)


def examined(
    submission: Submission, reference: Layer, case: tuple[Params, Arrays], ran: Callable[[], object]
) -> Report:
    """Check a submission for one case."""
    params, x = doubled(case)
    loaded = load(submission)
    if isinstance(loaded, Layer):
        layer, own = loaded, params
    else:
        layer, own = layer_of(loaded, reference), adapted(params, loaded)
    halves = _wrong_halves(layer, own, x, ran)
    if not layer.composition:  # halves that are wrong are told once, by `_wrong_halves`
        layer = layer.replace(backward=layer.backward)

    def right(own: Params, x: Arrays) -> tuple[Arrays, Cache]:
        return reference.forward(_by_leaves(params, own), x)[0], None

    report = check_layer(layer, own, x, all=True, reference=reference.replace(forward=right))
    return _with_halves(report, halves)


def _wrong_halves(
    layer: Layer, params: Params, x: Arrays, ran: Callable[[], object]
) -> dict[str, str]:
    """Run a submission once, and say what is wrong with its own `input_grad` and `grads`."""
    layer = Doubled().inside(layer)
    whole: tuple[Arrays, ...] = ()
    with suppress(Exception):  # the check says what is wrong with forward and backward
        y, cache = run_forward(layer, *tree.map(torch.clone, (params, x), states=True))
        given = params, cache, random_like(y, Key(0))
        whole = run_backward(layer, *copies(*given))
    ran()
    told = {}
    for name, gradient, right in zip(
        ("input_grad", "grads"), ("dx", "dparams"), whole, strict=False
    ):
        try:
            is_right = close_trees(getattr(layer, name)(*copies(*given)), right)
        except Exception as error:  # a submission may fail in any way
            told[gradient] = f"{name} raised {type(error).__name__}"
        else:
            if not is_right:
                told[gradient] = f"{name} differs from backward"
    return told


def _with_halves(report: Report, halves: dict[str, str]) -> Report:
    """Let a gradient be wrong that backward computes right, and a function of its own does not."""

    def judged(finding: Finding) -> Finding:
        told = halves.get(re.split(r"[.\[]", finding.leaf)[0], "")
        if not told or finding.verdict != "right" or finding.path:
            return finding
        sentence = f"{finding.layer}: {told}"
        return attrs.evolve(finding, verdict="wrong", name="half", sentence=sentence)

    return attrs.evolve(report, findings=tuple(map(judged, report.findings)))


def _by_leaves(like: Any, own: Any) -> Any:  # Any: params
    """Give the tensors of the submission's params to the reference's records."""
    leaves = iter(tree.leaves(own, states=True))
    return tree.map(lambda leaf: next(leaves), like, states=True)
