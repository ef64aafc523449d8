"""`check_function` and `check_vjp`: is a backward of one's own right, in value and in manners?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, overload

import torch
from torch import nn

from lincoln_fn.core import Key, check_argument
from lincoln_fn.testing.diagnosis import GradientError, Report
from lincoln_fn.testing.functions.arrays import Pair, function_of_pair, pair_of_vjp
from lincoln_fn.testing.functions.function import Function, function_of
from lincoln_fn.testing.functions.report import report_of


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
        GradientError: naming the mistake, or why no gradient could be judged; not with `all=True`.

    Example:
        >>> x = torch.tensor([[1.0, -2.0, 3.0]])
        >>> check_function(torch.nn.functional.gelu, x)
        >>> check_function(lambda x: torch.sin(x) - 2 * torch.sin(x.detach()), x)
        Traceback (most recent call last):
        lincoln_fn.testing.diagnosis.GradientError: <lambda>: dx has the wrong sign
    """
    __tracebackhide__ = True  # pytest then shows the caller
    check_argument("check_function", "key", Key, key)
    if (pair := pair_of_vjp(f)) is not None:
        function = function_of_pair(pair, inputs)
    else:
        function = function_of(f, inputs)
    if isinstance(reference, nn.Module):
        reference = function_of(reference, inputs).call
    asked = {"second derivative"} if twice else set()
    asked |= {"torch.compile"} if is_compiled else set()
    return _told(function, reference, key, asked, all)


@overload
def check_vjp(
    forward: Callable[..., Any], backward: Callable[..., Any], *inputs: object,
    reference: Callable[..., Any] | None = ..., key: Key = ..., all: Literal[False] = ...,
) -> None: ...  # fmt: skip
@overload
def check_vjp(
    forward: Callable[..., Any], backward: Callable[..., Any], *inputs: object,
    reference: Callable[..., Any] | None = ..., key: Key = ..., all: Literal[True],
) -> Report: ...  # fmt: skip
def check_vjp(
    forward: Callable[..., Any],
    backward: Callable[..., Any],
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
        forward: the forward pass.
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
        ...     return g @ w.T, -x.T @ g
        >>> check_vjp(forward, backward, np.ones((4, 3)), np.ones((3, 2)))
        Traceback (most recent call last):
        lincoln_fn.testing.diagnosis.GradientError: backward of forward: dw has the wrong sign
    """
    __tracebackhide__ = True
    check_argument("check_vjp", "key", Key, key)
    function = function_of_pair(Pair(forward, backward), inputs)
    return _told(function, reference, key, set(), all)


def _told(
    f: Function, reference: Callable[..., Any] | None, key: Key, asked: set[str], is_all: bool
) -> Report | None:
    """Return a report, or raise an error if it is not right."""
    __tracebackhide__ = True
    with torch.inference_mode(False):
        report = report_of(f, reference, key, asked)
    if is_all:
        return report
    if report.mistakes:
        raise GradientError(report.mistakes[0].sentence)
    if not report.is_right:
        told = "; ".join(report.remarks) or report.findings[0].sentence
        raise GradientError(f"{f.name}: no gradient could be judged: {told}")
    return None
