"""The notes of a file: JSON in its metadata, with checksums over notes and tensors.

`sha256` covers the notes and the tensors. `head_sha256` covers the notes and the header's
description of the tensors. So a score or a mismatch can be trusted without reading the tensors.
Files of version 0.1 or older lack it and are read completely.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from lincoln_fn.checkpoint.places import refuse_duplicates

# The only key in safetensors' metadata: several keys would be written in varying order.
KEY: Final = "lincoln_fn"
# A placeholder of a checksum's length, until the tensors are written.
NO_DIGEST: Final = "0" * 64
# Any: the metadata, as JSON gives it.
Notes: TypeAlias = dict[str, Any]


def _is_texts(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(text, str) for text in value.values())


_FIELDS: Final[dict[str, Callable[[object], bool]]] = {
    "rest": _is_texts,
    "strides": lambda value: isinstance(value, dict),
    "score": lambda value: True,  # anything that is not a score counts as none
    "sha256": lambda value: isinstance(value, str),
}


def read_notes(metadata: Mapping[str, str], version: int) -> Notes:
    """Read the notes out of a file's metadata; their checksum is not checked yet."""
    if KEY not in metadata:
        raise ValueError(f"is no checkpoint: it has no {KEY} in its metadata")
    try:
        notes = json.loads(metadata[KEY], object_pairs_hook=refuse_duplicates)
        found = notes["version"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError("is damaged: its metadata cannot be read") from error
    if type(found) is not int or found != version:
        raise ValueError(f"expected version {version} of the format, got {found!r}")
    if not all(name in notes and fits(notes[name]) for name, fits in _FIELDS.items()):
        raise ValueError("is damaged: its metadata is not complete")
    checked: Notes = notes
    return checked


def head_digest(notes: Notes, shapes: Mapping[str, str]) -> str:
    """Hash the notes, and the dtype and shape of each tensor."""
    sha = _hash(notes, "sha256", "head_sha256")
    for name in sorted(shapes):
        sha.update(encode_name(name, shapes[name]))
    return sha.hexdigest()


def begin_digest(notes: Notes) -> hashlib._Hash:
    """Start a file's checksum with its notes; the tensors follow, in the order of their names."""
    return _hash(notes, "sha256")


def encode_name(name: str, shape: str) -> bytes:
    """Write what a checksum covers of a tensor besides its bytes."""
    return f"{name!r} {shape}".encode()


# Any: what a caller gave as a score, or a file contains.
def read_score(score: Any) -> float | None:
    """Read a score, or None if it is not a finite number."""
    try:
        number = math.nan if isinstance(score, str | bytes | bytearray) else float(score)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _hash(notes: Notes, *without: str) -> hashlib._Hash:
    covered = {name: value for name, value in notes.items() if name not in without}
    return hashlib.sha256(json.dumps(covered, sort_keys=True).encode())
