"""Data: batches as a function of (key, i), and `map` for every other source."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache, partial
from typing import Annotated, Any, Generic, TypeAlias, TypeVar

import attrs
import numpy as np
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import BY_HAND, Key, Layer, NonNegativeInt, Params, PositiveInt, keys, tree
from lincoln_fn.training.batch_checks import as_tensors, check_walkable

Array: TypeAlias = Tensor | np.ndarray[Any, Any]  # Any: arrays of every shape and dtype
Batch: TypeAlias = tuple[core.Arrays, core.Arrays]

A = TypeVar("A")
B = TypeVar("B")


@attrs.frozen(eq=False, repr=False)
class Batches:
    """Batches of arrays in memory; made by `batches`, and iterable any number of times."""

    arrays: tuple[core.Arrays, ...]
    batch_size: int
    key: Key | None
    epochs: int
    start: int
    drop_last: bool
    shard: tuple[int, int] = (0, 1)

    @property
    def examples(self) -> int:
        """The number of examples in the arrays."""
        return len(tree.leaves(self.arrays)[0])

    @property
    def per_epoch(self) -> int:
        """The number of batches in an epoch."""
        whole, rest = divmod(self.examples, self.batch_size)
        return whole if self.drop_last or not rest else whole + 1

    def __repr__(self) -> str:
        of = f"{self.examples} examples by {self.batch_size}"
        return f"batches({of}, epochs={self.epochs}, start={self.start})"

    def __len__(self) -> int:
        """Count the batches from `start` to the end of the last epoch."""
        return max(self.epochs * self.per_epoch - self.start, 0)

    def __iter__(self) -> Iterator[Batch]:
        order_of = lru_cache(maxsize=1)(self._order)
        for i in range(self.start, self.epochs * self.per_epoch):
            yield self._take(i, order_of)

    def at(self, i: int) -> Batch:
        """Give batch i, counted from the first epoch's first; further epochs follow the last.

        Example:
            >>> batches((torch.arange(5), torch.arange(5)), 2).at(2)
            (tensor([4]), tensor([4]))
        """
        core.require(i >= 0, "batches", "at(i) with i of at least 0", i)
        return self._take(i, self._order)

    def _order(self, epoch: int) -> Tensor:
        assert self.key is not None, "which shuffles"
        return keys.permutation(self.key.fold_in(epoch), self.examples)

    def _take(self, i: int, order_of: Callable[[int], Tensor]) -> Batch:
        epoch, i_in_epoch = divmod(i, self.per_epoch)
        first = i_in_epoch * self.batch_size
        count = min(self.batch_size, self.examples - first)
        rank, size = self.shard
        rows = slice(first + count * rank // size, first + count * (rank + 1) // size)
        if self.key is None:
            return tree.map(lambda array: array[rows], self.arrays)
        chosen = order_of(epoch)[rows]
        return tree.map(lambda array: array.index_select(0, chosen.to(array.device)), self.arrays)


@core.checked
def batches(
    arrays: Annotated[tuple[Array, ...], BY_HAND],
    batch_size: PositiveInt,
    *,
    key: Key | None = None,
    epochs: PositiveInt = 1,
    start: NonNegativeInt = 0,
    drop_last: bool = False,
    shard: Annotated[tuple[int, int], BY_HAND] = (0, 1),
) -> Batches:
    """Make batches of arrays in memory. Batch i is a function of (key, i).

    Args:
        arrays: a tuple such as (x, target), of tensors, numpy arrays, data frames or series with
            one row per example.
        batch_size: examples per batch; the last of an epoch can be smaller.
        key: shuffles each epoch differently; None keeps the order of the arrays.
        start: the number of the first batch, such as a state's step to resume from.
        drop_last: whether to leave out a smaller last batch.
        shard: (rank, size): the part of each batch that is given, of `size` parts that differ by at
            most one example. A batch with fewer examples than parts has empty ones.

    Returns:
        An iterable with a length. The batches are new tensors if shuffled, views if not.

    Warns:
        UserWarning: if x, the first, is an array or data frame of float64, numpy's default.

    Example:
        >>> list(batches((np.float32([0, 1, 2]), np.arange(3)), 2))
        [(tensor([0., 1.]), tensor([0, 1])), (tensor([2.]), tensor([2]))]
    """
    _check_shard(shard)
    tensors = as_tensors(arrays)
    lengths = [len(tensor) if tensor.ndim else 0 for tensor in tree.leaves(tensors)]
    if len(set(lengths)) != 1 or lengths[0] == 0:
        raise core.unexpected("batches", "arrays of one length, at least 1", f"lengths {lengths}")
    near = None if key is None else key.near(tree.leaves(tensors)[0])
    result = Batches(tensors, batch_size, near, epochs, start, drop_last, shard)
    if result.per_epoch == 0:
        problem = f"drop_last leaves no batch of {batch_size} in {lengths[0]} examples"
        raise core.LayerError("batches", problem)
    return result


def _check_shard(shard: Any) -> None:  # Any: what a user has given
    are_two = isinstance(shard, tuple) and [type(entry) for entry in shard] == [int, int]
    expected, mend = "shard to be (rank, size) with 0 <= rank < size", "(group.rank, group.size)"
    core.require(are_two and 0 <= shard[0] < shard[1], "batches", expected, shard, f"write {mend}")


@attrs.frozen(eq=False)
class Mapped(Generic[A, B]):
    """An iterable whose items are passed through a function; made by `map`."""

    f: Callable[..., B]
    source: Iterable[A]

    def __iter__(self) -> Iterator[B]:
        """Yield the new items; each iteration starts from the beginning if the source's does."""
        for item in self.source:
            yield self.f(*item) if isinstance(item, tuple | list) else self.f(item)

    def __len__(self) -> int:
        source: Any = self.source  # Any: of a length, or len raises an error
        return len(source)


