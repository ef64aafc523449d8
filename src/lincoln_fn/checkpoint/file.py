"""One checkpoint file: a crash leaves the old or the new one, and every byte read is checked."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

import attrs
import numpy as np
import optree
import torch
from torch import Tensor

from lincoln_fn.checkpoint import contents, places
from lincoln_fn.checkpoint.access import reading
from lincoln_fn.checkpoint.places import shape_text
from lincoln_fn.core import EVERYTHING, Tree, tree, wrong_kind
from lincoln_fn.training import is_spent

_ADDRESS: Final = re.compile(r" at 0x[0-9a-fA-F]+")
_WITHOUT_NUMBERS: Final = ("Layer", "Loss", "Optimizer", "Step")
_MEND: Final = "; a network's numbers are in its state: write checkpoint.save(path, state)"
# Values in a tree that are not tensors, and whose repr describes them completely.
_PLAIN = (bool, int, float, complex, str, bytes, np.generic, torch.dtype, torch.device)


def describe(tree: Tree) -> tuple[dict[str, Tree], dict[str, Tensor], dict[str, str]]:
    """Take a tree apart, by path: all leaves in their order, those that are tensors, and the rest.

    The rest are kinds of records and containers, leaves that are no tensors, and static fields.
    """
    leaves: dict[str, Tree] = {}
    rest: dict[str, str] = {}

    def visit(node: Tree, path: str) -> None:
        if path in leaves or path in rest:
            raise ValueError(f"expected one value at each path, got two at {path}")
        if optree.tree_is_leaf(node, namespace=EVERYTHING):
            leaves[path] = node
            if isinstance(node, _PLAIN):
                rest[path] = repr(node)
            elif not isinstance(node, Tensor):
                where = f" at {path}" if path else ""
                raise ValueError(
                    f"expected a tensor, a number or text{where}, got {type(node).__name__}"
                    f"{_MEND if type(node).__name__ in _WITHOUT_NUMBERS else ''}"
                )
            return
        rest[path] = _kind(node)
        for field in attrs.fields(type(node)) if attrs.has(type(node)) else ():
            if field.metadata.get("static"):
                # without the addresses that a function's repr holds
                text = _ADDRESS.sub("", repr(getattr(node, field.name)))
                rest[_join_path(path, field.name)] = f"static {text}"
        children, _, entries, *_ = optree.tree_flatten_one_level(node, namespace=EVERYTHING)
        for entry, child in zip(entries, children, strict=True):
            if not _is_empty_default(node, entry, child):
                visit(child, _join_path(path, entry))

    visit(tree, "")
    return leaves, {path: leaf for path, leaf in leaves.items() if isinstance(leaf, Tensor)}, rest


def _join_path(path: str, entry: object) -> str:
    """Join as `tree.paths` does, but quote a key that could be read as several or as a number."""
    # A leading underscore is quoted too, because safetensors uses such a name for its metadata.
    text = str(entry)
    name = text if text.isidentifier() and not text.startswith("_") else repr(entry)
    if not isinstance(entry, str) and _ADDRESS.search(name):  # which differs in every run
        got = type(entry).__name__
        where = path or "the root"
        raise ValueError(f"expected a key whose text is its own at {where}, got {got}")
    return f"{path}.{name}" if path else name


def _kind(node: Tree) -> str:
    cls = type(node)
    if node is None:
        return "None"
    return cls.__name__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


def _is_empty_default(node: Tree, entry: object, child: Tree) -> bool:
    """Return whether a record's field is (), as by default: a file written before lacks it."""
    if type(child) is not tuple or child or not attrs.has(type(node)):
        return False
    return any(a.name == entry and a.default == () for a in attrs.fields(type(node)))


VERSION: Final = 1

T = TypeVar("T")


class CheckpointError(ValueError):
    """An error in a checkpoint file, or in the values to be saved in it."""

    def __init__(self, path: str | os.PathLike[str], problem: str) -> None:
        super().__init__(str(path), problem)
        self.path = Path(path)
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}"


