"""The head of a safetensors file: which tensor is where; tensors in blocks, and their strides.

    length of the header (8 bytes, little-endian) | header (JSON) | the tensors' bytes

The safetensors library needs all tensors in memory at once to write a file. It reads through a
memory map, which ends the process with SIGBUS if the file becomes shorter. So the head is written
and read here, and tensors use ordinary reads and writes, one block at a time.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, Final

import attrs
import torch
from torch import Tensor

from lincoln_fn.checkpoint.access import replacing

# By safetensors' names.
_DTYPES: Final = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
    "BF16": torch.bfloat16,
    "F16": torch.float16,
    "F32": torch.float32,
    "F64": torch.float64,
}
_NAMES: Final = {dtype: name for name, dtype in _DTYPES.items()}
DTYPES: Final = frozenset(_NAMES)
_METADATA: Final = "__metadata__"
# safetensors refuses a longer header, and torch a tensor with more axes. A header takes many times
# its length of memory, so a long one has to come with as many bytes of tensors.
_LONGEST: Final = 100_000_000
LONG: Final = 2**24
_AXES: Final = 64
# The extra memory that a save or a load takes: large enough for a disk, small enough for a cache.
BLOCK: Final = 2**20


@attrs.frozen
class Place:
    """A tensor's bytes, from `begin` to before `end`, counted from the end of the header."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    begin: int
    end: int


@attrs.frozen
class Head:
    """A header that has been read and checked; `start` is where in the file the tensors begin."""

    places: dict[str, Place]
    metadata: dict[str, str]
    start: int


def place_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Place]:
    """Give each tensor a position, the widest dtypes first, so that every element is aligned."""
    places: dict[str, Place] = {}
    end = 0
    for name, tensor in sorted(tensors.items(), key=lambda i: (-i[1].dtype.itemsize, i[0])):
        begin, end = end, end + tensor.nbytes
        places[name] = Place(tensor.dtype, tuple(tensor.shape), begin, end)
    return places


def head_bytes(places: Mapping[str, Place], metadata: Mapping[str, str]) -> bytes:
    """Write the head of a file: the bytes before those of the tensors."""
    header: dict[str, object] = {_METADATA: dict(metadata)}
    for name, place in places.items():
        if name == _METADATA or not _is_text(name):
            raise ValueError(f"expected a name that safetensors can hold, got {name!r}")
        header[name] = {
            "dtype": _NAMES[place.dtype],
            "shape": list(place.shape),
            "data_offsets": [place.begin, place.end],
        }
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    longest = _longest(max((place.end for place in places.values()), default=0))
    if len(text) > longest:
        problem = f"expected names and text of at most {longest} bytes"
        raise ValueError(f"{problem}, which safetensors can read, got {len(text)}")
    return len(text).to_bytes(8, "little") + text


def write_file(
    path: Path, tensors: Mapping[str, Tensor], read: Callable[[str], Tensor],
    metadata: Mapping[str, str], *, follows: bool = True,
) -> None:  # fmt: skip
    """Write a file of tensors like those given, each of which is read when it is written."""
    order = place_tensors(tensors)
    head = head_bytes(order, metadata)
    with replacing(path, follows=follows) as file:
        file.write(head)
        for name, place in order.items():
            file.seek(len(head) + place.begin)
            for data in data_of(read(name)):
                file.write(data)


def _longest(tensors: int) -> int:
    """Return the greatest length of a header for tensors of so many bytes."""
    return min(_LONGEST, max(LONG, tensors))


def read_head(file: BinaryIO, size: int) -> Head:
    """Read the head of a file; its tensors must cover the rest without overlap and gap."""
    length = int.from_bytes(file.read(8), "little")
    if length > min(size - 8, _longest(size - 8 - length)):
        raise ValueError("its header is longer than the file, its tensors or safetensors allow")
    text = file.read(length)
    if len(text) < length or not text.startswith(b"{"):
        raise ValueError("it has no header")
    try:
        header = json.loads(text.decode(), object_pairs_hook=refuse_duplicates)
    except (ValueError, RecursionError) as error:
        raise ValueError("its header is no JSON, or has two entries of one name") from error
    metadata = header.pop(_METADATA, {})
    if not (isinstance(metadata, dict) and all(isinstance(v, str) for v in metadata.values())):
        raise ValueError("its metadata is not text by name")
    places = {name: _place(name, fields) for name, fields in header.items()}
    end = 0
    for place in sorted(places.values(), key=lambda p: (p.begin, p.end)):
        if place.begin != end:
            raise ValueError("its tensors overlap, or have a gap between them")
        end = place.end
    if 8 + length + end != size:
        raise ValueError(f"expected {8 + length + end} bytes, got {size}")
    return Head(places, metadata, 8 + length)


