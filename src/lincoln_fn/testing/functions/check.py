"""`check_function` and `check_vjp`: is a backward of one's own right, in value and in manners?

The same as a command, `python -m lincoln_fn.testing package.module:Mine`:

    python -m lincoln_fn.testing ops.py:Mine --inputs "f32[4,8], f32[8], 1e-5"
    python -m lincoln_fn.testing ops:embed --inputs "i64[4] < 9, bf16[9,8]" --reference ops:plain

It prints a report, and how to see it again; with `--json`, a record for machines. It ends with 0 if
what was tried is right, with 1 if something is wrong, and with 2 if nothing could be judged.
"""

from __future__ import annotations

import argparse
import ast
import json
import math
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from runpy import run_path
from typing import Any, Final

import attrs
import torch
from torch import Tensor, nn

from lincoln_fn.core import Key, LayerError, check_argument, keys
from lincoln_fn.testing.diagnosis import GradientError, Report
from lincoln_fn.testing.functions.arrays import Pair, function_of_pair, pair_of_vjp
from lincoln_fn.testing.functions.function import Function, function_of
from lincoln_fn.testing.functions.report import report_of


def check_function(
    f: Callable[..., Any] | type[torch.autograd.Function],
    *inputs: object,
    reference: Callable[..., Any] | None = None,
    key: Key = Key(0),
    all: bool = False,  # noqa: A002  # as the option is called
    twice: bool = False,
    is_compiled: bool = False,
) -> Report:
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
        all: whether to report everything tried, in place of an error at the first mistake.
        twice: whether a silently wrong second derivative is a mistake, and not a remark.
        is_compiled: whether it is tried under `torch.compile`, too, which takes seconds.

    Raises:
        GradientError: naming the mistake, or why no gradient could be judged; not with `all=True`.

    Example:
        >>> x = torch.tensor([[1.0, -2.0, 3.0]])
        >>> check_function(torch.nn.functional.gelu, x).is_right
        True
        >>> check_function(lambda x: torch.sin(x) - 2 * torch.sin(x.detach()), x)
        Traceback (most recent call last):
        lincoln_fn.testing.diagnosis.GradientError: <lambda>: dx has the wrong sign
    """
    __tracebackhide__ = True  # pytest then shows the caller
    check_argument("check_function", "key", Key, key)
    pair = pair_of_vjp(f)
    function = function_of(f, inputs) if pair is None else function_of_pair(pair, inputs)
    if isinstance(reference, nn.Module):
        reference = function_of(reference, inputs).call
    options = {"second derivative": twice, "torch.compile": is_compiled}
    return _told(function, reference, key, {name for name, on in options.items() if on}, all)


def check_vjp(
    forward: Callable[..., Any],
    backward: Callable[..., Any],
    *inputs: object,
    reference: Callable[..., Any] | None = None,
    key: Key = Key(0),
    all: bool = False,  # noqa: A002  # as the option is called
) -> Report:
    """Check a pair of functions of arrays: of numpy, of jax or of torch.

    `forward(*inputs)` returns (y, saved), and `backward(saved, g)` the gradients of all inputs, as
    the two functions of a `jax.custom_vjp` do. All that `check_function` tries is tried. The
    gradients have to have the shapes of the inputs.

    Args:
        forward: the forward pass.
        backward: the backward pass.
        inputs: arrays of one kind, numbers and None.
        reference: a plain function of torch tensors, which says what y and the gradients are.
        all: whether to report every mistake, in place of an error at the first.

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
    return _told(function_of_pair(Pair(forward, backward), inputs), reference, key, set(), all)


def _told(
    f: Function, reference: Callable[..., Any] | None, key: Key, asked: set[str], is_all: bool
) -> Report:
    """Return a report; unless all is reported, raise an error if it is not right."""
    __tracebackhide__ = True
    with torch.inference_mode(False):
        report = report_of(f, reference, key, asked)
    if report.mistakes and not is_all:
        raise GradientError(report.mistakes[0].sentence)
    if not (report.is_right or is_all):
        told = "; ".join(report.remarks) or report.findings[0].sentence
        raise GradientError(f"{f.name}: no gradient could be judged: {told}")
    return report


