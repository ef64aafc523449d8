"""One checkpoint file: written so that a crash leaves the old or the new, read without trust."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import optree
import torch
from torch import Tensor

from lincoln_fn.checkpoint.access import reading, replacing
from lincoln_fn.checkpoint.blocks import blocks, bytes_of, kept_strides
from lincoln_fn.checkpoint.contents import (
    Contents,
    check_fit,
    check_head,
    read_contents,
    read_tensors,
)
from lincoln_fn.checkpoint.description import describe, shape_text
from lincoln_fn.checkpoint.notes import KEY, NO_DIGEST, Notes, begun, finite, head_digest, named
from lincoln_fn.checkpoint.places import DTYPES, head_bytes, laid_out
from lincoln_fn.record import EVERYTHING

VERSION: Final = 1

T = TypeVar("T")


class CheckpointError(ValueError):
    """Something wrong with a checkpoint file, or with what was to be saved in it.

    Args:
        path: the file.
        problem: what was expected and what was found.

    Example:
        >>> raise CheckpointError("run/last.safetensors", "no such file")
        Traceback (most recent call last):
        lincoln_fn.checkpoint.file.CheckpointError: run/last.safetensors: no such file
    """

    def __init__(self, path: str | os.PathLike[str], problem: str) -> None:
        super().__init__(str(path), problem)
        self.path = Path(path)
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}"


# Any: a tree is nested to a depth, and of kinds, that only its maker knows.
def save(path: str | os.PathLike[str], state: Any, *, score: float | None = None) -> None:
    """Write a tree to a file, which is the old or the new one whenever the program may end.

    The file is written under a hidden name in the same folder, synced and renamed; then the folder
    is synced. A program that is killed meanwhile can leave the hidden file. Beside the state a save
    takes a few megabytes of memory.

    Args:
        path: the file, replaced if it is there; its folder has to be. The mode of a file that is
            replaced stays. A symbolic link stays too, and the file that it leads to is replaced.
        state: a `TrainState`, parameters or any other tree of tensors, numbers and text.
        score: how good the state is, a finite number, kept beside it.

    Raises:
        CheckpointError: if a leaf is of a kind or dtype, or has a name, that has no place in the
            file; if the score is no finite number; if something else than a file is in the place.
        OSError: if the file cannot be written; the old one is then untouched.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save(f"{folder}/w.safetensors", {"weight": torch.ones(2)})
        ...     load(f"{folder}/w.safetensors", like={"weight": torch.zeros(2)})
        {'weight': tensor([1., 1.])}
    """
    path = Path(path)
    with _named(path):
        described = describe(state)
        for name, leaf in described.tensors.items():
            _check_numbers(name, leaf)
        places = laid_out(described.tensors)
        shapes = {name: shape_text(place) for name, place in places.items()}
        notes: Notes = {
            "version": VERSION,
            "rest": described.rest,
            "strides": kept_strides(described.tensors),
            "score": None if score is None else checked_score(score),
        }
        notes["head_sha256"] = head_digest(notes, shapes)
        head = head_bytes(places, {KEY: json.dumps({**notes, "sha256": NO_DIGEST})})
        with replacing(path) as file:
            sha = begun(notes)
            for name in sorted(places):
                sha.update(named(name, shapes[name]))
                file.seek(len(head) + places[name].begin)
                for block in blocks(described.tensors[name]):
                    data = bytes_of(block).numpy().data
                    sha.update(data)
                    file.write(data)
            # The head comes last, for it has the checksum over what was written.
            file.seek(0)
            file.write(head_bytes(places, {KEY: json.dumps({**notes, "sha256": sha.hexdigest()})}))


def load(path: str | os.PathLike[str], like: T) -> T:
    """Read a tree from a file.

    Memory is taken for the tree alone, and only once the file is known to fit.

    Args:
        path: the file.
        like: a tree of the kind that was saved, such as the state before the first step. It tells
            the structure, shapes, dtypes and devices to expect; a tree on `meta` serves, and then
            the tensors come on the CPU.

    Returns:
        A tree like that, with the tensors of the file, bit for bit.

    Raises:
        CheckpointError: if the file cannot be read, is damaged or of another version, or differs
            from `like`; then it names every path that does.
    """
    path = Path(path)
    with _opened(path) as opened:
        try:
            expected = describe(like)
        except ValueError as error:
            raise ValueError(f"like: {error}") from error
        check_fit(opened, expected.rest, {n: shape_text(t) for n, t in expected.tensors.items()})
        tensors = read_tensors(opened, {n: t.device for n, t in expected.tensors.items()})
    leaves = [tensors.get(name, leaf) for name, leaf in expected.leaves.items()]
    structure = optree.tree_structure(like, namespace=EVERYTHING)  # type: ignore[arg-type]  # any T
    loaded: T = structure.unflatten(leaves)  # type: ignore[assignment]  # a tree like the first
    return loaded


def score_of(path: Path) -> float | None:
    """Read the score that a file was saved with, if its checksum agrees.

    Args:
        path: the file.

    Returns:
        The score; None if it has none that is a finite number.

    Raises:
        CheckpointError: if the file cannot be read, is of another version, or its notes or the
            shapes of its tensors are damaged.
    """
    with _opened(path) as opened:
        check_head(opened)
        score = opened.notes["score"]
    return None if isinstance(score, bool) else finite(score)


# Any: what a caller took for a score.
def checked_score(score: Any) -> float:
    """Check a score that is to be saved.

    Args:
        score: a number, or a tensor or array of one.

    Returns:
        The number.

    Raises:
        ValueError: if it is not finite, or no number.

    Example:
        >>> checked_score(float("nan"))
        Traceback (most recent call last):
        ValueError: expected a score that is a finite number, got nan
    """
    number = finite(score)
    if number is None:
        raise ValueError(f"expected a score that is a finite number, got {score!r}")
    return number


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Put the file's name before what is wrong."""
    try:
        yield
    except ValueError as error:
        raise CheckpointError(path, str(error)) from error


@contextmanager
def _opened(path: Path) -> Iterator[Contents]:
    with _named(path), reading(path) as (file, size):
        yield read_contents(file, size, VERSION)


def _check_numbers(name: str, leaf: Tensor) -> None:
    if leaf.is_meta or leaf.layout is not torch.strided or leaf.dtype not in DTYPES:
        kind = "meta" if leaf.is_meta else str(leaf.layout).removeprefix("torch.")
        problem = f"expected a tensor with numbers that safetensors holds at {name}"
        raise ValueError(f"{problem}, got {kind} {shape_text(leaf)}")
