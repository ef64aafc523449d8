"""Names of a file's tensors and paths of parameters, by a table that is read in both directions.

A row is a name in the file, a path here, and perhaps the layout of the tensor:

    encoder.layer.#.attention.{q,k}_proj    2.#+1.{query,key}
    encoder.layer.#.attention.qkv           2.#+1.{query,key,value}    right

Of both, ".weight" and ".bias" are left out, unless only the path has one. "#" is a number, and
"#+1" is one more than it. With as many alternatives in braces on both sides a row is several rows.
Alternatives of the path alone are joined to one tensor. The first word of a path may be a place
that the network names.

A dense layer's matrix is transposed in the file, unless the layout is "right": then it is applied
from the right, as here. A layout of "1" or "2" means as many axes of length 1 in front.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from lincoln_fn.core import Params, tree
from lincoln_fn.interop.names import KINDS, owners
from lincoln_fn.interop.slots import Slot


class _Row(NamedTuple):
    """A name, the paths whose parameters are joined under it, and the layout."""

    name: str
    paths: tuple[str, ...]
    layout: str = ""


def _read_pairs(table: str) -> list[_Row]:
    rows = []
    for theirs, ours, *layout in filter(None, map(str.split, table.splitlines())):
        names, paths = _alternatives(theirs), _alternatives(ours)
        parts = [(path,) for path in paths] if len(names) == len(paths) else [(*paths,)]
        rows += [_Row(name, part, *layout) for name, part in zip(names, parts, strict=True)]
    return rows


def read_names(table: str) -> dict[str, str]:
    """Read a table that has a name for each name."""
    return {row.name: row.paths[0] for row in _read_pairs(table)}


def _alternatives(text: str) -> list[str]:
    before, brace, rest = text.partition("{")
    inside, _, after = rest.partition("}")
    words, ends = inside.split(","), _alternatives(after) if brace else []
    return [before + word + end for word in words for end in ends] if brace else [text]


def find_slots(table: str, places: Mapping[str, str], params: Params) -> list[Slot]:
    """Find the slot of each tensor in a file, in the order of params; places are paths by word."""
    rows = [
        (row, i, *_pattern(path, places))
        for row in _read_pairs(table)
        for i, path in enumerate(row.paths)
    ]
    found: dict[str, tuple[str, dict[int, str]]] = {}
    for path in tree.paths(params):
        for row, i, first, pattern in rows:
            if fit := pattern.fullmatch(path):
                break
        else:
            raise ValueError(f"the table of names has none for {path}")
        *numbers, ending = fit.groups("")
        name = row.name
        for number, start in zip(numbers, first, strict=True):
            name = name.replace("#", str(int(number) - start), 1)
        found.setdefault(name + ending, (row.layout, {}))[1][i] = path
    transposed = _transposed(params)
    return [_slot(name, layout, parts, transposed) for name, (layout, parts) in found.items()]


def _pattern(path: str, places: Mapping[str, str]) -> tuple[list[int], re.Pattern[str]]:
    """Return how the numbers in a path are counted, and the pattern of a parameter's path."""
    word, dot, rest = path.partition(".")
    text = re.escape(places.get(word, word) + dot + rest)
    first = [int(bool(more)) for more in re.findall(r"\\#(\\\+1)?", text)]
    text = text.replace(r"\#\+1", r"([1-9]\d*)").replace(r"\#", r"(\d+)")
    return first, re.compile(text + r"(\.weight|\.bias)?")


def _slot(name: str, layout: str, parts: Mapping[int, str], transposed: set[str]) -> Slot:
    paths = tuple(parts[i] for i in sorted(parts))
    if layout == "right":
        return Slot(name, paths, dim=int(name.endswith(".weight")))
    return Slot(name, paths, paths[0] in transposed, leading=int(layout or 0))


def _transposed(params: Params) -> set[str]:
    """Find the paths of the matrices that torch has transposed, by `KINDS`."""
    return {
        f"{path}.{field}".removeprefix(".")
        for path, owner in owners(params)
        for slot in KINDS[type(owner)].slots(owner)
        if slot.transposed
        for field in slot.fields
    }
