"""The files of a directory of checkpoints: names, the newest, the best, and which to remove."""

from __future__ import annotations

import os
import re
import secrets
import stat
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from lincoln_fn.checkpoint.file import CheckpointError, score_of

# Files of any such name are loaded; only names that `save` gives are removed.
_FILE: Final = re.compile(r"step_([0-9]+)\.safetensors")
_OWN: Final = re.compile(r"step_([0-9]{9}|[1-9][0-9]{9,})\.safetensors")
_LEFTOVER: Final = re.compile(r"\.step_[0-9]{9,}\.safetensors\.[0-9a-f]{8}\.tmp")


def file_of(path: Path, state: object) -> Path:
    """Name the file of a state by its step."""
    step = getattr(state, "step", None)
    if isinstance(step, Tensor):
        whole = not (step.is_meta or step.is_floating_point() or step.is_complex())
        number = int(step) if whole and step.numel() == 1 and step.dtype != torch.bool else -1
    else:
        number = step if type(step) is int else -1
    if not 0 <= number < 2**63:
        got = type(state).__name__ if step is None else f"step {step!r}"
        raise CheckpointError(path, f"expected a state with a step of at least 0, got {got}")
    return path / f"step_{number:09}.safetensors"


def newest_first(path: Path) -> list[Path]:
    """List the files with a checkpoint's name, the latest step first."""
    matches = [match for name in _names(path) if (match := _FILE.fullmatch(name))]
    steps = {match[0]: int(match[1]) for match in matches}
    return [path / name for name in sorted(steps, key=lambda n: (steps[n], n), reverse=True)]


def best_first(files: Iterable[Path]) -> list[Path]:
    """List the files that have scores, the highest first; of equal scores, the earliest."""
    return rank_by_score(_scores(files))


def rank_by_score(scores: dict[Path, float | None]) -> list[Path]:
    """Rank files, given the latest first, by their scores: those without one are left out."""
    finite = {file: score for file, score in reversed(scores.items()) if score is not None}
    return sorted(finite, key=lambda file: finite[file], reverse=True)


def list_superfluous(path: Path, last: int, best: int) -> list[Path]:
    """List the files that a directory has written and need not keep."""
    # Files count as its own if a save has named them, they are not symbolic links, and their
    # checksum over score and shapes is right. Damaged files, and those of someone else, are neither
    # removed nor counted. Temporary files of a killed save are its own, too.
    named = [file for file in newest_first(path) if _OWN.fullmatch(file.name) and _is_file(file)]
    scores = _scores(named)
    needed = {*list(scores)[:last], *rank_by_score(scores)[:best]}
    leftovers = [path / name for name in _names(path) if _LEFTOVER.fullmatch(name)]
    return [file for file in [*scores, *filter(_is_file, leftovers)] if file not in needed]


def set_aside(file: Path) -> None:
    """Rename a file in a checkpoint's place that is damaged or not a checkpoint, to keep it."""
    if not file.is_file():
        return
    try:
        score_of(file)
    except CheckpointError as error:
        aside = file.with_name(f"{file.name}.{secrets.token_hex(4)}.aside")
        file.rename(aside)
        # The warning names the caller of `Directory.save`.
        warnings.warn(f"renamed to {aside.name}, to save in its place: {error}", stacklevel=3)


def _names(path: Path) -> list[str]:
    try:
        return os.listdir(path)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise CheckpointError(path, f"cannot be listed: {error.strerror}") from error


def _scores(files: Iterable[Path]) -> dict[Path, float | None]:
    """Read the scores whose checksums are right; `latest` warns about the other files."""
    scores: dict[Path, float | None] = {}
    for file in files:
        try:
            scores[file] = score_of(file)
        except CheckpointError:
            continue
    return scores


def _is_file(file: Path) -> bool:
    """Return whether something is a file, and no symbolic link to one."""
    try:
        return stat.S_ISREG(file.lstat().st_mode)
    except FileNotFoundError:
        return False