def refuse_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Make a dict for JSON, or raise a ValueError if a name occurs twice."""
    entries = dict(pairs)
    if len(entries) != len(pairs):
        raise ValueError("two entries of one name")
    return entries


def is_count(value: object) -> bool:
    """Return whether a value can be a length, position or stride: an int from 0, of 64 bits."""
    return type(value) is int and 0 <= value < 2**63


def _place(name: str, fields: object) -> Place:
    if not _is_text(name):
        raise ValueError(f"expected a name that safetensors can hold, got {name!r:.60}")
    if not (isinstance(fields, dict) and fields.keys() == {"dtype", "shape", "data_offsets"}):
        raise ValueError(f"expected dtype, shape and data_offsets of {name!r:.60}")
    kind, shape, offsets = fields["dtype"], fields["shape"], fields["data_offsets"]
    dtype = _DTYPES.get(kind) if isinstance(kind, str) else None
    if dtype is None:
        raise ValueError(f"expected one of {', '.join(_DTYPES)} for {name!r}, got {kind!r:.60}")
    if not (isinstance(shape, list) and len(shape) <= _AXES and all(map(is_count, shape))):
        raise ValueError(f"expected a shape of {name!r}, got {shape!r:.60}")
    if not (isinstance(offsets, list) and len(offsets) == 2 and all(map(is_count, offsets))):
        raise ValueError(f"expected two offsets of {name!r}, got {offsets!r:.60}")
    size, length = math.prod(shape) * dtype.itemsize, offsets[1] - offsets[0]
    if size != length:
        raise ValueError(f"expected {size} bytes of {name!r} by its shape, got {length} by offsets")
    return Place(dtype, tuple(shape), *offsets)


def _is_text(name: str) -> bool:
    """Return whether UTF-8 can encode a name: a lone surrogate cannot be encoded."""
    return name == name.encode(errors="ignore").decode()


def shape_text(tensor: Tensor | Place) -> str:
    """Write a tensor's dtype and shape."""
    return f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"


def blocks(tensor: Tensor) -> Iterator[Tensor]:
    """Split a tensor into views of at most one MiB, in the order of its elements."""
    if tensor.nbytes <= BLOCK:
        yield tensor
        return
    row = tensor.nbytes // len(tensor)
    if row <= BLOCK:
        yield from torch.split(tensor, BLOCK // row)
    else:
        for part in tensor:
            yield from blocks(part)


def data_of(tensor: Tensor) -> Iterator[memoryview]:
    """Give the bytes of a tensor on the CPU, block by block."""
    for block in blocks(tensor.detach()):
        own = block.cpu().resolve_neg().contiguous()
        # By the stride, which a tensor of one element may have otherwise.
        yield own.as_strided((own.numel(),), (1,)).view(torch.uint8).numpy().data


def record_strides(tensors: Mapping[str, Tensor]) -> dict[str, list[int]]:
    """Record the strides of dense tensors with permuted axes, such as channels-last weights."""
    # Kernels choose their order of summation by the strides, so a run resumed without them would
    # differ.
    own = {name: torch.empty_like(t, device="meta").stride() for name, t in tensors.items()}
    plain = {name: torch.empty(t.shape, device="meta").stride() for name, t in tensors.items()}
    return {name: list(own[name]) for name in own if own[name] != plain[name]}


def check_strides(strides: Mapping[str, object], places: Mapping[str, Place]) -> None:
    """Check the strides in a file before they are used to allocate memory: they may be forged."""
    for name, stride in strides.items():
        shape = list(places[name].shape) if name in places else None
        if shape is None or not (isinstance(stride, list) and _is_dense(shape, stride)):
            said = f"no tensor {name} of shape {shape} has the strides {stride!r:.60}"
            raise ValueError(f"is damaged: {said}")


def _is_dense(shape: Sequence[int], stride: Sequence[int]) -> bool:
    """Return whether each element has its own position in memory, without gaps."""
    # From the axis with the smallest stride on, each stride is the size of all axes before it. An
    # axis of length 1, or an empty tensor, may have any stride.
    if len(shape) != len(stride) or not all(map(is_count, stride)):
        return False
    size = 1
    for step, length in sorted(zip(stride, shape, strict=True)):
        if length != 1 and 0 not in shape:
            if step != size:
                return False
            size *= length
    return True
