"""Prove every layer, loss and optimizer, in the configurations of the tests, and write tables."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[2] / "tests"))

from helpers.cases import FIRST
from helpers.cases.case import normal
from helpers.losses import TABLE
from helpers.optimizers import RICH

from lincoln_fn.testing import Proof, Refutation, digits, prove

# So small that norms of whole leaves have roots in the field.
PARAMS = (normal(1, 2), normal(2, seed=1))
HEADS = "| | | digits of y | of its gradients |\n| --- | --- | --- | --- |"


def layers() -> str:
    """Write the table of layers, each in its first configuration."""
    return _table(
        (case.layer, case.params(), case.x, {"predict_is_forward": case.predict_is_forward})
        for case in FIRST
    )


def losses() -> str:
    """Write the table of losses, each in its first configuration."""
    first = {row.name: row for row in reversed(TABLE)}
    rows = (first[name] for name in sorted(first))
    return _table((row.loss("mean"), row.prediction, row.target, {}) for row in rows)


def optimizers() -> str:
    """Write the table of optimizers, each in the configuration that keeps most."""
    return _table((optimizer, PARAMS, None, {}) for optimizer in RICH)


def _table(rows: Iterable[tuple[Any, ...]]) -> str:
    assumed: dict[str, int] = {}
    lines = [row(assumed, *each) for each in rows]
    notes = (f"({n}) assumed: {told}" for told, n in assumed.items())
    return "\n".join([HEADS, *lines, "", "<br>".join(notes)])


def row(assumed: dict[str, int], subject: Any, params: Any, x: Any, options: dict[str, Any]) -> str:
    """Write a row: what was proven, and how many digits of float32 are left.

    Args:
        assumed: the numbers of what was assumed in the rows before; it gets new ones.
        subject: a layer, a loss or an optimizer, which `prove` takes with the rest.
        params: as `prove` takes it.
        x: likewise.
        options: further arguments.
    """
    if isinstance(getattr(subject, "adjoint", None), str):
        return f"| `{subject.name}` | no adjoint: {subject.adjoint} | | |"
    verdict = prove(subject, params, x, **options)
    assert not isinstance(verdict, Refutation), str(verdict)
    if isinstance(verdict, Proof):
        notes = [assumed.setdefault(each, len(assumed) + 1) for each in verdict.assumed]
        told = " ".join(["proven", *(f"({n})" for n in notes)])
    else:
        told = f"**not decided**: {verdict.reason}"
    left = {leaf: of.float32 for leaf, of in digits(subject, params, x).items()}
    of_y, of_gradients = (
        min((n for leaf, n in left.items() if leaf.startswith(start)), default=None)
        for start in ("y", "d")
    )
    shown = "" if of_gradients is None else f"{of_gradients:.1f}"
    return f"| `{subject.name}` | {told} | {of_y:.1f} | {shown} |"
