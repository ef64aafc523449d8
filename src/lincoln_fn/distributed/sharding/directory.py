"""Checkpoints of a run on many processes: each writes its part, and a manifest makes them whole.

    run/step_000000012/part_0_of_2.safetensors     all that is not divided, and slices of process 0
    run/step_000000012/part_1_of_2.safetensors     slices of process 1
    run/step_000000012/whole.json                  written last: how many parts there are

A folder without its manifest does not count. Slices are counted in the whole parameters, so any
other number of processes can read them.

In pipelines and parallel layers the processes have different states. Then each saves all of its
own, and as many processes have to read them.
"""

from __future__ import annotations

import json
import re
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import attrs
import optree
import torch
from torch import Tensor

from lincoln_fn import checkpoint
from lincoln_fn.checkpoint import CheckpointError
from lincoln_fn.checkpoint.internal import (
    check_score,
    file_of,
    rank_by_score,
    read_score,
    replacing,
)
from lincoln_fn.core import EVERYTHING, checksum
from lincoln_fn.distributed.group import Group
from lincoln_fn.distributed.sharding.sliced_leaves import leaves_by_path, origins, span_of
from lincoln_fn.training import TrainState

VERSION: Final = 1
_STEP: Final = re.compile(r"step_([0-9]{9,})")


@attrs.frozen(kw_only=True)
class Directory(checkpoint.Directory):
    """The checkpoints of one run on several processes, in folders named by step.

    It has the functions of `checkpoint.Directory`, and `checkpoint.every` takes it. All processes
    must call them. The folder is one that all processes see. `latest` and `best` load what all
    processes can load, and raise a `LostProcessError` if one is gone.

    Args:
        path: the folder; the first save makes it.
        group: the processes.
        keep_last: how many of the newest checkpoints are kept, at least 1.
        keep_best: how many of those with the highest scores are kept as well.

    Example:
        >>> Directory(path="runs/digits", group=lf.distributed.alone(), keep_last=2)
        Directory(path=PosixPath('runs/digits'), keep_last=2, keep_best=1, group=Group(0 of 1))
    """

    group: Group

    def check_free(self) -> None:
        """Do nothing: the processes of a run save in one folder."""

    def save(self, state: TrainState, *, score: float | None = None) -> Path:
        """Save this process's part of a state; with the last part it becomes a checkpoint.

        Args:
            state: the state; its step names the folder.
            score: a finite number, the same in all processes; higher is better.

        Returns:
            The folder.

        Raises:
            CheckpointError: if a leaf has a type that the file cannot hold; if the score is not
                finite.
            LostProcessError: if a process is gone.
        """
        folder = file_of(self.path, state).with_suffix("")
        score = None if score is None else check_score(score)
        rank, size = self.group.rank, self.group.size
        if rank == 0:
            folder.mkdir(parents=True, exist_ok=True)
            _manifest(folder).unlink(missing_ok=True)
        self.group.wait()
        sliced, leaves = origins(state), leaves_by_path(state)
        whole = [leaf for path, leaf in leaves.items() if path not in sliced]
        is_common = len(set(self.group.gather(torch.tensor(checksum(whole))).tolist())) == 1
        is_saved = {path: path in sliced or rank == 0 or not is_common for path in leaves}
        own = {path: leaf for path, leaf in leaves.items() if is_saved[path]}
        checkpoint.save(_part(folder, rank, size), own)
        self.group.wait()
        if rank == 0:
            notes = {
                "version": VERSION, "processes": size, "score": score, "common": is_common
            }  # fmt: skip
            with replacing(_manifest(folder)) as file:
                file.write(json.dumps(notes).encode())
            self._remove(folder)
        self.group.wait()  # so that the checkpoint is there for all
        return folder

    def _remove(self, written: Path) -> None:
        """Remove the checkpoints that are not to be kept."""
        whole, best = self._newest_first()[: self.keep_last], self._best_first()[: self.keep_best]
        for folder in self._folders():
            if folder not in (written, *whole, *best):
                _manifest(folder).unlink(missing_ok=True)
                shutil.rmtree(folder, ignore_errors=True)

    def _folders(self) -> list[Path]:
        """List all folders, the latest step first; a run may have ended while it saved one."""
        matches = [_STEP.fullmatch(folder.name) for folder in self.path.glob("step_*")]
        steps = {int(match[1]): match[0] for match in matches if match}
        return [self.path / steps[step] for step in sorted(steps, reverse=True)]

    def _newest_first(self) -> list[Path]:
        return [folder for folder in self._folders() if _notes(folder) is not None]

    def _best_first(self) -> list[Path]:
        notes = {folder: _notes(folder) or {} for folder in self._folders()}
        return rank_by_score(
            {folder: read_score(each.get("score")) for folder, each in notes.items()}
        )

    def _load(self, folder: Path, like: TrainState) -> TrainState:
        """Load a checkpoint in all processes, or in none."""
        state, problem = None, CheckpointError(folder, "another process cannot load it")
        try:
            state = load_parts(folder, like, self.group)
        except CheckpointError as error:
            problem = error
        if not self.group.agree(state is not None) or state is None:
            raise problem
        return state


