"""The contents of an open checkpoint file: checked against the checksums and `like`, then read.

The notes of a file are JSON in its metadata. `sha256` covers the notes and the tensors.
`head_sha256` covers the notes and the header's description of the tensors. So a score or a mismatch
can be trusted without reading the tensors. Files of version 0.1 or older lack it and are read
completely.

Each function raises a `ValueError` with the problem; `file` adds the file's name.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, Final, TypeAlias

import attrs
import torch
from torch import Tensor

from lincoln_fn.checkpoint import places
from lincoln_fn.checkpoint.access import read_bytes
from lincoln_fn.checkpoint.places import shape_text

_DAMAGED: Final = "is damaged: what it holds does not agree with its checksum"
_STATE: Final = "lincoln_fn.training.train.TrainState"  # as a file names its root
# By what older files name it: a record, or a module that has records in them.
_FORMER: Final = {
    "core.keys": ("keys",),
    "curvature.kfac": ("curvature._eigen", "curvature.kfac_factors"),
    "decoding.rows": tuple(
        f"decoding.{file}" for file in ("attention", "convolution", "positions", "recurrent")
    ),
    "distributed.data_parallel.sharded_params": ("distributed.sharding.sharded_params",),
    "finetune.dora.DoraParams": ("finetune.weight_decomposed.Params",),
    "finetune.lora.LowRankParams": ("finetune.low_rank.Params",),
    "finetune.quantize.QuantizedParams": ("finetune.quantized_dense.Params",),
    "layers.common.normalisation": ("layers._normalisation",),
    "layers.dropout.Params": ("layers.rrelu.Params", "layers.fractional_max_pool.Params"),
    "replay.metagradient": ("replay.partial_result", "replay.walk_back"),
    "rules.feedback": ("rules._feedback",),
    "rules.feedback_alignment": ("rules.sign_symmetric",),
    "rules.matrices": ("rules._blocks",),
    "training.train": ("train",),
}
_MOVED: Final = {
    f"lincoln_fn.{old}": f"lincoln_fn.{new}" for new, former in _FORMER.items() for old in former
}
# The only key in safetensors' metadata: several keys would be written in varying order.
KEY: Final = "lincoln_fn"
# Any: the metadata, as JSON gives it.
Notes: TypeAlias = dict[str, Any]


_FIELDS: Final[dict[str, Callable[[object], bool]]] = {
    "rest": lambda value: isinstance(value, dict) and {str} >= {*map(type, value.values())},
    "strides": lambda value: isinstance(value, dict),
    "score": lambda value: True,  # anything that is not a score counts as none
    "sha256": lambda value: isinstance(value, str),
}


@attrs.frozen
class Contents:
    """An open file whose head has been read; `shapes` has each tensor's dtype and shape as text."""

    file: BinaryIO
    head: places.Head
    notes: Notes
    shapes: dict[str, str]


def read_contents(file: BinaryIO, size: int, version: int) -> Contents:
    """Read everything in a file except its tensors; no checksum is checked yet."""
    try:
        head = places.read_head(file, size)
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
        sizes = {name: place.end - place.begin for name, place in contents.head.places.items()}
        like = {n: torch.empty(size, dtype=torch.uint8, device="meta") for n, size in sizes.items()}
        agrees = _read(contents, like) == contents.notes["sha256"]
    if not agrees:
        raise ValueError(_DAMAGED + differences)


def check_fit(contents: Contents, rest: Mapping[str, str], shapes: Mapping[str, str]) -> None:
    """Check a file against what is expected, before any of its tensors is read."""
    saved = {path: _current_kind(text) for path, text in contents.notes["rest"].items()}
    differences = _differences({**rest, **shapes}, {**saved, **contents.shapes})
    # A file of an earlier version is hashed while its tensors are read.
    if differences or "head_sha256" in contents.notes:
        check_head(contents, _differences(shapes, contents.shapes))
    in_state = {f"params.{path}".removesuffix(".") for path in shapes}
    is_state = saved.get("") == _STATE and set(contents.shapes) >= in_state
    if differences and shapes and is_state:
        mend = "load it as a state, such as lf.init_state makes, and use its params"
        raise ValueError(f"holds a TrainState, and is to be loaded as its params; {mend}")
    if differences:
        raise ValueError(f"does not fit what it is to be loaded as{differences}")
    places.check_strides(contents.notes["strides"], contents.head.places)


