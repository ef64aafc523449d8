"""`check_function` and `check_vjp`: is a backward of one's own right, in value and in manners?"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Final, Literal, overload

import attrs
import torch
from torch import Tensor, nn

from lincoln_fn.core import Key, check_argument
from lincoln_fn.testing.diagnosis import Finding, GradientError, Report
from lincoln_fn.testing.functions.arrays import Pair, function_of_pair, pair_of_vjp
from lincoln_fn.testing.functions.function import Function, Run, function_of
from lincoln_fn.testing.functions.further import ASKED, FURTHER, compiled
from lincoln_fn.testing.functions.trials import TRIALS, NotTriedError, Point, raised
from lincoln_fn.testing.functions.value import AGREEMENT, Judge, error_of_y, other_y
from lincoln_fn.testing.precision import LOW, Doubled

_NOT_DIFFERENTIABLE: Final = re.compile(r"not differentiable with respect to argument '(\w+)'")
# By which part inputs change where a function in float64 has to change, too.
LAST_DIGITS = 1e-12


@overload
def check_function(
    f: Callable[..., Any] | type[torch.autograd.Function], *inputs: object,
    reference: Callable[..., Any] | None = ..., key: Key = ..., all: Literal[False] = ...,
    twice: bool = ..., is_compiled: bool = ...,
) -> None: ...  # fmt: skip
@overload
def check_function(
    f: Callable[..., Any] | type[torch.autograd.Function], *inputs: object,
    reference: Callable[..., Any] | None = ..., key: Key = ..., all: Literal[True],
    twice: bool = ..., is_compiled: bool = ...,
) -> Report: ...  # fmt: skip
def check_function(
    f: Callable[..., Any] | type[torch.autograd.Function],
    *inputs: object,
    reference: Callable[..., Any] | None = None,
    key: Key = Key(0),
    all: bool = False,  # noqa: A002  # as the option is called
    twice: bool = False,
    is_compiled: bool = False,
) -> Report | None:
    """Check the gradients of a function of torch with a backward of its own.

    Its gradients are held against differences of its own forward in float64, or against a
    reference. Then it runs in other ways: with a g that is strided, transposed or expanded, with
    such inputs, twice, with nan in new memory, with another call between, with each input alone
    requiring grad, with other sizes, in bfloat16. It looks for writes into g, the inputs, and what
    was saved. A forward may refuse any of this by an error.

    Args:
        f: an `autograd.Function` or its `apply`, an operator of `torch.library`, an `nn.Module`, or
            another differentiable function of tensors. A `jax.custom_vjp` goes in, too.
        inputs: what it is called with: tensors, numbers, None. Gradients are those of the floating
            tensors that require grad, or of all if none does, and of a module's parameters.
        reference: a plain function of torch of the same inputs, which says what y and the gradients
            are: for kernels, which take no float64.
        all: whether to return a report of everything tried, in place of an error at the first
            mistake.
        twice: whether a silently wrong second derivative is a mistake, and not a remark.
        is_compiled: whether it is tried under `torch.compile`, too, which takes seconds.

    Raises:
        GradientError: naming the mistake; not with `all=True`.

    Example:
        >>> x = torch.tensor([[1.0, -2.0, 3.0]])
        >>> check_function(torch.nn.functional.gelu, x)
        >>> check_function(lambda x: 2 * x.detach() + x, x)
        Traceback (most recent call last):
        lincoln_fn.testing.diagnosis.GradientError: <lambda>: dx is 1/3 of the derivative
    """
    check_argument("check_function", "key", Key, key)
    if (pair := pair_of_vjp(f)) is not None:
        function = function_of_pair(pair, inputs)
    else:
        function = function_of(f, inputs)
    if isinstance(reference, nn.Module):
        reference = function_of(reference, inputs).call
    return _checked(function, reference, key, all, twice=twice, is_compiled=is_compiled)


@overload
def check_vjp(
    forward: Callable[..., Any], backward: Any = ..., *inputs: object,
    reference: Callable[..., Any] | None = ..., key: Key = ..., all: Literal[False] = ...,
) -> None: ...  # fmt: skip
@overload
def check_vjp(
    forward: Callable[..., Any], backward: Any = ..., *inputs: object,
    reference: Callable[..., Any] | None = ..., key: Key = ..., all: Literal[True],
) -> Report: ...  # fmt: skip
def check_vjp(
    forward: Callable[..., Any],
    backward: Any = None,
    *inputs: object,
    reference: Callable[..., Any] | None = None,
    key: Key = Key(0),
    all: bool = False,  # noqa: A002  # as the option is called
) -> Report | None:
    """Check a pair of functions of arrays: of numpy, of jax or of torch.

    `forward(*inputs)` returns (y, saved), and `backward(saved, g)` the gradients of all inputs, as
    the two functions of a `jax.custom_vjp` do. All that `check_function` tries is tried. The
    gradients have to have the shapes of the inputs.

    Args:
        forward: the forward pass; or a `jax.custom_vjp`, with the inputs right behind it.
        backward: the backward pass.
        inputs: arrays of one kind, numbers and None.
        reference: a plain function of torch tensors, which says what y and the gradients are.
        all: whether to return a report, in place of an error at the first mistake.

    Raises:
        GradientError: naming the mistake; not with `all=True`.

    Example:
        >>> import numpy as np
        >>> def forward(x, w):
        ...     return x @ w, (x, w)
        >>> def backward(saved, g):
        ...     x, w = saved
        ...     return g @ w.T, x.T @ g / len(x)
        >>> check_vjp(forward, backward, np.ones((4, 3)), np.ones((3, 2)))
        Traceback (most recent call last):
        lincoln_fn.testing.diagnosis.GradientError: forward: dw is 4 times too small: averaged where it should be summed?
    """
    check_argument("check_vjp", "key", Key, key)
    if (pair := pair_of_vjp(forward)) is not None:
        inputs = (backward, *inputs)
    pair = pair or Pair(forward, backward, forward)
    return _checked(function_of_pair(pair, inputs), reference, key, all)


def _checked(
    f: Function,
    reference: Callable[..., Any] | None,
    key: Key,
    all: bool,  # noqa: A002  # as above
    *,
    twice: bool = False,
    is_compiled: bool = False,
) -> Report | None:
    remarks: list[str] = []
    findings: list[Finding] = []
    for finding in _findings(f, reference, key, remarks, twice=twice, is_compiled=is_compiled):
        if finding.verdict == "wrong" and not all:
            raise GradientError(finding.sentence)
        findings.append(finding)
    return Report(f.name, tuple(findings), tuple(remarks)) if all else None


def _findings(
    f: Function,
    reference: Callable[..., Any] | None,
    key: Key,
    remarks: list[str],
    *,
    twice: bool,
    is_compiled: bool,
) -> Iterator[Finding]:
    """Try one thing after the other."""
    if not f.which:
        yield _finding(f, "inputs", "no input is a floating tensor")
        return
    f, run = _settled(f)
    if not run.y:
        yield Finding("", f.name, "y", "not judged")
        remarks.append("no output is a floating tensor")
        return
    if not f.outputs:
        yield _finding(f, "y", "no output requires grad: it has no backward that autograd sees")
        return
    run = f.run()
    g = run.cotangent(key)
    try:
        grads = run.gradients(g)
    except Exception as error:
        yield _finding(f, "backward", raised(f, error))
        return
    judge = Judge(reference, _is_exact(f, reference, key))
    if reference is not None:
        yield _finding(f, "y", other_y(f, reference))
    judged = judge.of(f, key, elsewhere=True)
    yield from judged.findings
    remarks += judged.remarks
    at = Point(f, judge, key, run, g, grads)
    trials = dict(TRIALS if judged.mistakes else TRIALS | FURTHER)
    if is_compiled:
        trials["torch.compile"] = compiled
    asked = {"second derivative": twice, "long sums": grads[0].dtype in LOW}
    trials |= {name: ASKED[name] for name, is_asked in asked.items() if is_asked}
    for name, trial in trials.items():
        try:
            yield _finding(f, name, next(trial(at), ""))
        except NotTriedError as error:
            remarks.append(f"not tried: {name}: {error}")
        except Exception as error:  # a function may refuse in any way to be tried
            remarks.append(f"not tried: {name}: {type(error).__name__}: {error}")
    for name, is_asked in asked.items():
        if not is_asked and not judged.mistakes:
            with suppress(Exception):  # as above
                remarks += ASKED[name](at)


def _settled(f: Function) -> tuple[Function, Run]:
    """Find the inputs and the outputs that have gradients."""
    while True:
        try:
            run = f.run()
        except RuntimeError as error:
            fixed = _NOT_DIFFERENTIABLE.search(str(error))
            left = tuple(i for i in f.which if fixed and f.names[i] != fixed[1])
            if fixed is None or left == f.which:
                raise
            f = attrs.evolve(f, which=left)
            continue
        outputs = tuple(i for i, y in enumerate(run.y) if y.requires_grad)
        return attrs.evolve(f, outputs=outputs), run


def _finding(f: Function, what: str, told: str) -> Finding:
    """Make the finding of a trial: what it tells is wrong, if anything."""
    if not told:
        return Finding("", f.name, what, "right")
    return Finding("", f.name, what, "wrong", what, f"{f.name}: {told}")


def _is_exact(f: Function, reference: Callable[..., Any] | None, key: Key) -> bool:
    """Return whether a function computes in float64, so that differences see small mistakes."""
    f = f.in_dtype(torch.float64)
    try:
        with Doubled():
            run = f.run()
            run.gradients(run.cotangent(key))
            moved = f.run([_in_last_digits(value) for value in f.inputs])
    except Exception:  # a kernel may refuse float64 in any way
        return False
    if any(y.dtype is not torch.float64 for y in run.y):
        return False
    if reference is not None:
        with Doubled():
            return error_of_y(f, reference) <= AGREEMENT
    return not all(map(torch.equal, run.y, moved.y))


def _in_last_digits(value: object) -> object:
    is_floating = isinstance(value, Tensor) and value.is_floating_point()
    return value * (1 + LAST_DIGITS) if is_floating else value
