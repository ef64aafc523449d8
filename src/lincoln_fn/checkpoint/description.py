"""What a tree looks like, apart from the numbers in its tensors, as text by path."""

from __future__ import annotations

import re
from typing import Final

import attrs
import numpy as np
import optree
import torch
from torch import Tensor

from lincoln_fn.checkpoint.places import Place
from lincoln_fn.core import EVERYTHING, Tree, record

_ADDRESS: Final = re.compile(r" at 0x[0-9a-fA-F]+")
_WITHOUT_NUMBERS: Final = ("Layer", "Loss", "Optimizer", "Step")
_MEND: Final = "; a network's numbers are in its state: write checkpoint.save(path, state)"
# Values in a tree that are not tensors, and whose repr describes them completely.
_PLAIN = (bool, int, float, complex, str, bytes, np.generic, torch.dtype, torch.device)


@record
class Description:
    """A tree taken apart, by path."""

    # in the order of the tree
    leaves: dict[str, Tree]  # tensors, numbers, text
    # the leaves that are tensors
    tensors: dict[str, Tensor]
    # kinds of records and containers, leaves that are no tensors, static fields
    rest: dict[str, str]


def describe(tree: Tree) -> Description:
    """Take a tree apart."""
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
    tensors = {path: leaf for path, leaf in leaves.items() if isinstance(leaf, Tensor)}
    return Description(leaves, tensors, rest)


def shape_text(tensor: Tensor | Place) -> str:
    """Write a tensor's dtype and shape."""
    return f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"


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