def load_parts(folder: Path, like: TrainState, group: Group) -> TrainState:
    """Load a process's state from the parts that any number of processes have saved."""
    notes = _notes(folder)
    if notes is None or notes.get("version") != VERSION:
        raise CheckpointError(folder, f"expected a whole checkpoint of version {VERSION}")
    size, is_common = notes["processes"], notes.get("common", True)
    if not is_common and size != group.size:
        problem = f"expected {size} processes, which had different states, got {group.size}"
        raise CheckpointError(folder, problem)
    leaves, sliced = leaves_by_path(like), origins(like)
    loaded = {path: torch.empty_like(leaves[path], device="cpu") for path in sliced}
    for rank in range(size) if is_common else [group.rank]:
        expected: dict[str, Tensor] = {}
        for path, leaf in leaves.items():
            if path in sliced:
                begin, end = span_of(sliced[path], rank, size)
                expected[path] = torch.empty(end - begin, dtype=leaf.dtype, device="meta")
            elif rank == 0 or not is_common:
                expected[path] = leaf
        part = checkpoint.load(_part(folder, rank, size), expected)
        loaded |= {path: part[path] for path in part if path not in sliced}
        for path, origin in sliced.items():
            its, own = (span_of(origin, *of) for of in ((rank, size), (group.rank, group.size)))
            _copy_overlap(part[path], its, loaded[path], own)
    structure = optree.tree_structure(like, namespace=EVERYTHING)  # type: ignore[arg-type]  # a tree
    placed = [loaded[path].to(leaf.device) for path, leaf in leaves.items()]
    state: TrainState = structure.unflatten(placed)  # type: ignore[assignment]  # one like `like`
    return state


def _copy_overlap(
    source: Tensor, its: tuple[int, int], target: Tensor, own: tuple[int, int]
) -> None:
    """Copy the numbers that two slices of one tensor have in common."""
    begin, end = max(its[0], own[0]), min(its[1], own[1])
    if begin < end:
        target[begin - own[0] : end - own[0]] = source[begin - its[0] : end - its[0]]


def _part(folder: Path, rank: int, size: int) -> Path:
    return folder / f"part_{rank}_of_{size}.safetensors"


def _manifest(folder: Path) -> Path:
    return folder / "whole.json"


def _notes(folder: Path) -> dict[str, Any] | None:  # Any: JSON
    """Read the manifest; None if there is none, and so no whole checkpoint."""
    with suppress(OSError, ValueError):
        notes = json.loads(_manifest(folder).read_text())
        if isinstance(notes, dict) and isinstance(notes.get("processes"), int):
            return notes
    return None
