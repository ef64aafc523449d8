"""A layer at one draw of exact numbers, each with a random derivative, its tangent.

A tensor's float64 elements are the numbers of rows in a table of its space. Torch's own operations
move elements, as in a view, a gather or a copy into a slice. Row 0 is the number 0, so padding and
zeros are right, too. What computes reads the rows, and adds new ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode

from lincoln_fn.core import Arrays, Key, tree
from lincoln_fn.testing.exact.field import Array, Field
from lincoln_fn.testing.exact.numbers import Numbers
from lincoln_fn.testing.exact.operations import handler
from lincoln_fn.testing.exact.store import Exact, Operation, Store
from lincoln_fn.testing.exact.table import MissingError
from lincoln_fn.testing.sample import floating, floating_leaves, mirrored, random_like
from lincoln_fn.testing.subject import Subject


class Space(Store, TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's
    """Where exact numbers live: while it is active, floating tensors that are made are exact."""

    def __init__(self, field: Field) -> None:
        TorchDispatchMode.__init__(self)  # type: ignore[no-untyped-call]  # torch's
        Store.__init__(self, field)
        self.branches = False  # whether a comparison decides what is computed

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Keep torch from importing its compiler for a mode that nothing compiled meets."""
        return False

    def __torch_dispatch__(
        self, func: Operation, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        if not any(isinstance(each, Exact) for each in _tensors((args, kwargs))):
            if name == "_local_scalar_dense" and args[0].dtype is torch.bool:
                self.branches = True
            with no_dispatch():
                made = func(*args, **kwargs)
                return self._each(made.zero_() if "empty" in name else made)
        run = handler(name.rstrip("_"))
        if run is None:
            with self:
                made = func.decompose(*args, **kwargs)
                if made is NotImplemented:
                    # Its import takes as long as torch's own.
                    from torch._decomp import decomposition_table

                    made = decomposition_table.get(func, func.decompose)(*args, **kwargs)
            if made is not NotImplemented:
                return made
            raise MissingError(f"{func} has no rule for exact numbers")
        with no_dispatch(), np.errstate(all="ignore"):
            return run(self, func, args, kwargs)

    def _each(self, made: Any) -> Any:  # Any: what torch returns
        if isinstance(made, tuple | list):
            return type(made)(map(self._each, made))
        return self.lifted(made) if isinstance(made, Tensor) else made


def _tensors(given: Any) -> list[Tensor]:  # Any: arguments of an operation
    if isinstance(given, Tensor):
        return [given]
    if isinstance(given, dict):
        given = tuple(given.values())
    if isinstance(given, tuple | list):
        return [leaf for each in given for leaf in _tensors(each)]
    return []


class Trial:
    """A layer at one draw of exact numbers.

    Args:
        only: the one leaf that has a tangent; None if all have.
        seen: by output, where g is not 0; None is everywhere.
    """

    def __init__(
        self,
        of: Subject,
        field: Field,
        only: int | None = None,
        seen: Sequence[Array] | None = None,
    ) -> None:
        self.of, self.field, self.space, self.seen = of, field, Space(field), seen
        self.tangents: list[Array] = []

        def enter(leaf: Tensor) -> Tensor:
            floats = leaf.is_floating_point()
            return self.space.enter(leaf, field.draw(leaf.numpy())) if floats else leaf

        def move(leaf: Tensor) -> Tensor:
            if not leaf.is_floating_point():
                return leaf
            drawn, i = field.direction(tuple(leaf.shape)), len(self.tangents)
            self.tangents.append(drawn if only in (None, i) else np.zeros_like(drawn))
            return self.space.moved(leaf, self.tangents[-1])

        still = tree.map(enter, (of.params, of.x), states=True)
        self.params, self.x = tree.map(move, still)
        self.layer = of.layer
        with self.active():
            self.y, self.cache = self.layer.forward(self.params, self.x)

    def alone(self, i: int) -> Trial:
        """Make the same draw again, in which one leaf alone has a tangent."""
        return Trial(self.of, self.field.again(), i, seen=self.seen)

    @contextmanager
    def active(self) -> Iterator[None]:
        """Let floating tensors be exact, and autograd be off."""
        with torch.no_grad(), np.errstate(all="ignore"), self.space:
            yield

    def cotangent(self, key: Key) -> Arrays:
        """Draw a g, with the shadows of a normal distribution."""
        plain = tree.map(lambda y: torch.zeros(y.shape, dtype=y.dtype), self.y)
        seen = iter(self.seen or ())

        def enter(g: Tensor) -> Tensor:
            if not g.is_floating_point():
                return g
            drawn, shown = self.field.draw(g.numpy()), next(seen, True)
            return self.space.enter(g * torch.as_tensor(shown), drawn * shown)

        return tree.map(enter, random_like(plain, key))

    @cached_property
    def g(self) -> Arrays:
        """The cotangent of y."""
        return self.cotangent(Key(0))

    def backward(self, g: Arrays) -> list[Numbers]:
        """Run `backward`, and read the gradients in the order of the leaves of (params, x)."""
        with self.active():
            dx, dparams = self.layer.backward(self.params, self.cache, g)
        names = floating(self.params, self.x)[0]
        given = mirrored(self.layer.name, names, (self.params, self.x), (dparams, dx))
        return self.read(given)

    def read(self, arrays: Arrays) -> list[Numbers]:
        """Read the numbers of a tree's floating leaves."""
        return [self.space.numbers(leaf) for leaf in floating_leaves(arrays)]

    @cached_property
    def gradients(self) -> list[Numbers]:
        """What `backward` returns."""
        return self.backward(self.g)

    @cached_property
    def slope(self) -> Array:
        """<g, y'>."""
        ys = self.read(self.y)
        self._total(ys, [0 * y.value for y in ys])
        return self._total(self.read(self.g), [y.tangent for y in ys])

    def given(self, i: int | None = None) -> Array:
        """Compute <dx, x'> + <dw, w'>, or the part of one leaf."""
        cut = slice(None) if i is None else slice(i, i + 1)
        return self._total(self.gradients[cut], self.tangents[cut])

    @cached_property
    def holds(self) -> bool:
        """Whether the two are equal."""
        return bool(self.slope == self.given())

    def _total(self, numbers: Sequence[Numbers], tangents: Sequence[Array]) -> Array:
        reduce, total = self.field.reduce, 0
        for each, tangent in zip(numbers, tangents, strict=True):
            if not np.isfinite(each.shadow).all():
                raise MissingError("a number is not finite")
            total = reduce(total + np.sum(reduce(each.value * tangent)))
        return total
