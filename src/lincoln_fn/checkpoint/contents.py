"""The contents of an open checkpoint file: checked against the checksums and `like`, then read.

Each function raises a `ValueError` with the problem; `file` adds the file's name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import BinaryIO, Final

import attrs
import torch
from torch import Tensor

from lincoln_fn.checkpoint.access import read_bytes
from lincoln_fn.checkpoint.blocks import BLOCK, blocks, check_strides
from lincoln_fn.checkpoint.description import shape_text
from lincoln_fn.checkpoint.notes import Notes, begin_digest, encode_name, head_digest, read_notes
from lincoln_fn.checkpoint.places import Head, read_head

_DAMAGED: Final = "is damaged: what it holds does not agree with its checksum"
_STATE: Final = "lincoln_fn.training.train.TrainState"  # as a file names its root
# By what older files name it: a module that has records in them.
_MOVED: Final = {
    "lincoln_fn.keys": "lincoln_fn.core.keys",
    "lincoln_fn.train": "lincoln_fn.training.train",
    "lincoln_fn.layers._normalisation": "lincoln_fn.layers.common.normalisation",
    "lincoln_fn.rules._feedback": "lincoln_fn.rules.feedback",
    "lincoln_fn.replay.partial_result": "lincoln_fn.replay.walk_back",
}


@attrs.frozen
class Contents:
    """An open file whose head has been read; `shapes` has each tensor's dtype and shape as text."""

    file: BinaryIO
    head: Head
    notes: Notes
    shapes: dict[str, str]


def read_contents(file: BinaryIO, size: int, version: int) -> Contents:
    """Read everything in a file except its tensors; no checksum is checked yet."""
    try:
        head = read_head(file, size)
    except ValueError as error:
        raise ValueError(f"cannot be read as safetensors: {error}") from error
    shapes = {name: shape_text(place) for name, place in head.places.items()}
    return Contents(file, head, read_notes(head.metadata, version), shapes)


def check_head(contents: Contents, differences: str = "") -> None:
    """Check the notes, and the header's description of the tensors, against their checksum."""
    # A file of version 0.1 or older is read completely for this.
    if "head_sha256" in contents.notes:
        agrees = head_digest(contents.notes, contents.shapes) == contents.notes["head_sha256"]
    else:
        agrees = _digest(contents) == contents.notes["sha256"]
    if not agrees:
        raise ValueError(_DAMAGED + differences)


def check_fit(contents: Contents, rest: Mapping[str, str], shapes: Mapping[str, str]) -> None:
    """Check a file against what is expected, before any of its tensors is read."""
    found = {path: _current_kind(text) for path, text in contents.notes["rest"].items()}
    differences = _differences({**rest, **shapes}, {**found, **contents.shapes})
    # A file of an earlier version is hashed while its tensors are read.
    if differences or "head_sha256" in contents.notes:
        check_head(contents, _differences(shapes, contents.shapes))
    is_state = found.get("") == _STATE and set(contents.shapes) >= {*map(_in_state, shapes)}
    if differences and shapes and is_state:
        mend = "load it as a state, such as lf.init_state makes, and use its params"
        raise ValueError(f"holds a TrainState, and is to be loaded as its params; {mend}")
    if differences:
        raise ValueError(f"does not fit what it is to be loaded as{differences}")
    check_strides(contents.notes["strides"], contents.head.places)


def read_tensors(contents: Contents, devices: Mapping[str, torch.device]) -> dict[str, Tensor]:
    """Read the tensors of a checked file, each into new memory."""
    # torch chooses the addresses, because kernels may sum in an order that depends on them.
    sha, tensors = begin_digest(contents.notes), dict[str, Tensor]()
    for name in sorted(devices):
        place, stride = contents.head.places[name], contents.notes["strides"].get(name)
        device = torch.device("cpu") if devices[name].type == "meta" else devices[name]
        tensors[name] = (
            torch.empty(place.shape, dtype=place.dtype, device=device)
            if stride is None
            else torch.empty_strided(place.shape, stride, dtype=place.dtype, device=device)
        )
        sha.update(encode_name(name, contents.shapes[name]))
        contents.file.seek(contents.head.start + place.begin)
        for block in blocks(tensors[name]):
            raw = read_bytes(contents.file, block.nbytes)
            sha.update(raw.numpy().data)
            if place.dtype is torch.bool and bool((raw > 1).any()):
                raise ValueError(f"is damaged: {name} has a bool that is neither 0 nor 1")
            block.copy_(raw.view(place.dtype).view(block.shape))
    if sha.hexdigest() != contents.notes["sha256"]:
        raise ValueError(_DAMAGED)
    return tensors


def _digest(contents: Contents) -> str:
    """Hash a file without loading its tensors."""
    sha = begin_digest(contents.notes)
    for name, place in sorted(contents.head.places.items()):
        sha.update(encode_name(name, contents.shapes[name]))
        contents.file.seek(contents.head.start + place.begin)
        for begin in range(place.begin, place.end, BLOCK):
            sha.update(read_bytes(contents.file, min(BLOCK, place.end - begin)).numpy().data)
    return sha.hexdigest()


def _current_kind(kind: str) -> str:
    """Return the present name of a record's class."""
    module, dot, name = kind.rpartition(".")
    return f"{_MOVED.get(module, module)}{dot}{name}"


def _in_state(path: str) -> str:
    """Return the path in a `TrainState` of a leaf of its params."""
    return f"params.{path}".removesuffix(".")


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
