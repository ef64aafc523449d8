"""The head of a GGUF file: its options, and which tensor is where, read without the numbers.

    "GGUF" | version (4 bytes, little-endian) | number of tensors (8) | number of options (8)
    an option: name | type (4) | value
    a tensor: name | number of axes (4) | sizes (8 each), last axis first | type (4) | offset (8)
    zeros up to a multiple of the alignment | the tensors' bytes

A text, such as a name, is its length in bytes (8) and UTF-8. An array is the type of its elements
(4), their number (8) and the elements. Each length is compared with the rest of the file before
anything is read: a file may be made to take a reader's memory or time.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from typing import Any, BinaryIO, Final, NamedTuple, TypeAlias, TypeVar

import attrs

# What an option holds. Of an array, which no option here is, there is a text that says so.
Option: TypeAlias = int | float | bool | str
# The number of a type -> the number of elements in a block, and of the bytes that it has.
BlockSizes: TypeAlias = Callable[[int], tuple[int, int]]
T = TypeVar("T")

_MOST: Final = 2**16
_ALIGNMENT: Final = "general.alignment"
# By the number of a type.
_FORMS: Final = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q",
                 12: "d"}  # fmt: skip
_TEXT, _ARRAY = 8, 9


class Entry(NamedTuple):
    """A tensor's place in the file, its shape, and that of its bytes."""

    kind: int
    shape: tuple[int, ...]
    byte_shape: tuple[int, ...]
    begin: int


@attrs.frozen
class _Reader:
    file: BinaryIO
    size: int

    def check_has(self, count: int) -> None:
        if count > self.size - self.file.tell():
            raise ValueError("it ends before what it says that it holds")

    def raw(self, count: int) -> bytes:
        self.check_has(count)
        read = self.file.read(count)
        if len(read) < count:
            raise ValueError("it became shorter while it was read")
        return read

    def number(self, form: str) -> Any:  # Any: an int, a float or a bool, by the form
        return struct.unpack(f"<{form}", self.raw(struct.calcsize(form)))[0]

    def text(self) -> str:
        return self.raw(self.number("Q")).decode()

    def count(self, form: str, most: int, what: str) -> int:
        count: int = self.number(form)
        if count > most:
            raise ValueError(f"expected at most {most} {what}, got {count}")
        return count

    def named(self, count: int, what: str, read: Callable[[str], T]) -> dict[str, T]:
        entries: dict[str, T] = {}
        for _ in range(count):
            name = self.text()
            if name in entries:
                raise ValueError(f"two {what} of the name {name:.60}")
            entries[name] = read(name)
        return entries

    def value(self) -> Option:
        kind = self.number("I")
        if kind != _ARRAY:
            given: Option = self.text() if kind == _TEXT else self.number(self.form(kind))
            return given
        kind, count = self.number("I"), self.number("Q")
        if kind == _TEXT:
            for _ in range(count):  # ends with the file, at the latest
                self.skip(self.number("Q"))
        else:
            self.skip(count * struct.calcsize(self.form(kind)))
        return f"an array of {count}"

    def form(self, kind: int) -> str:
        if kind not in _FORMS:
            raise ValueError(f"expected a type of numbers, got number {kind}")
        return _FORMS[kind]

    def skip(self, count: int) -> None:
        self.check_has(count)
        self.file.seek(count, 1)


def read_head(
    file: BinaryIO, size: int, sizes: BlockSizes
) -> tuple[dict[str, Option], dict[str, Entry]]:
    """Read and check the options and tensors of a file of a size, or raise a ValueError."""
    reader = _Reader(file, size)
    if reader.raw(4) != b"GGUF":
        raise ValueError("it does not begin as GGUF")
    version = reader.number("I")
    if version not in (2, 3):
        raise ValueError(f"expected version 2 or 3, little-endian, got {version}")
    tensors, options = (reader.count("Q", _MOST, what) for what in ("tensors", "options"))
    given = reader.named(options, "options", lambda name: reader.value())
    # From the start of the tensors, until that is known.
    parts = reader.named(tensors, "tensors", lambda name: _part(reader, name, sizes))
    alignment = given.get(_ALIGNMENT, 32)
    if type(alignment) is not int or alignment < 1 or alignment & (alignment - 1):
        raise ValueError(f"{_ALIGNMENT}: expected a power of 2, got {alignment!r:.60}")
    start = -(-file.tell() // alignment) * alignment
    placed = {name: part._replace(begin=start + part.begin) for name, part in parts.items()}
    for name, part in placed.items():
        if part.begin + math.prod(part.byte_shape) > size:
            raise ValueError(f"it ends before the numbers of {name:.60}")
    return given, placed


def _part(reader: _Reader, name: str, sizes: BlockSizes) -> Entry:
    axes = reader.count("I", 8, "axes")
    shape = tuple(reader.number("Q") for _ in range(axes))[::-1]
    kind, begin = reader.number("I"), reader.number("Q")
    elements, bytes_of_block = sizes(kind)
    if not shape or 0 in shape or shape[-1] % elements:
        problem = f"expected rows of at least one number, in blocks of {elements}"
        raise ValueError(f"{name:.60}: {problem}, got the shape {shape}")
    return Entry(kind, shape, (*shape[:-1], shape[-1] // elements * bytes_of_block), begin)
