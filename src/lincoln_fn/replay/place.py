"""Where in a run an array was made, and comparisons of arrays."""

from __future__ import annotations

import attrs
import torch
from torch import Tensor

from lincoln_fn.core import tree
from lincoln_fn.replay.arrays import Array, MadeBy


@attrs.frozen
class Place:
    """Where in a run an array was made.

    Args:
        step: the number of the step, from 1.
        made_by: "data", the batch; "forward" or "backward", a layer; "loss", its value or gradient;
            "update", the optimizer or `advance`; "start", the state before the first step; or
            "record": a saved state that its own run does not reach again.
        array: which array, such as "y", "dparams.weight" or "params.2.bias". g is dL/dy.
        index: of the first number in it.
        path: the position of the layer in the network, such as "2.0".
        layer: the layer's name; "" if no layer made the array.
    """

    step: int
    made_by: MadeBy
    array: str
    index: tuple[int, ...]
    path: str = ""
    layer: str = ""

    @property
    def where(self) -> str:
        """Step, pass, layer and array in words."""
        index = list(self.index) if self.index else ""
        of = f" of {f'{self.path} {self.layer}'.strip()}" if self.layer else ""
        return f"step {self.step}: {self.made_by}{of}: {self.array}{index}"


@attrs.frozen
class Leaf:
    """One tensor of an array: its path in the step, and the index and value of one number."""

    array: str
    index: tuple[int, ...]
    values: tuple[float, ...]
    largest: float


def place(step: int, made: Array, leaf: Leaf) -> Place:
    """Name the place of an array's leaf."""
    return Place(step, made.made_by, leaf.array, leaf.index, made.path, made.layer)


def first_unequal(name: str, first: object, second: object, tol: float) -> Leaf | None:
    """Find the first leaf whose bits differ, or that differs by `tol` of its largest number."""
    ours, theirs = name_leaves(name, first), name_leaves(name, second)
    if ours.keys() != theirs.keys():
        alone = sorted(ours.keys() ^ theirs.keys())
        return Leaf(alone[0], (), (), torch.inf)
    for path, a in ours.items():
        b = theirs[path]
        if (a.shape, a.dtype) != (b.shape, b.dtype):
            return Leaf(path, (), (), torch.inf)
        differs = _differs(a, b.to(a.device), tol)
        if differs.any():
            index = tuple(torch.nonzero(differs)[0].tolist())
            distance = (a.double() - b.to(a.device).double()).abs()[differs].max().item()
            return Leaf(path, index, (a[index].item(), b[index].item()), distance)
    return None


def first_non_finite_leaf(name: str, arrays: object) -> Leaf | None:
    """Find the first leaf with a nan or an infinity."""
    for path, leaf in name_leaves(name, arrays).items():
        if leaf.is_floating_point() and not torch.isfinite(leaf).all():
            index = tuple(torch.nonzero(~torch.isfinite(leaf))[0].tolist())
            return Leaf(path, index, (leaf[index].item(),), torch.inf)
    return None


def name_leaves(name: str, arrays: object) -> dict[str, Tensor]:
    """List the tensors of a tree, those of states too, by path."""
    paths, leaves = tree.paths(arrays, states=True), tree.leaves(arrays, states=True)
    return {
        ".".join(filter(None, (name, path))): leaf
        for path, leaf in zip(paths, leaves, strict=True)
        if isinstance(leaf, Tensor)
    }


def _differs(a: Tensor, b: Tensor, tol: float) -> Tensor:
    if tol and a.is_floating_point():
        limit = tol * torch.maximum(a.abs().max(), b.abs().max()) if a.numel() else 0
        return ~((a == b) | ((a - b).abs() <= limit) | (a.isnan() & b.isnan()))
    if a.is_floating_point() and a.dtype.itemsize in _INTEGERS:  # so that nan equals nan
        a, b = (t.contiguous().view(_INTEGERS[t.dtype.itemsize]) for t in (a, b))
    return a != b


_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