def save(path: str | os.PathLike[str], state: Tree, *, score: float | None = None) -> None:
    """Save a tree to a file. A crash leaves either the old file or the new one.

    The file is written under a hidden name in the same folder, synced and renamed; then the folder
    is synced. A program that is killed in between can leave the hidden file. A save needs a few
    megabytes of memory beyond the state.

    Args:
        path: the file, replaced if it exists; its folder has to exist. A file that is replaced
            keeps its mode. A symbolic link stays, and its target is replaced.
        state: a `TrainState`, parameters or any other tree of tensors, numbers and text.
        score: how good the state is, a finite number, saved with it.

    Raises:
        CheckpointError: if a leaf has a type, dtype or name that the file cannot hold; if a step
            with `donate=True` has updated the state in place; if the path is not a regular file.
        OSError: if the file cannot be written; the old one then stays unchanged.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save(f"{folder}/w.safetensors", {"weight": torch.ones(2)})
        ...     load(f"{folder}/w.safetensors", like={"weight": torch.zeros(2)})
        {'weight': tensor([1., 1.])}
    """
    path = _as_path("checkpoint.save", path, "(path, state)")
    with add_path_to_errors(path):
        _, tensors, rest = describe(state)
        for name, leaf in tensors.items():
            _check_numbers(name, leaf)
        shapes = {name: shape_text(leaf) for name, leaf in tensors.items()}
        notes: contents.Notes = {
            "version": VERSION,
            "rest": rest,
            "strides": places.record_strides(tensors),
            "score": check_score(score),
        }
        notes["head_sha256"] = contents.head_digest(notes, shapes)

        sha = contents.begin_digest(notes)
        for name, leaf in sorted(tensors.items()):
            sha.update(contents.encode_name(name, shapes[name]))
            for data in places.data_of(leaf):
                sha.update(data)
        metadata = {contents.KEY: json.dumps({**notes, "sha256": sha.hexdigest()})}
        places.write_file(path, tensors, tensors.__getitem__, metadata)


def load(path: str | os.PathLike[str], like: T) -> T:
    """Read a tree from a file.

    Memory is allocated for the tree alone, and only after the file has been checked.

    Args:
        like: a tree of the kind that was saved, such as the state before the first step. It gives
            the structure, shapes, dtypes and devices to expect. A tree on `meta` works, too: the
            tensors are then on the CPU.

    Returns:
        A tree like that, with the tensors of the file, bit for bit. A state's `step` may be an int:
        it is the file's, too.

    Raises:
        CheckpointError: if the file cannot be read, is damaged or of another version, or differs
            from `like`; the message then names every path that differs.
    """
    path = _as_path("checkpoint.load", path, "(path, like)")
    with _open(path) as opened:
        try:
            leaves, like_tensors, rest = describe(like)
        except ValueError as error:
            raise ValueError(f"like: {error}") from error
        # A state of one's own may count its steps by an int, which differs from that of `like`.
        step = opened.notes["rest"].get("step", "") if hasattr(like, "step") else ""
        counts = type(leaves.get("step")) is int and step.isdecimal()
        count = {"step": int(step)} if counts else {}
        rest |= {name: repr(step) for name, step in count.items()}
        contents.check_fit(opened, rest, {n: shape_text(t) for n, t in like_tensors.items()})
        tensors = contents.read_tensors(opened, {n: t.device for n, t in like_tensors.items()})
    read = {**leaves, **count, **tensors}
    return tree.unflatten(like, [read[name] for name in leaves], states=True)


def _as_path(where: str, path: object, order: str) -> Path:
    if not isinstance(path, str | os.PathLike):
        raise wrong_kind(where, "path", path, "the path of a file", order)
    return Path(path)


def score_of(path: Path) -> float | None:
    """Read the score that a file was saved with, or None if it has no finite one."""
    with _open(path) as opened:
        contents.check_head(opened)
        score = opened.notes["score"]
    return None if isinstance(score, bool) else contents.read_score(score)


def check_score(score: object) -> float | None:
    """Check a score that is to be saved, or None."""
    number = contents.read_score(score)
    if number is None and score is not None:
        raise ValueError(f"expected a score that is a finite number, got {score!r}")
    return number


@contextmanager
def add_path_to_errors(path: Path) -> Iterator[None]:
    """Add the file's name to an error."""
    try:
        yield
    except ValueError as error:
        raise CheckpointError(path, str(error)) from error


@contextmanager
def _open(path: Path) -> Iterator[contents.Contents]:
    with add_path_to_errors(path), reading(path) as (file, size):
        yield contents.read_contents(file, size, VERSION)


def _check_numbers(name: str, leaf: Tensor) -> None:
    if leaf.is_meta or leaf.layout is not torch.strided or leaf.dtype not in places.DTYPES:
        kind = "meta" if leaf.is_meta else str(leaf.layout).removeprefix("torch.")
        problem = f"expected a tensor with numbers that safetensors holds at {name}"
        raise ValueError(f"{problem}, got {kind} {shape_text(leaf)}")
    if is_spent(leaf):
        problem = f"expected a state that no step has updated in place, got {name} empty"
        raise ValueError(f"{problem}; save it before the next step, or use a step without donate")
