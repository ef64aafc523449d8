"""Where in a run an array was made: all arrays of a step in their order, and comparisons."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Literal, TypeAlias

import attrs
import torch
from torch import Tensor

from lincoln_fn.core import Arrays, Cache, Layer, NonFiniteError, Params, Tree, named_leaves
from lincoln_fn.replay.run import Run, State
from lincoln_fn.walk.internal import ALL, Site, Wants, there, walk_back

MadeBy: TypeAlias = Literal["start", "data", "forward", "loss", "backward", "update", "record"]


@attrs.frozen
class Place:
    """Where in a run an array was made.

    Args:
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


@attrs.frozen(eq=False)
class Array:
    """An array, or a tree of arrays, of a step: what it is, and what made it."""

    made_by: MadeBy  # which part of the step
    name: str  # "x", "y", "dparams", and so on
    values: Arrays
    path: str = ""  # the layer's position in the network
    layer: str = ""
    use: int = 1  # the number of the use of that layer, from 1
    site: Site | None = None  # where the array comes from the backward pass of a layer

    @property
    def key(self) -> tuple[str, str, str, int]:
        """What two runs have in common."""
        return self.made_by, self.path, self.name, self.use

    def place(self, step: int, leaf: Leaf) -> Place:
        """Name the place of one of its leaves."""
        return Place(step, self.made_by, leaf.array, leaf.index, self.path, self.layer)


def take_finite(run: Run, state: State) -> State | None:
    """Take one step; None if its loss is not finite."""
    try:
        return run.take(state)
    except NonFiniteError:
        return None


def first_within(
    run: Run, state: State, search: Callable[[Array], Leaf | None]
) -> tuple[Array, Leaf] | None:
    """Repeat the step after a state, to the first array that a search finds something in."""
    for array in arrays_of_step(run, state):
        leaf = search(array)
        if leaf is not None:
            return array, leaf
    return None


def arrays_of_step(run: Run, state: State) -> Iterator[Array]:
    """Repeat the step after a state, and yield what it computes before its update."""
    batch: Tree = run.batch(int(state.step))  # of a step of the user's own
    if run.parts is None:
        yield Array("data", "batch", batch)
        return
    x, target = batch
    yield Array("data", "x", x)
    yield Array("data", "target", target)
    net, loss = run.parts
    with torch.no_grad():
        y, cache, outputs = _forward(net, state.params, x)
        yield from outputs
        value, loss_cache = loss.forward(y, target)
        yield Array("loss", "value", value)
        g = loss.backward(loss_cache)
        yield Array("loss", "g", g)
        yield from _backward(net, state.params, cache, g)


def _forward(net: Layer, params: Params, x: Arrays) -> tuple[Arrays, Cache, list[Array]]:
    uses: Counter[str] = Counter()
    outputs: list[Array] = []

    def visit(layer: Layer, path: str, params: Params, x: Arrays) -> tuple[Arrays, Cache]:
        y, cache = layer.forward(params, x)
        uses[path] += 1
        outputs.append(Array("forward", "y", y, path, layer.name, uses[path]))
        return y, cache

    return *there(visit, net, params, x), outputs


def _backward(net: Layer, params: Params, cache: Cache, g: Arrays) -> list[Array]:
    uses: Counter[str] = Counter()
    gradients: list[Array] = []

    def leaf(
        layer: Layer, path: str, params: Params, cache: Cache, g: Arrays, wants: Wants
    ) -> tuple[Arrays, None]:
        dx, dparams = layer.backward(params, cache, g)
        site = Site(layer, path, params, cache, g, dparams)
        uses[path] += 1
        arrays = {"g": g, "dx": dx, "dparams": dparams} if wants.dparams else {"g": g, "dx": dx}
        for name, values in arrays.items():
            gradients.append(Array("backward", name, values, path, layer.name, uses[path], site))
        return dx, None

    walk_back(leaf, net, params, cache, g, ALL)
    return gradients


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
    return {
        ".".join(filter(None, (name, path))): leaf
        for path, leaf in named_leaves(arrays, states=True)
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
