"""Names elsewhere, and ours or the reason why there is none: `python -m lincoln_fn.vocabulary`.

The table has a row for each public module of torch.nn and optimizer of torch.optim. A counterpart
is found by its name, which is torch's in snake case. `vocabulary.txt` has the other names, what has
no counterpart, with the reason, and the names of other libraries.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Final, NamedTuple

import torch

from lincoln_fn.combine import ALIASES
from lincoln_fn.core import HABITS

_LAZY = "every layer here finds its input's sizes by itself"


class Row(NamedTuple):
    """A name elsewhere, and our counterpart or the reason why there is none."""

    theirs: str
    ours: str
    reason: str


def listed(*homes: str) -> Iterator[Row]:
    """Read the rows of some libraries from `vocabulary.txt`."""
    home = ""
    for line in Path(__file__).with_suffix(".txt").read_text("utf-8").splitlines():
        if line.startswith("["):
            home = line.strip("[]")
        elif home in homes and line and not line.startswith("#"):
            theirs, told = re.split("  +", line)
            ours = told.removeprefix("lf.") if told.startswith("lf.") else ""
            yield Row(f"{home}.{theirs}", ours, "" if ours else told)


_TORCH: Final = {row.theirs: row for row in listed("nn", "optim", "nn.functional")}


def table() -> list[Row]:
    """Make the table of torch's names."""
    return [_row(*names) for names in _torch_names()]


def peers() -> list[Row]:
    """Read the names of optax and torchmetrics, and transformers' options of generation."""
    return [*listed("optax", "torchmetrics", "GenerationConfig")]


def _torch_names() -> Iterator[tuple[str, str]]:
    for package, module, base in (
        ("nn", torch.nn, torch.nn.Module),
        ("optim", torch.optim, torch.optim.Optimizer),
    ):
        for name, value in inspect.getmembers(module, inspect.isclass):
            if issubclass(value, base):
                yield package, name


def _library() -> ModuleType:
    return sys.modules["lincoln_fn"]


def _row(package: str, name: str) -> Row:
    theirs = f"{package}.{name}"
    row = _TORCH.get(theirs, Row(theirs, "", _LAZY if name.startswith("Lazy") else ""))
    snake = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name.removesuffix("Loss"))
    lowered = snake.lower()
    squeezed = lowered.replace("_", "")
    for path in (row.ours, lowered, squeezed, f"losses.{lowered}", f"optim.{squeezed}"):
        owner, _, attribute = path.rpartition(".")
        home = getattr(_library(), owner) if owner else _library()
        if attribute in home.__all__ and callable(getattr(home, attribute)):
            return Row(theirs, path, "")
    return Row(theirs, "", row.reason)


# The rooms with functions that a user might look for in the wrong one.
_ROOMS: Final = (
    *("", "optim", "losses", "metrics", "schedules", "initializers", "data", "streams", "testing"),
    *("plots", "interop", "checkpoint", "distributed", "inspect", "tree", "keys"),
)


def missing_name(module: str, name: str) -> AttributeError:
    """Make the error about a name that a module of the library does not have.

    It says what the name is called here, or that it is left out and why, or in which module it is.
    """
    problem = f"module {module!r} has no attribute {name!r}"
    told = "" if name.startswith("_") else _told(module, name)
    return AttributeError(f"{problem}; {told}" if told else problem)


def _told(module: str, name: str) -> str:
    if name in HABITS.get(module, ()):
        return HABITS[module][name]
    for package, torchs in _torch_names():
        if torchs == name:
            row = _row(package, name)
            told = f"is lf.{row.ours} here" if row.ours else f"is left out here: {row.reason}"
            return f"torch.{row.theirs} {told}"
    if name in ALIASES:
        return f"torch.{name} is lf.{ALIASES[name]} here"
    if name in ("nn", "functional"):
        return "layers stand in lf itself, such as lf.dense"
    other = _TORCH.get(f"nn.functional.{name}")
    torchs = f"torch.{other.theirs} is lf.{other.ours} here" if other else ""
    for room in _ROOMS:
        if room and room not in _library().__all__:
            continue
        home = getattr(_library(), room) if room else _library()
        names = getattr(home, "__all__", vars(home))
        close = {_squeezed(key): key for key in names if not key.startswith("_")}
        found = close.get(_squeezed(name))
        value = getattr(home, found) if found else None
        if callable(value) and str(value.__module__).startswith("lincoln_fn"):
            path = f"lf.{room}.{found}" if room else f"lf.{found}"
            return f"{torchs}, and {path} something else" if torchs else f"write {path}"
    return torchs


def _squeezed(name: str) -> str:
    return name.lower().replace("_", "")


def main() -> None:
    """Print both tables."""
    rows = table() + peers()
    width = max(len(row.theirs) for row in rows)
    for row in rows:
        told = f"lf.{row.ours}" if row.ours else f"left out: {row.reason}"
        print(f"{row.theirs:{width}}  {told}")
    here = sum(bool(row.ours) for row in rows)
    print(f"\n{here} of {len(rows)} are here; torch {torch.__version__}")


if __name__ == "__main__":
    main()