def map(f: Callable[..., B], source: Iterable[A]) -> Mapped[A, B]:
    """Pass every batch through a function, for instance to scale or reshape x.

    What is returned can be iterated over as often as the source.

    Args:
        f: takes a batch's entries, such as x and target, and returns the new batch.

    Example:
        >>> loader = [(torch.zeros(8, 1, 28, 28), torch.zeros(8))]
        >>> [x.shape for x, _ in map(lambda x, target: (x.flatten(1), target), loader)]
        [torch.Size([8, 784])]
    """
    if not core.is_function(f):
        raise core.wrong_kind("map", "f", f, "a function of a batch's entries")
    check_walkable("map", source)
    return Mapped(f, source)


def with_outputs(source: Iterable[Batch], net: Layer, params: Params) -> Mapped[Batch, Batch]:
    """Add a network's outputs to the target of every batch, such as a teacher's, or a reference's.

    The outputs are those of `predict`. They follow what the target has: a tensor t becomes
    (t, output), a tuple gets further entries, and no target, None or a batch (x,), becomes the
    output. Batches are computed when they are asked for, so a run resumes as it does with the
    source, and what is returned can be iterated over as often.

    Example:
        >>> teacher, x = lf.scale(10.0), torch.tensor([[1.0]])
        >>> list(with_outputs([(x,), (x, torch.tensor([0]))], teacher, ()))
        [(tensor([[1.]]), tensor([[10.]])), (tensor([[1.]]), (tensor([0]), tensor([[10.]])))]
    """
    core.check_argument("with_outputs", "net", Layer, net)
    check_walkable("with_outputs", source)
    return Mapped(partial(_with_output, net, params), source)


def _with_output(
    net: Layer, params: Params, x: core.Arrays, target: core.Arrays | None = None
) -> Batch:
    output = net.predict(params, x)
    entries = () if target is None else target if type(target) is tuple else (target,)
    entries += output if type(output) is tuple else (output,)
    return x, entries if len(entries) > 1 else entries[0]


def is_used_once(batches: object) -> bool:
    """Return whether batches can be iterated over only once: an iterator, or a `map` over one.

    Example:
        >>> is_used_once([1, 2]), is_used_once(iter([1, 2]))
        (False, True)
    """
    return isinstance(innermost(batches), Iterator)


def innermost(batches: object) -> object:
    """Return the batches before all maps."""
    while isinstance(batches, Mapped):
        batches = batches.source
    return batches
