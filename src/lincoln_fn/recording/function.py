"""`recorded`: a pure function of trees of tensors, without Python's time."""

from __future__ import annotations

from functools import update_wrapper
from typing import Final, TypeVar, cast

from lincoln_fn.core import Arrays, wrong_kind
from lincoln_fn.recording.kinds import can_be_recorded, conditions
from lincoln_fn.recording.one_kind import Pure, Recorded
from lincoln_fn.recording.structures import flatten, layouts

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
    """A function, and its programs by the kind of their arguments, which a pickle leaves out."""

    def __init__(self, function: Pure) -> None:
        self.function, self.stays = function, False
        # A memo: no result depends on it.
        self.kinds: dict[object, Recorded] = {}
        update_wrapper(self, function, updated=())

    def __repr__(self) -> str:
        return f"recorded({getattr(self.function, '__qualname__', self.function)})"

    def __reduce__(self) -> tuple[type[RecordedFunction], tuple[Pure]]:
        return RecordedFunction, (self.function,)

    def __call__(self, *arguments: Arrays) -> Arrays:
        """Run the operations for such arguments, or the function."""
        if self.stays:
            return self.function(*arguments)
        leaves, structure = flatten(arguments)
        if not can_be_recorded(leaves):
            return self.function(*arguments)
        kind = structure, layouts(leaves), conditions(leaves, id)
        if kind not in self.kinds:
            if len(self.kinds) == _MOST_KINDS:  # the oldest one goes
                del self.kinds[next(iter(self.kinds))]
            self.kinds[kind] = Recorded(self.function, repr(self))
        memo = self.kinds[kind]
        outputs = memo.run(leaves)
        if outputs is not None:
            return memo.build(outputs)
        result = memo.call(arguments, leaves)
        self.stays = memo.stays
        return result
