"""The command that checks a function: `python -m lincoln_fn.testing package.module:Mine`.

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
from collections.abc import Sequence
from importlib import import_module
from runpy import run_path
from typing import Any, Final

import attrs
import torch
from torch import Tensor

from lincoln_fn.core import Key, LayerError, keys
from lincoln_fn.testing.diagnosis import Report
from lincoln_fn.testing.functions.check import check_function, check_vjp

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
    if not home.endswith(".py"):
        return eval(expression, vars(import_module(home)))
    # A name of its own would hide a module of that name.
    return eval(expression, run_path(home))


def inputs_of(text: str, key: Key) -> list[Any]:  # Any: tensors, numbers, None
    """Draw the inputs that a text lists.

    Example:
        >>> x, n, reduction = inputs_of("bf16[2,3], 5, 'mean'", Key(0))
        >>> x.dtype, tuple(x.shape), n, reduction
        (torch.bfloat16, (2, 3), 5, 'mean')
    """
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