DTYPES: Final = {
    "f64": torch.float64, "f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16,
    "i64": torch.int64, "i32": torch.int32, "bool": torch.bool,
}  # fmt: skip
_TENSOR: Final = re.compile(r"(\w+)\[([\d, ]*)\](?: *< *(\d+))?$")
_COMMA: Final = re.compile(r",(?![^\[(]*[\])])")
_EXITS: Final = {"right": 0, "wrong": 1, "not judged": 2}


def main(arguments: Sequence[str] | None = None) -> None:
    """Check a function that is named on the command line, and end with the verdict."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    parser = argparse.ArgumentParser(
        prog="python -m lincoln_fn.testing", description="Is a backward of your own right?"
    )
    parser.add_argument("function", help="package.module:name, or file.py:name")
    parser.add_argument("--inputs", required=True, help='such as "f32[4,8], i64[4] < 10, 1e-5"')
    parser.add_argument("--reference", help="a plain function of torch, named likewise")
    parser.add_argument("--backward", help="of a pair of functions of numpy, named likewise")
    parser.add_argument("--key", type=int, default=0, help="of the numbers that are drawn")
    parser.add_argument("--json", action="store_true", help="print a record for machines")
    of = parser.parse_args(given)
    try:
        report = _report(of)
    except (ImportError, LayerError, NameError, AttributeError, OSError, ValueError) as error:
        parser.error(f"{type(error).__name__}: {error}")
    again = shlex.join(["python", "-m", "lincoln_fn.testing", *given])
    print(record_of(report, again) if of.json else f"{report}\n  to see it again: {again}")
    raise SystemExit(_EXITS[report.verdict])


def _report(of: argparse.Namespace) -> Report:
    inputs = inputs_of(of.inputs, Key(of.key))
    options: Any = {"reference": of.reference and named(of.reference), "key": Key(of.key)}
    if of.backward:
        arrays = [value.numpy() if isinstance(value, Tensor) else value for value in inputs]
        pair = named(of.function), named(of.backward)
        return check_vjp(*pair, *arrays, **options, all=True)
    return check_function(named(of.function), *inputs, **options, all=True)


def record_of(report: Report, again: str) -> str:
    """Write a report as JSON."""
    findings = [attrs.asdict(finding) for finding in report.findings]
    for each in findings:  # JSON has no nan and no infinity
        each["error"] = each["error"] if math.isfinite(each["error"]) else None
    record = {"name": report.name, "verdict": report.verdict, "findings": findings}
    return json.dumps(record | {"remarks": report.remarks, "again": again}, indent=1)


def named(name: str) -> Any:  # Any: of any kind
    """Find what is named by `package.module:name` or `file.py:name`."""
    home, _, expression = name.rpartition(":")
    if not home:
        raise ValueError(f"expected package.module:name or file.py:name, got {name}")
    # A name of its own would hide a module of that name.
    scope = run_path(home) if home.endswith(".py") else vars(import_module(home))
    return eval(expression, scope)


def inputs_of(text: str, key: Key) -> list[Any]:  # Any: tensors, numbers, None
    """Draw the inputs that a text lists, such as "bf16[2,3], 5, 'mean'"."""
    return [_input(part.strip(), key.fold_in(n)) for n, part in enumerate(_COMMA.split(text))]


def _input(text: str, key: Key) -> Any:  # Any: as above
    found = _TENSOR.match(text)
    if found is None or found[1] not in DTYPES:
        try:
            return ast.literal_eval(text)
        except (SyntaxError, ValueError):
            kinds = ", ".join(DTYPES)
            told = f"expected a number, None, or a tensor such as f32[4,8] of {kinds}; got {text}"
            raise ValueError(told) from None
    shape, dtype = tuple(map(int, re.findall(r"\d+", found[2]))), DTYPES[found[1]]
    if dtype.is_floating_point:
        return keys.normal(key, shape, dtype=torch.float64).to(dtype)
    below = int(found[3] or 2)
    return keys.uniform(key, shape, 0, below).floor().clamp_max(below - 1).to(dtype)
