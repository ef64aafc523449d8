"""What a file tells beside its tensors, as JSON in its metadata, and the checksums over it all.

`sha256` covers the notes and the tensors. `head_sha256` covers the notes and what the header tells
of the tensors, so that a score, or a misfit, can be trusted without reading the numbers. Files of
versions up to 0.1 lack it; of these the whole is read.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from lincoln_fn.checkpoint.places import distinct

# The one key of safetensors' metadata: several would be written in an order that varies.
KEY: Final = "lincoln_fn"
# As long as a checksum is; it holds the place until the tensors are written.
NO_DIGEST: Final = "0" * 64
# Any: the metadata, as JSON gives it.
Notes: TypeAlias = dict[str, Any]


def _is_texts(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(text, str) for text in value.values())


_FIELDS: Final[dict[str, Callable[[object], bool]]] = {
    "rest": _is_texts,
    "strides": lambda value: isinstance(value, dict),
    "score": lambda value: True,  # what is no score counts as none
    "sha256": lambda value: isinstance(value, str),
}


def read_notes(metadata: Mapping[str, str], version: int) -> Notes:
    """Read the notes out of a file's metadata.

    Args:
        metadata: as safetensors holds it.
        version: which version of the format to expect.

    Returns:
        The notes, not yet held against a checksum.

    Raises:
        ValueError: if they are no notes, or of another version.

    Example:
        >>> read_notes({KEY: '{"version": 7}'}, 1)
        Traceback (most recent call last):
        ValueError: expected version 1 of the format, got 7
    """
    if KEY not in metadata:
        raise ValueError(f"is no checkpoint: it has no {KEY} in its metadata")
    try:
        notes = json.loads(metadata[KEY], object_pairs_hook=distinct)
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
    """Hash the notes, and the dtype and shape of each tensor.

    Args:
        notes: whose own checksums do not count.
        shapes: dtype and shape as text, by path.

    Returns:
        The checksum.

    Example:
        >>> head_digest({"score": 0.5}, {}) == head_digest({"score": 0.75}, {})
        False
    """
    sha = _hashed(notes, "sha256", "head_sha256")
    for name in sorted(shapes):
        sha.update(named(name, shapes[name]))
    return sha.hexdigest()


def begun(notes: Notes) -> hashlib._Hash:
    """Begin the checksum over the whole file, with its notes.

    Args:
        notes: whose own `sha256` does not count.

    Returns:
        The hash, which the tensors are to be added to, in the order of their names.

    Example:
        >>> begun({"score": 0.5, "sha256": "0"}).digest() == begun({"score": 0.5}).digest()
        True
    """
    return _hashed(notes, "sha256")


def named(name: str, shape: str) -> bytes:
    """Write what a checksum covers of a tensor beside its bytes.

    Args:
        name: its path.
        shape: its dtype and shape.

    Returns:
        The text.

    Example:
        >>> named("0.bias", "float32[2]")
        b"'0.bias' float32[2]"
    """
    return f"{name!r} {shape}".encode()


# Any: what a caller took for a score, or a file holds in its place.
def finite(score: Any) -> float | None:
    """Read a score.

    Args:
        score: a number, or a tensor or array of one.

    Returns:
        The score; None if it is no finite number.

    Example:
        >>> finite(1), finite(math.nan), finite("0.5"), finite(None), finite(10**400)
        (1.0, None, None, None, None)
    """
    try:
        number = math.nan if isinstance(score, str | bytes | bytearray) else float(score)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _hashed(notes: Notes, *without: str) -> hashlib._Hash:
    covered = {name: value for name, value in notes.items() if name not in without}
    return hashlib.sha256(json.dumps(covered, sort_keys=True).encode())
