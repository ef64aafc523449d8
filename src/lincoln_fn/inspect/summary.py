"""The table of a network's layers: shapes, parameters, memory and work, on `meta` tensors."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from typing import Any, Final, TypeAlias, TypeVar

import attrs
import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from lincoln_fn.core import Arrays, Cache, Key, Layer, Params, called, checked, shown, tree
from lincoln_fn.inspect.records import table
from lincoln_fn.training import check_example
from lincoln_fn.walk.walks import there

# Any: a tuple of sizes, or a tuple of shapes for an output of several tensors.
Shape: TypeAlias = Any
T = TypeVar("T")


@attrs.frozen
class LayerSummary:
    """The numbers of one use of a layer, or of a composition with all its parts.

    Args:
        path: positions in `parts`, from the outermost, joined by dots; "" for the whole network.
        output_shape: of y; for several outputs a tuple of shapes.
        parameters: how many numbers are trained.
        states: how many numbers are carried, not trained: frozen ones, running statistics, keys.
        cache_bytes: the memory kept for `backward`.
        multiply_adds: the multiplications in matrix products and convolutions of `forward`.
    """

    path: str
    name: str
    output_shape: Shape
    parameters: int
    states: int
    cache_bytes: int
    multiply_adds: int


@attrs.frozen(repr=False)
class Summary:
    """A network's layers in the order of their use, and the whole; printed as a table.

    Args:
        layers: single layers, and each composition before its parts; the outermost is left out.
    """

    layers: tuple[LayerSummary, ...]
    total: LayerSummary

    def __repr__(self) -> str:
        shown = table(SUMMARY_HEADINGS, rows_of(self), left=3), remark_on(self)
        return "\n".join(filter(None, shown))

    def _repr_html_(self) -> str:
        return shown(self)


SUMMARY_HEADINGS: Final = (
    "path", "layer", "output shape", "parameters", "cache bytes", "multiply-adds"
)  # fmt: skip


def rows_of(summary: Summary) -> list[tuple[str, ...]]:
    """Write the rows of a summary's table."""
    rows = [_cells(layer, _indent(layer, summary.layers)) for layer in summary.layers]
    return [*rows, (), ("", *_cells(summary.total, "total")[1:])]


def remark_on(summary: Summary) -> str:
    """Say how many numbers the states hold, or "" if there are none."""
    states = summary.total.states
    return f"Numbers in states, which are not trained: {states:,}" if states else ""


def _indent(layer: LayerSummary, layers: tuple[LayerSummary, ...]) -> str:
    """Indent a name; a composition's name is shortened, because its parts follow below."""
    inside = f"{layer.path}."
    parts = [part.name for part in layers if part.path.startswith(inside)]
    named = any(part in layer.name for part in parts)
    name = called(layer.name) if named else layer.name
    return "  " * layer.path.count(".") + name


def _cells(layer: LayerSummary, name: str) -> tuple[str, ...]:
    numbers = (layer.parameters, layer.cache_bytes, layer.multiply_adds)
    return layer.path, name, str(layer.output_shape), *(f"{number:,}" for number in numbers)


@checked
def summary(net: Layer, x: Arrays) -> Summary:
    """Summarise a network for an input like x, on `meta` tensors, which take no memory.

    The numbers of a composition are the sums over its parts, plus its own.

    - Parameters: each tensor once, at the first layer that uses it. So the second use of a
      `shared` layer counts none.
    - Cache bytes: the memory that training needs between `forward` and `backward`, and prediction
      does not. Each storage is counted once, at the first layer that keeps it, so a view costs
      nothing. x and the params are not counted. A layer's output is counted where it is first kept,
      by that layer or by the next. Tensors that a `checkpointed` layer recomputes are not counted,
      and neither are tensors in a class that is not a `record`. The caches are those of the
      formulas; the layers of `lf.fast(net)` may keep other tensors.
    - Multiply-adds: the multiplications of matrix products, convolutions and fused attention, by
      the formulas of `torch.utils.flop_counter`, in which one multiply-add is two operations.
      Elementwise operations, such as activations and normalisations, are not counted.

    Args:
        x: an example input, a tensor or a tuple, of which only shapes, strides, dtypes and devices
            matter; `meta` counts as the CPU.

    Raises:
        LayerError: if a layer of your own reads numbers of a tensor: on `meta` it has none.

    Example:
        >>> summary(lf.serial(lf.dense(500), lf.relu(), lf.dense(10)), torch.zeros(128, 784))
        path  layer       output shape  parameters  cache bytes  multiply-adds
        ──────────────────────────────────────────────────────────────────────
        0     dense(500)  (128, 500)       392,500            0     50,176,000
        1     relu()      (128, 500)             0      256,000              0
        2     dense(10)   (128, 10)          5,010            0        640,000
        ──────────────────────────────────────────────────────────────────────
              total       (128, 10)        397,510      256,000     50,816,000
    """
    check_example("summary", x)
    # Fake tensors are on `meta`, but report another device, which a layer may read.
    with torch.no_grad(), FakeTensorMode(allow_non_fake_inputs=True):
        x = tree.map(_empty_like, x)
        params = net.init(Key(0), x)
        ended = _run(net, params, x)
    spent = list(_count_new(ended, params, x))
    layers = []
    for i, visit in sorted(enumerate(ended), key=lambda pair: pair[1].begun):
        parameters, states, cache_bytes = map(sum, zip(*spent[visit.first : i + 1], strict=True))
        shape = tree.map(lambda y: tuple(y.shape), visit.y)
        counts = parameters, states, cache_bytes, visit.multiply_adds
        layers.append(LayerSummary(visit.path, visit.layer.name, shape, *counts))
    return Summary(tuple(layers if net.composition is None else layers[1:]), layers[0])


