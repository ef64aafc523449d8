"""A training step, (state, batch) -> (state, value), on flat lists of tensors."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, Generic, TypeAlias, TypeVar
from weakref import WeakKeyDictionary

from torch import Tensor

from lincoln_fn.core import is_forward_mode
from lincoln_fn.recording.guards import Fits, fits_like
from lincoln_fn.recording.kinds import Conditions, address, can_be_recorded, conditions
from lincoln_fn.recording.one_kind import Recorded
from lincoln_fn.recording.structures import Structure, flatten, layouts

S = TypeVar("S")
B = TypeVar("B")
M = TypeVar("M", bound=Hashable)


# Makes what takes the steps of one kind: of (state, batch), the number of the state's tensors, and
# whether some tensors share a place.
Make: TypeAlias = Callable[[S, B, int, bool], M]


class StepsByKind(Generic[S, B, M]):
    """What takes a step, found by the kind of the state and the batch.

    It remembers the flat tensors of each state that was made, until the state is used or freed, and
    what followed what. These are memos: no result depends on them.
    """

    def __init__(self, make: Make[S, B, M], place: Callable[[Tensor], int] | None) -> None:
        self.make, self.place = make, place  # as `conditions` says
        self.kinds: dict[Hashable, M] = {}
        self.made: WeakKeyDictionary[S, tuple[list[Tensor], M]] = WeakKeyDictionary()
        self.after: dict[M, list[tuple[Fits, Structure, Conditions, M]]] = {}

    def find(self, state: S, batch: B) -> tuple[list[Tensor], M] | None:
        """List the tensors of a state and a batch, and find what takes their step.

        None if autograd, torch.func, a tracer or a mode has to see the step.
        """
        of_batch, structure = flatten(batch)
        leaves, before = self.made.pop(state, ([], None))
        if before is not None and not is_forward_mode():
            tensors = [*leaves, *of_batch]
            now = conditions(tensors, self.place)
            for fits, *of, memo in self.after[before]:
                if of == [structure, now] and fits(*tensors):
                    return tensors, memo
        leaves, of_state = flatten(state)
        tensors = [*leaves, *of_batch]
        if not can_be_recorded(tensors):
            return None
        now = conditions(tensors, self.place)
        kind = of_state, structure, layouts(tensors), now
        if kind not in self.kinds:
            self.kinds[kind] = self.make(state, batch, len(leaves), now[0] is not None)
        memo = self.kinds[kind]
        if before is not None:
            self.after[before].append((fits_like(tensors), structure, now, memo))
        return tensors, memo

    def keep(self, state: S, leaves: Sequence[Tensor], memo: M) -> None:
        """Remember the tensors of a new state, and what has made it."""
        self.made[state] = [*leaves], memo
        self.after.setdefault(memo, [])


class RecordedStep(Generic[S, B]):
    """A pure step, recorded; with `donate`, it may write into the tensors of the state.

    A pickle leaves out what was recorded.
    """

    def __init__(
        self, step: Callable[[S, B], tuple[S, Tensor]], name: str, donate: bool = False
    ) -> None:
        self.step, self.name, self.donate, self.stays = step, name, donate, False
        self.memos: StepsByKind[S, B, Recorded] = StepsByKind(self._make, address if donate else id)

    def __reduce__(self) -> tuple[type[RecordedStep[S, B]], tuple[Any, ...]]:
        return RecordedStep, (self.step, self.name, self.donate)

    def __call__(self, state: S, batch: B) -> tuple[S, Tensor]:
        """Take a step."""
        found = None if self.stays else self.memos.find(state, batch)
        if found is None:
            return self.step(state, batch)
        tensors, memo = found
        outputs = memo.run(tensors)
        taken: tuple[S, Tensor]
        if outputs is None:
            taken = memo.call((state, batch), tensors)
            self.stays = memo.stays
        else:
            taken = memo.build(outputs)
            self.memos.keep(taken[0], outputs[:-1], memo)
        return taken

    def _make(self, state: S, batch: B, count: int, shares: bool) -> Recorded:
        return Recorded(self.step, self.name, count if self.donate else 0)
