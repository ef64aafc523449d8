"""`recorded`: a pure function of trees of tensors, without Python's time."""

from __future__ import annotations

from functools import update_wrapper
from typing import Any, Final, TypeVar, cast

from lincoln_fn.core import Arrays, wrong_kind
from lincoln_fn.recording.by_kind import ByKind
from lincoln_fn.recording.guards import address
from lincoln_fn.recording.one_kind import Pure, Recorded

Function = TypeVar("Function", bound=Pure)
# So many kinds of arguments are remembered, such as prompts of so many lengths.
_MOST_KINDS: Final = 16


def recorded(function: Function) -> Function:
    """Make a pure function run without Python's time: its bits are those of the function.

    The first calls run the function, and note each operation of torch that it calls. If two calls
    note the same, later ones run these operations alone, in the same order. It is recorded anew for
    each structure, shape, stride, dtype and device of its arguments.

    It stays with Python, and a line in the log says why, where that is not possible: where it draws
    numbers that are not from a key, writes into its arguments, acts on the world, such as by
    printing, or hands a tensor's numbers to numpy. A number that it reads from a tensor is read
    again each time, and if it is another one, Python runs the function. What it reads beside its
    arguments, such as a global name, is looked at each time, too.

    Args:
        function: a pure function from trees of tensors to a tree of tensors.

    Returns:
        The function. Autograd, torch.func and tracers see the function given.

    Raises:
        LayerError: if function cannot be called.

    Example:
        >>> import torch
        >>> step = recorded(lambda x, y: (x + 2 * y).tanh())
        >>> [step(torch.zeros(1), torch.full((1,), y)).item() for y in (0.0, 0.0, 50.0)]
        [0.0, 0.0, 1.0]
    """
    if not callable(function):
        raise wrong_kind("recorded", "function", function, "a function of trees of tensors")
    if isinstance(function, RecordedFunction):
        return function
    return cast(Function, RecordedFunction(function))  # which is called as the function is


class RecordedFunction:
    """A function, and its programs by the kind of their arguments, which a pickle leaves out.

    A step has a name, and programs for as many kinds as there are. With `donate`, it may write into
    the tensors of its first argument.
    """

    def __init__(self, function: Pure, name: str = "", donate: bool = False) -> None:
        self.function, self.name, self.donate, self.stays = function, name, donate, False
        self.memos: ByKind[Recorded] = ByKind(
            self._make, address if donate else id, None if name else _MOST_KINDS
        )
        update_wrapper(self, function, updated=())

    def __repr__(self) -> str:
        return self.name or f"recorded({getattr(self.function, '__qualname__', self.function)})"

    # Any: its own arguments.
    def __reduce__(self) -> tuple[type[RecordedFunction], tuple[Any, ...]]:
        return RecordedFunction, (self.function, self.name, self.donate)

    def __call__(self, *arguments: Arrays) -> Arrays:
        """Run the operations for such arguments, or the function."""
        found = None if self.stays else self.memos.find(*arguments)
        if found is None:
            return self.function(*arguments)
        tensors, memo = found
        outputs = memo.run(tensors)
        if outputs is None:
            result = memo.call(arguments, tensors)
            self.stays = memo.stays
            return result
        result = memo.build(outputs)
        if memo.carried:
            self.memos.keep(result[0], outputs[: memo.carried], memo)
        return result

    def _make(self, count: int, shares: bool, *arguments: Arrays) -> Recorded:
        return Recorded(self.function, repr(self), count if self.donate else 0)