def read_tensors(contents: Contents, devices: Mapping[str, torch.device]) -> dict[str, Tensor]:
    """Read the tensors of a checked file, each into new memory."""
    # torch chooses the addresses, because kernels may sum in an order that depends on them.
    tensors = {}
    for name in devices:
        place, stride = contents.head.places[name], contents.notes["strides"].get(name)
        device = torch.device("cpu") if devices[name].type == "meta" else devices[name]
        stride = stride or torch.empty(place.shape, device="meta").stride()
        tensors[name] = torch.empty_strided(place.shape, stride, dtype=place.dtype, device=device)
    if _read(contents, tensors) != contents.notes["sha256"]:
        raise ValueError(_DAMAGED)
    return tensors


def _read(contents: Contents, tensors: Mapping[str, Tensor]) -> str:
    """Hash a file, and read its numbers into the tensors that are not on `meta`."""
    sha = begin_digest(contents.notes)
    for name, tensor in sorted(tensors.items()):
        sha.update(encode_name(name, contents.shapes[name]))
        contents.file.seek(contents.head.start + contents.head.places[name].begin)
        for block in places.blocks(tensor):
            raw = read_bytes(contents.file, block.nbytes)
            sha.update(raw.numpy().data)
            if block.dtype is torch.bool and bool((raw > 1).any()):
                raise ValueError(f"is damaged: {name} has a bool that is neither 0 nor 1")
            if not block.is_meta:
                block.copy_(raw.view(block.dtype).view(block.shape))
    return sha.hexdigest()


def _current_kind(kind: str) -> str:
    module, dot, name = kind.rpartition(".")
    return _MOVED.get(kind, f"{_MOVED.get(module, module)}{dot}{name}")


def _differences(expected: Mapping[str, str], found: Mapping[str, str]) -> str:
    lines = [f"missing {path} {expected[path]}" for path in expected if path not in found]
    lines += [f"unexpected {path} {found[path]}" for path in found if path not in expected]
    lines += [
        f"{path or 'the root'}: expected {text}, got {found[path]}"
        for path, text in expected.items()
        if found.get(path, text) != text
    ]
    return "".join(f"\n  {line}" for line in lines)


def read_notes(metadata: Mapping[str, str], version: int) -> Notes:
    """Read the notes out of a file's metadata; their checksum is not checked yet."""
    if KEY not in metadata:
        raise ValueError(f"is no checkpoint: it has no {KEY} in its metadata")
    try:
        notes = json.loads(metadata[KEY], object_pairs_hook=places.refuse_duplicates)
        given = notes["version"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError("is damaged: its metadata cannot be read") from error
    if type(given) is not int or given != version:
        raise ValueError(f"expected version {version} of the format, got {given!r}")
    if not all(name in notes and fits(notes[name]) for name, fits in _FIELDS.items()):
        raise ValueError("is damaged: its metadata is not complete")
    checked: Notes = notes
    return checked


def head_digest(notes: Notes, shapes: Mapping[str, str]) -> str:
    """Hash the notes, and the dtype and shape of each tensor."""
    sha = begin_digest(notes, "head_sha256")
    for name in sorted(shapes):
        sha.update(encode_name(name, shapes[name]))
    return sha.hexdigest()


def begin_digest(notes: Notes, *without: str) -> hashlib._Hash:
    """Start a checksum with the notes; the tensors follow, in the order of their names."""
    covered = {name: value for name, value in notes.items() if name not in ("sha256", *without)}
    return hashlib.sha256(json.dumps(covered, sort_keys=True).encode())


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
