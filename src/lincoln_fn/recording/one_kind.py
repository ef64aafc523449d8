"""A pure function that Python runs a few times, and whose operations alone run from then on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

from torch import Tensor

from lincoln_fn.core import is_record
from lincoln_fn.recording.generate import Run, by_function, by_overload, generate
from lincoln_fn.recording.program import Program, same_bits
from lincoln_fn.recording.recorder import Recorder, Showing
from lincoln_fn.recording.structures import Structure, flatten, make_builder
from lincoln_fn.recording.surroundings import Fact, UnseenError, facts_of
from lincoln_fn.runtime import LOG

# So many calls are recorded at most.
_TRIES: Final = 6
# Programs for one kind of arguments, which differ in the numbers that they read.
_PROGRAMS: Final = 3
# A program that has failed so many times more often than it has held is given up.
_MISSES: Final = 4

Pure: TypeAlias = Callable[..., Any]  # Any: from trees of tensors to a tree of tensors


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
        self.build: Callable[[Sequence[Tensor]], Any] = tuple
        self._runs: list[Run] = []
        self._candidates: list[Program] = []
        self._facts: list[Fact] | None = None
        self._tries, self._misses = _TRIES, 0
        self.stays = False  # with Python, from now on

    def run(self, leaves: Sequence[Tensor]) -> tuple[Tensor, ...] | None:
        """Run the operations, if there is a program for these numbers."""
        if not self._runs:
            return None
        if self._changed():
            self._forget()
            return None
        for run in self._runs:
            outputs = run(leaves)
            if outputs is not None:
                self._misses -= self._misses > 0
                return outputs
        self._misses += 1
        if self._misses > _MISSES and not self._tries:
            self._give_up("reads numbers that are others at most calls")
        return None

    def call(self, arguments: tuple[Any, ...], leaves: Sequence[Tensor]) -> Any:  # Any: trees
        """Run the function, and record it as long as that may be of use."""
        if not self._tries or len(self._runs) == _PROGRAMS:
            return self.function(*arguments)
        self._tries -= 1
        if self._facts is None or self._changed():
            try:
                self._facts = facts_of(self.function)
            except UnseenError as reason:
                self._give_up(str(reason))
                return self.function(*arguments)
        recorder = Recorder(leaves, self.donated, has_places=not self._tries)
        with recorder, Showing(recorder):
            result = self.function(*arguments)
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
            self._give_up(f"{places[at]} computes something else in each call")
        else:
            self._candidates.append(program)

    def _trust(self, program: Program, leaves: Sequence[Tensor], outputs: Sequence[Tensor]) -> None:
        """Make the program's function, and compare what it does with what was recorded.

        A program that writes into its inputs cannot run twice. It calls the very operations.
        """
        for function_of in (by_overload,) if self.donated else (by_function, by_overload):
            run = generate(program, function_of)
            if self.donated or _gives(run, leaves, outputs):
                self._runs.append(run)
                return
        self._give_up("gives other bits when it is run again")

    def _forget(self) -> None:
        """Forget all programs, as something beside the arguments has changed."""
        self._runs, self._candidates = [], []
        if not self._tries:
            self._give_up("reads something that changes")

    def _give_up(self, reason: str) -> None:
        """Let Python run the function from now on, and say why."""
        self._runs, self._candidates, self._tries, self.stays = [], [], 0, True
        LOG.info("lincoln_fn: %s stays with Python: %s", self.name, reason)


def _gives(run: Run, leaves: Sequence[Tensor], outputs: Sequence[Tensor]) -> bool:
    """Return whether a program gives these results bit for bit."""
    try:
        made = run(leaves)
    except (TypeError, RuntimeError):  # torch's own function takes other arguments
        return False
    return made is not None and all(map(same_bits, made, outputs))
