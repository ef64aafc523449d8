"""One checkpoint file: written so that a crash leaves the old or the new, read without trust."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar

import optree
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

from lincoln_fn.checkpoint.description import describe, shape_text
from lincoln_fn.record import EVERYTHING

VERSION: Final = 1
# The one key of safetensors' metadata: several would be written in an order that varies.
_KEY: Final = "lincoln_fn"
_BUILTIN: Final = ("bool", "uint8", "int8", "int16", "int32", "int64")
_DTYPES: Final = {
    getattr(torch, name) for name in (*_BUILTIN, "bfloat16", "float16", "float32", "float64")
}

T = TypeVar("T")
# Any: the metadata, as JSON gives it.
_Notes: TypeAlias = dict[str, Any]


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
    is synced. A program that is killed meanwhile can leave the hidden file.

    Args:
        path: the file, replaced if it is there; its folder has to be.
        state: a `TrainState`, parameters or any other tree of tensors, numbers and text.
        score: how good the state is, kept beside it.

    Raises:
        CheckpointError: if a leaf is of a kind or dtype that has no place in the file.
        OSError: if the file cannot be written; the old one is then untouched.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save(f"{folder}/w.safetensors", {"weight": torch.ones(2)})
        ...     load(f"{folder}/w.safetensors", like={"weight": torch.zeros(2)})
        {'weight': tensor([1., 1.])}
    """
    path = Path(path)
    try:
        described = describe(state)
    except ValueError as error:
        raise CheckpointError(path, str(error)) from error
    tensors = {name: _packed(path, name, leaf) for name, leaf in described.tensors.items()}
    notes: _Notes = {
        "version": VERSION,
        "rest": described.rest,
        "strides": _strides(described.tensors),
        "score": None if score is None else float(score),
    }
    notes["sha256"] = _digest(notes, tensors)
    data = to_bytes(tensors, {_KEY: json.dumps(notes)})
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    # A rename lasts only once the folder is written; Windows cannot open one, and need not.
    if os.name == "posix":
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def load(path: str | os.PathLike[str], like: T) -> T:
    """Read a tree from a file.

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
    notes, found = _read(path, with_tensors=True)
    try:
        expected = describe(like)
    except ValueError as error:
        raise CheckpointError(path, f"like: {error}") from error
    shapes = {name: shape_text(leaf) for name, leaf in expected.tensors.items()}
    shapes_found = {name: shape_text(leaf) for name, leaf in found.items()}
    if notes["sha256"] != _digest(notes, found):
        problem = "is damaged: what it holds does not agree with its checksum"
        raise CheckpointError(path, problem + _differences(shapes, shapes_found))
    differences = _differences({**expected.rest, **shapes}, {**notes["rest"], **shapes_found})
    if differences:
        raise CheckpointError(path, f"does not fit what it is to be loaded as{differences}")
    leaves = [
        _unpacked(found[name], notes["strides"].get(name), leaf.device)
        if isinstance(leaf, Tensor)
        else leaf
        for name, leaf in expected.leaves.items()
    ]
    structure = optree.tree_structure(like, namespace=EVERYTHING)  # type: ignore[arg-type]  # any T
    loaded: T = structure.unflatten(leaves)  # type: ignore[assignment]  # a tree like the first
    return loaded


def score_of(path: Path) -> float | None:
    """Read the score that a file was saved with, without reading its tensors.

    Args:
        path: the file.

    Returns:
        The score; None if it has none.

    Raises:
        CheckpointError: if the file cannot be read or is of another version.
    """
    score: float | None = _read(path, with_tensors=False)[0]["score"]
    return score


def _read(path: Path, *, with_tensors: bool) -> tuple[_Notes, dict[str, Tensor]]:
    if path.is_dir():
        raise CheckpointError(path, "cannot be read: it is a directory")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            names = list(file.keys()) if with_tensors else []
            tensors = {name: file.get_tensor(name) for name in names}
    except FileNotFoundError as error:
        raise CheckpointError(path, "no such file") from error
    except (SafetensorError, OSError) as error:
        raise CheckpointError(path, f"cannot be read as safetensors: {error}") from error
    if _KEY not in metadata:
        raise CheckpointError(path, "is no checkpoint: it has no lincoln_fn in its metadata")
    try:
        notes = json.loads(metadata[_KEY])
        version = notes["version"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(path, "is damaged: its metadata cannot be read") from error
    if version != VERSION:
        raise CheckpointError(path, f"expected version {VERSION} of the format, got {version!r}")
    if not {"rest", "strides", "score", "sha256"} <= notes.keys():
        raise CheckpointError(path, "is damaged: its metadata is not complete")
    return notes, tensors


def _digest(notes: _Notes, tensors: Mapping[str, Tensor]) -> str:
    """Hash the metadata, and of each tensor the path, dtype, shape and bytes."""
    covered = {name: value for name, value in notes.items() if name != "sha256"}
    sha = hashlib.sha256(json.dumps(covered, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        sha.update(f"{name!r} {shape_text(tensor)}".encode())
        sha.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()


def _differences(expected: Mapping[str, str], found: Mapping[str, str]) -> str:
    """List the paths whose texts differ, a line for each."""
    lines = [f"missing {path} {expected[path]}" for path in expected if path not in found]
    lines += [f"unexpected {path} {found[path]}" for path in found if path not in expected]
    lines += [
        f"{path or 'the root'}: expected {text}, got {found[path]}"
        for path, text in expected.items()
        if found.get(path, text) != text
    ]
    return "".join(f"\n  {line}" for line in lines)


def _packed(path: Path, name: str, leaf: Tensor) -> Tensor:
    """Copy a tensor into memory of its own, as safetensors wants it: shared by none, in order."""
    if leaf.is_meta or leaf.layout is not torch.strided or leaf.dtype not in _DTYPES:
        kind = "meta" if leaf.is_meta else str(leaf.layout).removeprefix("torch.")
        problem = f"expected a tensor with numbers that safetensors holds at {name}"
        raise CheckpointError(path, f"{problem}, got {kind} {shape_text(leaf)}")
    return leaf.detach().clone(memory_format=torch.contiguous_format).cpu()


def _strides(tensors: Mapping[str, Tensor]) -> dict[str, list[int]]:
    """Note the strides of dense tensors with permuted axes, such as channels-last weights.

    Kernels choose their order of summation by them, so a run that went on without would differ.
    """
    kept = {name: torch.empty_like(t, device="meta").stride() for name, t in tensors.items()}
    plain = {name: torch.empty(t.shape, device="meta").stride() for name, t in tensors.items()}
    return {name: list(kept[name]) for name in kept if kept[name] != plain[name]}


def _unpacked(tensor: Tensor, stride: list[int] | None, device: torch.device) -> Tensor:
    """Copy a tensor out of the mapped file, where its address may be one that no kernel likes."""
    new = torch.empty_strided(tensor.shape, stride or tensor.stride(), dtype=tensor.dtype)
    return new.copy_(tensor).to("cpu" if device.type == "meta" else device)
