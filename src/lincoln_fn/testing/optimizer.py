"""`check_optimizer`: is an optimizer's adjoint the derivative of its update?"""

from __future__ import annotations

from typing import Literal, overload

import attrs

from lincoln_fn.core import Key, Params, check_argument
from lincoln_fn.optim import Optimizer
from lincoln_fn.testing.diagnosis import Finding, GradientError, Report
from lincoln_fn.testing.run import Options, checked, foremost
from lincoln_fn.testing.sample import doubled
from lincoln_fn.testing.update import Update, at_a_step, update_as_layer


@overload
def check_optimizer(
    optimizer: Optimizer, params: Params, *, steps: int = ..., key: Key = ...,
    all: Literal[False] = ...,
) -> None: ...  # fmt: skip
@overload
def check_optimizer(
    optimizer: Optimizer, params: Params, *, steps: int = ..., key: Key = ..., all: Literal[True]
) -> Report: ...
def check_optimizer(
    optimizer: Optimizer,
    params: Params,
    *,
    steps: int = 2,
    key: Key = Key(0),
    all: bool = False,  # noqa: A002  # as the option is called
) -> Report | None:
    """Check an optimizer's adjoint, in float64, and that its functions are pure.

    Compares the adjoint, for random bars of the new params and state, with central differences of
    the update and with autograd of it, as `check_layer` does for a layer. A hyperparameter that
    update and adjoint take by keyword is checked, too, if it is not 0.

    Args:
        params: a tree that the optimizer takes; converted to float64.
        steps: how many steps with random gradients come before the one that is checked.
        all: whether to return a report of every derivative, in place of an error at the first.

    Raises:
        GradientError: naming the derivative and the most likely mistake; not with `all=True`.
        LayerError: if an argument has the wrong type, or the optimizer has no adjoint.

    Example:
        >>> from lincoln_fn.optim import Adjoints, Optimizer, sgd
        >>> check_optimizer(sgd(0.1, momentum=0.9), torch.tensor([1.0, -2.0]))
        >>> plain = sgd(0.1)
        >>> wrong = lambda p, dp, state, p_bar, _: Adjoints(p_bar, 0.1 * p_bar, state, {})
        >>> check_optimizer(Optimizer("mine()", plain.init, plain.update, wrong), torch.ones(2))
        Traceback (most recent call last):
        lincoln_fn.testing.diagnosis.GradientError: mine(): grads_bar has the wrong sign
    """
    check_argument("check_optimizer", "optimizer", Optimizer, optimizer, ("optimizer", "params"))
    check_argument("check_optimizer", "key", Key, key)
    params, grads, state = at_a_step(optimizer, doubled(params), steps, key)
    try:
        update = Update(optimizer, state).with_constants(params, grads)
        report = _judged(update, params, grads, Options(key.fold_in(-1), all=all))
    except GradientError as error:
        if not all:
            raise
        finding = Finding("", optimizer.name, "adjoint", "wrong", "contract", str(error))
        report = Report(optimizer.name, (finding,))
    if report.mistakes and not all:
        raise GradientError(foremost(report).sentence)
    return report if all else None


def _judged(update: Update, params: Params, grads: Params, options: Options) -> Report:
    """Judge an update as a layer, and tell of it as of an optimizer."""
    # A bar that is the state shows in the report, and not in the error at the first mistake.
    options = attrs.evolve(options, all=options.all or bool(update.unchanged))
    as_layer, values, x = update_as_layer(update, params, grads)
    try:
        report = checked(as_layer, values, x, options)
    except GradientError as error:
        raise GradientError(update.told(str(error), params)) from None
    findings = tuple(_told(each, update, params) for each in report.findings)
    remarks = tuple(update.told(remark, params) for remark in report.remarks)
    return attrs.evolve(report, findings=findings, remarks=remarks)


def _told(finding: Finding, update: Update, params: Params) -> Finding:
    leaf, sentence = (update.told(text, params) for text in (finding.leaf, finding.sentence))
    if finding.verdict == "wrong" and leaf.removeprefix("state_bar.") in update.unchanged:
        sentence = f"{finding.where}: {leaf} is the state itself, not its bar"
        finding = attrs.evolve(finding, name="state for bar")
    return attrs.evolve(finding, leaf=leaf, sentence=sentence)
