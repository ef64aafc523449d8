"""`recorded`: a pure function of trees of tensors, without Python's time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import update_wrapper
from typing import Final, TypeAlias, TypeVar, cast

from torch import Tensor

from lincoln_fn.core import Arrays, is_record, wrong_kind
from lincoln_fn.recording.by_kind import ByKind, Structure, address, flatten, make_builder
from lincoln_fn.recording.program import Program, Run, by_function, by_overload, generate, same_bits
from lincoln_fn.recording.recorder import Recorder
from lincoln_fn.recording.surroundings import Fact, Showing, UnseenError, facts_of
from lincoln_fn.runtime import LOG

Pure: TypeAlias = Callable[..., Arrays]  # from trees of tensors to a tree of tensors
Function = TypeVar("Function", bound=Pure)

# So many calls are recorded at most.
_TRIES: Final = 6
# Programs for one kind of arguments, which differ in the numbers that they read.
_PROGRAMS: Final = 3
# A program that has failed so many times more often than it has held is given up.
_MISSES: Final = 4
# So many kinds of arguments are remembered, such as prompts of so many lengths.
_MOST_KINDS: Final = 16


def recorded(function: Function) -> Function:
    """Make a pure function of trees of tensors run without Python's time, with the same bits.

    The first calls run the function, and note each operation of torch that it calls. If two calls
    note the same, later ones run these operations alone, in the same order. It is recorded anew for
    each structure, shape, stride, dtype and device of its arguments.

    It stays with Python, and a line in the log says why, where that is not possible: where it draws
    numbers that are not from a key, writes into its arguments, acts on the world, such as by
    printing, or hands a tensor's numbers to numpy. A number that it reads from a tensor is read
    again each time, and if it is another one, Python runs the function. What it reads beside its
    arguments, such as a global name, is looked at each time, too.

    Example:
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

    A step has a name. With `donate`, it may write into the tensors of its first argument.
    """

    def __init__(self, function: Pure, name: str = "", donate: bool = False) -> None:
        self.function, self.name, self.donate, self.stays = function, name, donate, False
        self.memos: ByKind[Recorded] = ByKind(
            self._make, address if donate else id, None if name else _MOST_KINDS
        )
        update_wrapper(self, function, updated=())

    def __repr__(self) -> str:
        return self.name or f"recorded({getattr(self.function, '__qualname__', self.function)})"

    def __reduce__(self) -> tuple[type[RecordedFunction], tuple[object, ...]]:
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


class Recorded:
    """A pure function for arguments of one kind: of one structure, and one layout of each tensor.

    The first calls run the function, and are recorded. Two recordings that are the same make a
    program, if it gives the second call's results bit for bit.
    """

    # A memo: no result depends on it.

    def __init__(self, function: Pure, name: str, donated: int = 0) -> None:
        self.function, self.name, self.donated = function, name, donated
        # The structure of the result, and the function that makes one of its leaves.
        self._structure: Structure = None
        self.carried = 0  # how many leaves a record has that the result begins with
        self.build: Callable[[Sequence[Tensor]], Arrays] = tuple
        self._runs: list[Run] = []
        self._candidates: list[Program] = []
        self._facts: list[Fact] | None = None
        self._tries, self._misses = _TRIES, 0
        self.stays = False  # with Python, from now on

    def run(self, leaves: Sequence[Tensor]) -> tuple[Tensor, ...] | None:
        """Run the operations, if there is a program for these numbers."""
        if self._runs and self._changed():
            self._forget()
        for run in self._runs:
            outputs = run(leaves)
            if outputs is not None:
                self._misses -= self._misses > 0
                return outputs
        return None

    def call(self, arguments: tuple[Arrays, ...], leaves: Sequence[Tensor]) -> Arrays:
        """Run the function, and record it if of use; an error is neither a try nor a miss."""
        missed = bool(self._runs)
        if not self._tries or len(self._runs) == _PROGRAMS:
            result = self.function(*arguments)
        else:
            result = self._record(arguments, leaves)
        self._misses += missed
        if self._runs and self._misses > _MISSES and not self._tries:
            self._give_up("reads numbers that are others at most calls")
        return result

    def _record(self, arguments: tuple[Arrays, ...], leaves: Sequence[Tensor]) -> Arrays:
        if self._facts is None or self._changed():
            try:
                self._facts = facts_of(self.function)
            except UnseenError as reason:
                self._give_up(str(reason))
                return self.function(*arguments)
        recorder = Recorder(leaves, self.donated, has_places=self._tries == 1)
        with recorder, Showing(recorder.refuse):
            result = self.function(*arguments)
        self._tries -= 1
        outputs, structure = flatten(result)
        program = recorder.program(outputs)
        if changed := self._changed():
            recorder.refuse(f"changes {changed}")
        if recorder.problem is not None:
            self._give_up(recorder.problem)
        else:
            self._learn(program, structure, leaves, outputs, recorder.places)
        return result

    def _changed(self) -> str:
        """Name what the function reads beside its arguments and has changed, if anything."""
        return next((fact.name for fact in self._facts or () if not fact.holds()), "")

    def _learn(
        self,
        program: Program,
        structure: Structure,
        leaves: Sequence[Tensor],
        outputs: Sequence[Tensor],
        places: Sequence[str],
    ) -> None:
        """Trust a program that is the same a second time, and gives the function's results."""
        differences = [program.first_difference(other) for other in self._candidates]
        if structure != self._structure:
            self._runs, self._candidates = [], [program]
            self._structure, self.build = structure, make_builder(structure)
            first = [*structure.children()[:1]] if structure.type is tuple else []
            self.carried = sum(part.num_leaves for part in first if is_record(part.type))
        elif None in differences:
            self._candidates.clear()
            self._trust(program, leaves, outputs)
        elif not self._tries and not self._runs:
            at = max(d for d in differences if d is not None)
            self._give_up(f"{[*places, ''][at]} computes something else in each call")
        else:
            self._candidates.append(program)

    def _trust(self, program: Program, leaves: Sequence[Tensor], outputs: Sequence[Tensor]) -> None:
        """Make the program's function; compare its results, unless it writes: then it runs once."""
        for function_of in (by_overload,) if self.donated else (by_function, by_overload):
            run = generate(program, function_of)
            if self.donated or _gives(run, leaves, outputs):
                self._runs.append(run)
                return
        self._give_up("gives other bits when it is run again")

    def _forget(self) -> None:
        self._runs, self._candidates = [], []
        if not self._tries:
            self._give_up("reads something that changes")

    def _give_up(self, reason: str) -> None:
        """Let Python run the function from now on, and say why."""
        self._runs, self._candidates, self._tries, self.stays = [], [], 0, True
        LOG.info("lincoln_fn: %s stays with Python: %s", self.name, reason)


def _gives(run: Run, leaves: Sequence[Tensor], outputs: Sequence[Tensor]) -> bool:
    """Return whether a program gives these results bit for bit."""
    made = run(leaves)  # None if torch's own function takes other arguments
    return made is not None and all(map(same_bits, made, outputs))