@attrs.frozen(eq=False)
class _Visit:
    """One run of a layer's forward: the `begun`th to begin, when `first` others had ended."""

    # In a list of visits in the order of their ends, its inner visits start at index `first`.

    path: str
    layer: Layer
    begun: int
    first: int
    params: Params
    y: Arrays
    cache: Cache
    multiply_adds: int


def _run(net: Layer, params: Params, x: Arrays) -> list[_Visit]:
    ended: list[_Visit] = []
    numbers = count()
    # Products with a single vector, which are missing in torch's table.
    vectors = {
        torch.ops.aten.mv: lambda matrix, *_, **__: 2 * math.prod(matrix),
        torch.ops.aten.addmv: lambda _, matrix, *__, **___: 2 * math.prod(matrix),
        torch.ops.aten.dot: lambda vector, *_, **__: 2 * math.prod(vector),
    }
    counter = FlopCounterMode(display=False, custom_mapping=vectors)

    def visit(
        layer: Layer, path: str, params: Params, run: Callable[[], tuple[Arrays, Cache]]
    ) -> tuple[Arrays, Cache]:
        begun, first, flops = next(numbers), len(ended), counter.get_total_flops()
        y, cache = run()
        multiply_adds = (counter.get_total_flops() - flops) // 2
        ended.append(_Visit(path, layer, begun, first, params, y, cache, multiply_adds))
        return y, cache

    def leaf(layer: Layer, path: str, params: Params, x: Arrays) -> tuple[Arrays, Cache]:
        return visit(layer, path, params, lambda: layer.forward(params, x))

    with counter:
        there(leaf, net, params, x, around=visit)
    return ended


def _count_new(ended: list[_Visit], params: Params, x: Arrays) -> Iterator[tuple[int, int, int]]:
    """Return, for each visit, the parameters, states and cache bytes that no earlier one has."""
    trained = {id(leaf) for leaf in tree.leaves(params)}
    unseen = {id(leaf) for leaf in tree.leaves(params, states=True)}
    kept = {storage for storage, _ in _storages(ended[-1].cache)}
    kept -= {storage for storage, _ in _storages((params, x))}
    for visit in ended:
        parameters = states = cache_bytes = 0
        for leaf in tree.leaves(visit.params, states=True):
            if id(leaf) in unseen:
                unseen.remove(id(leaf))
                parameters += leaf.numel() * (id(leaf) in trained)
                states += leaf.numel() * (id(leaf) not in trained)
        for storage, size in _storages(visit.cache):
            if storage in kept:
                kept.remove(storage)
                cache_bytes += size
        yield parameters, states, cache_bytes


def _storages(arrays: Arrays) -> Iterable[tuple[int, int]]:
    """Return the identity and the size in bytes of each tensor's storage."""
    for leaf in tree.leaves(arrays, states=True):
        if isinstance(leaf, Tensor):
            storage = leaf.untyped_storage()
            # Not by data_ptr, which is 0 for every storage on `meta`.
            yield storage._cdata, storage.nbytes()


def _empty_like(leaf: T) -> T | Tensor:
    if not isinstance(leaf, Tensor):
        return leaf  # for the layer to refuse
    device = torch.device("cpu") if leaf.is_meta else leaf.device
    return torch.empty_strided(leaf.shape, leaf.stride(), dtype=leaf.dtype, device=device)
