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
import math
import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypeAlias

import attrs
import optree
import torch
from torch import Tensor

from lincoln_fn import checkpoint
from lincoln_fn.checkpoint import CheckpointError
from lincoln_fn.checkpoint import internal as files
from lincoln_fn.core import EVERYTHING, Tree, checksum, named_leaves, tree
from lincoln_fn.distributed.data_parallel.sharded_params import Sharded
from lincoln_fn.distributed.group import Group
from lincoln_fn.optim import ShardedState
from lincoln_fn.optim.internal import spans
from lincoln_fn.training import TrainState

VERSION: Final = 1
_STEP: Final = re.compile(r"step_([0-9]{9,})")
# The sizes of the whole tensors that are divided together, and which of them a slice belongs to.
Origin: TypeAlias = tuple[tuple[int, ...], int]


@attrs.frozen(kw_only=True)
class Directory(checkpoint.Directory):
    """The checkpoints of one run on several processes, in folders named by step.

    It has the arguments and the functions of `checkpoint.Directory`, and `checkpoint.every` takes
    it. All processes must call them. The folder is one that all processes see. `latest` and `best`
    load what all can load, and raise a `LostProcessError` if one is gone.

    Example:
        >>> Directory(path="runs/digits", group=lf.distributed.alone(), keep_last=2)
        Directory(path=PosixPath('runs/digits'), keep_last=2, keep_best=1, group=Group(0 of 1))
    """

    group: Group

    def check_free(self) -> None:
        """Do nothing: the processes of a run save in one folder."""

    def save(self, state: TrainState, *, score: float | None = None) -> Path:
        """Save this process's part of a state; with the last part it becomes a checkpoint.

        The state's step names the folder. A score is finite, and the same in all processes; higher
        is better.
        """
        folder = files.file_of(self.path, state).with_suffix("")
        score = files.check_score(score)
        rank, size = self.group.rank, self.group.size
        if rank == 0:
            folder.mkdir(parents=True, exist_ok=True)
            _manifest(folder).unlink(missing_ok=True)
        self.group.wait()
        sliced, leaves = _origins(state), _leaves_by_path(state)
        whole = [leaf for path, leaf in leaves.items() if path not in sliced]
        is_common = len(set(self.group.gather(torch.tensor(checksum(whole))).tolist())) == 1
        is_saved = {path: path in sliced or rank == 0 or not is_common for path in leaves}
        own = {path: leaf for path, leaf in leaves.items() if is_saved[path]}
        checkpoint.save(_part(folder, rank, size), own)
        self.group.wait()
        if rank == 0:
            notes = {"version": VERSION, "processes": size, "score": score, "common": is_common}
            with files.replacing(_manifest(folder)) as file:
                file.write(json.dumps(notes).encode())
            self._remove(folder)
        self.group.wait()  # so that the checkpoint is there for all
        return folder

    def _remove(self, written: Path) -> None:
        whole, best = self._newest_first()[: self.keep_last], self._best_first()[: self.keep_best]
        for folder in self._folders():
            if folder not in (written, *whole, *best):
                _manifest(folder).unlink(missing_ok=True)
                shutil.rmtree(folder, ignore_errors=True)

    def _folders(self) -> list[Path]:
        matches = [_STEP.fullmatch(folder.name) for folder in self.path.glob("step_*")]
        steps = {int(match[1]): match[0] for match in matches if match}
        return [self.path / steps[step] for step in sorted(steps, reverse=True)]

    def _newest_first(self) -> list[Path]:
        return [folder for folder in self._folders() if _notes(folder)]

    def _best_first(self) -> list[Path]:
        return files.rank_by_score(
            {folder: files.read_score(_notes(folder).get("score")) for folder in self._folders()}
        )

    def _load(self, folder: Path, like: TrainState) -> TrainState:
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
    if notes.get("version") != VERSION:
        raise CheckpointError(folder, f"expected a whole checkpoint of version {VERSION}")
    size, is_common = notes["processes"], notes.get("common", True)
    if not is_common and size != group.size:
        problem = f"expected {size} processes, which had different states, got {group.size}"
        raise CheckpointError(folder, problem)
    leaves, sliced = _leaves_by_path(like), _origins(like)
    loaded = {path: torch.empty_like(leaves[path], device="cpu") for path in sliced}
    for rank in range(size) if is_common else [group.rank]:
        expected: dict[str, Tensor] = {}
        for path, leaf in leaves.items():
            if path in sliced:
                begin, end = _span(sliced[path], rank, size)
                expected[path] = torch.empty(end - begin, dtype=leaf.dtype, device="meta")
            elif rank == 0 or not is_common:
                expected[path] = leaf
        part = checkpoint.load(_part(folder, rank, size), expected)
        loaded |= {path: part[path] for path in part if path not in sliced}
        for path, origin in sliced.items():
            its, own = (_span(origin, *of) for of in ((rank, size), (group.rank, group.size)))
            begin, end = max(its[0], own[0]), min(its[1], own[1])  # what both slices have
            if begin < end:
                source = part[path][begin - its[0] : end - its[0]]
                loaded[path][begin - own[0] : end - own[0]] = source
    paths = iter(leaves)
    return tree.map(lambda leaf: loaded[next(paths)].to(leaf.device), like, states=True)


def _span(origin: Origin, rank: int, size: int) -> tuple[int, int]:
    sizes, i = origin
    return spans(sizes, rank, size)[i]


def _part(folder: Path, rank: int, size: int) -> Path:
    return folder / f"part_{rank}_of_{size}.safetensors"


def _manifest(folder: Path) -> Path:
    return folder / "whole.json"


def _notes(folder: Path) -> dict[str, Any]:  # Any: JSON
    """Read the manifest; {} if there is none, and so no whole checkpoint."""
    with suppress(OSError, ValueError):
        notes = json.loads(_manifest(folder).read_text())
        if isinstance(notes, dict) and isinstance(notes.get("processes"), int):
            return notes
    return {}


def _origins(state: Tree) -> dict[str, Origin]:
    """Find where each slice in a state comes from, by its path: of `fully_sharded` or ZeRO-1."""
    paths, nodes, _ = optree.tree_flatten_with_path(
        state, is_leaf=lambda node: isinstance(node, Sharded | ShardedState), namespace=EVERYTHING
    )
    return {
        ".".join([*map(str, entries), inner]): origin
        for entries, node in zip(paths, nodes, strict=True)
        for inner, origin in _list_within(node)
    }


def _list_within(node: object) -> Iterator[tuple[str, Origin]]:
    if isinstance(node, Sharded):
        sizes = tuple(math.prod(shape) for shape, _ in node.forms)
        for i, path in enumerate(tree.paths(node.slices)):
            yield f"slices.{path}" if path else "slices", (sizes, i)
    if isinstance(node, ShardedState):
        for path, leaf in _leaves_by_path(node.inner).items():
            if leaf.ndim == 1:  # the others are counts
                fitting = (n for n in node.names if f".{path}".endswith(f".{n}" if n else ""))
                yield f"inner.{path}", (node.sizes, node.names.index(max(fitting, key=len)))


def _leaves_by_path(state: Tree) -> dict[str, Tensor]:
    return dict(named_leaves(state, states=True))
