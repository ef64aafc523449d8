"""A training run that can be repeated from its saved states, also backwards.

To go back over a step, the state before it is needed. With s states in memory, and each step
repeated at most r times, at most

    b(s, r) = (s + r)! / (s! r!)

steps can be walked back. So the r that is needed is found, and the next state to be held is such
that neither part needs more: r repetitions of what lies behind it, with one state less, and r - 1
of what lies before it.

Source: Griewank and Walther, "Algorithm 799: Revolve", ACM Transactions on Mathematical Software,
2000.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

import attrs
import torch
from torch import Tensor

from lincoln_fn.checkpoint import Directory, load
from lincoln_fn.checkpoint.internal import newest_first
from lincoln_fn.core import Layer, Tree, check_argument, is_function, tree, wrong_kind
from lincoln_fn.losses import Loss
from lincoln_fn.training import Batch, Batches, Step, check_unspent

# A `TrainState`, or a state of the user's own with the attribute `step`.
State: TypeAlias = Tree
# A `Step`, or a function (state, batch) -> (state, value).
TakesStep: TypeAlias = Callable[[State, Tree], tuple[State, Tree]]


@attrs.frozen(eq=False, slots=False)
class Run:
    """A training run that can be repeated.

    Args:
        step: from `make_step`, or any pure function (state, batch) -> (state, value).
        batches: `data.batches`, a sequence, or a function i -> batch. Step i + 1 takes batch i.
        start: the state before the first step; its step need not be 0.
        saved: states on the way: a `checkpoint.Directory`, or a sequence of states. The more there
            are, the less is repeated. A directory keeps 3 by default: raise its `keep_last`.
        net: the network of a step of your own, if its state has `params`; a step of `make_step`
            has its own. Without one, the first different array is found, and no layer.

    Example:
        >>> net, optimizer, x = lf.dense(1), lf.optim.sgd(0.1), torch.ones(4, 3)
        >>> step = lf.make_step(net, lf.losses.mse(), optimizer)
        >>> start = lf.init_state(net, optimizer, lf.Key(0), x)
        >>> run = Run(step, [(x, torch.ones(4, 1))] * 6, start)
        >>> [int(state.step) for state in run.replayed(start, 3)]
        [1, 2, 3]
    """

    step: TakesStep = attrs.field(repr=False)
    batches: Batches | Sequence[Batch] | Callable[[int], Batch] = attrs.field(repr=False)
    start: State = attrs.field(repr=False)
    saved: Directory | Sequence[State] = ()
    net: Layer | None = None
    loss: Loss | None = None

    def __attrs_post_init__(self) -> None:
        if isinstance(self.step, Layer) or not callable(self.step):
            raise wrong_kind("Run", "step", self.step, "what make_step returns")
        if not (is_function(self.batches) or isinstance(self.batches, Batches | Sequence)):
            expected = "data.batches, a sequence or a function of i"
            raise wrong_kind("Run", "batches", self.batches, expected)
        if not isinstance(self.saved, Directory | list | tuple):
            expected = "a checkpoint.Directory, or a list of states"
            raise wrong_kind("Run", "saved", self.saved, expected)
        check_argument("Run", "net", Layer | None, self.net)
        check_argument("Run", "loss", Loss | None, self.loss)
        for state in (self.start, *(() if isinstance(self.saved, Directory) else self.saved)):
            if not hasattr(state, "step"):
                raise wrong_kind("Run", "a state", state, "a state with a step")
            check_unspent(state)

    @property
    def begun(self) -> int:
        """The number of steps before the start."""
        return int(self.start.step)

    @cached_property
    def marks(self) -> Mapping[int, State | Path]:
        """The saved states, or their files, by step, after the start."""
        if isinstance(self.saved, Directory):
            files = newest_first(self.saved.path)[::-1]
            marks: dict[int, State | Path] = {int(file.stem.split("_")[1]): file for file in files}
        else:
            marks = {int(state.step): state for state in self.saved}
        return {step: marks[step] for step in sorted(marks) if step > self.begun}

    def has(self, step: int) -> bool:
        """Return whether the state after a step is the start, or saved."""
        return step == self.begun or step in self.marks

    def at(self, step: int) -> State:
        """Return the start, or a saved state."""
        if step == self.begun:
            return self.start
        mark = self.marks[step]
        return load(mark, self.start) if isinstance(mark, Path) else mark

    def batch(self, i: int) -> Batch:
        """Return batch i, which step number i + 1 takes."""
        if isinstance(self.batches, Batches):
            return self.batches.at(i)
        return self.batches(i) if callable(self.batches) else self.batches[i]

    def row(self, i: int, example: int) -> int | None:
        """Return which row of the data an example of batch i is; None if that is not known."""
        rows = rows_of(self, i)
        return None if rows is None else int(rows[example])

    def take(self, state: State) -> State:
        """Take one step from a state, which stays as it is."""
        if getattr(self.step, "donate", False):  # the step may update its arguments in place
            state = tree.map(torch.clone, state, states=True)
        return self.step(state, self.batch(int(state.step)))[0]

    def replayed(self, state: State, until: int) -> Iterator[State]:
        """Repeat the steps after a state, and yield the state after each."""
        while int(state.step) < until:
            state = self.take(state)
            yield state

    def reached(self, state: State, until: int) -> State:
        """Repeat the steps after a state, and return the last."""
        for state in self.replayed(state, until):
            pass
        return state

    @property
    def end(self) -> int | None:
        """The number of the last step that there is a batch for; None if that is not known."""
        if isinstance(self.batches, Batches):
            return self.batches.start + len(self.batches)
        return len(self.batches) if isinstance(self.batches, Sequence) else None

    @cached_property
    def parts(self) -> tuple[Layer, Loss] | None:
        """The network and the loss as the step runs them; None if they are not known."""
        if isinstance(self.step, Step):
            pure = self.step.pure  # it has the faster twins
            return self.net or pure.layer, self.loss or pure.loss
        return None if self.net is None or self.loss is None else (self.net, self.loss)


def rows_of(run: Run, i: int) -> Tensor | None:
    """Return which rows of the data batch i of a run has; None if that is not known."""
    if not isinstance(run.batches, Batches):
        return None
    numbers = torch.arange(run.batches.examples)
    rows: Tensor = attrs.evolve(run.batches, arrays=(numbers,)).at(i)[0]
    return rows


def states_back(run: Run, last: int, states: int) -> Iterator[State]:
    """Give the states before the steps of a run, from the last to the first; hold so many."""
    marks = [run.begun, *(step for step in run.marks if step < last)]
    for mark in reversed(marks):
        held = [run.at(mark)]
        while held and last > mark:
            state, begun = held[-1], int(held[-1].step)
            if begun == last - 1:
                yield state
                held.pop()
                last -= 1
                continue
            free = states - len(held) + 1
            state = run.reached(state, begun + next_held(last - begun, free))
            if free > 1:
                held.append(state)
            else:
                yield state
                last -= 1


def next_held(steps: int, states: int) -> int:
    """Return after how many steps the next state is held, of at least 2 to be walked back.

    `states` is how many can be held, with that before the first step.
    """
    if states == 1:
        return steps - 1
    repeats = 1
    while _most(states, repeats) < steps:
        repeats += 1
    least = max(_most(states, repeats - 2), steps - _most(states - 1, repeats), 1)
    return min(least, steps - 1)


def _most(states: int, repeats: int) -> int:
    return math.comb(states + repeats, states) if repeats >= 0 else 0
