"""Which states of a run are held in memory while it is walked back.

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
from collections.abc import Iterator

from lincoln_fn.replay.run import Run, State


def states_back(run: Run, last: int, states: int) -> Iterator[State]:
    """Give the states before the steps of a run, from the last step to the first.

    Args:
        run: the run. Its saved states are used where it has any.
        last: the number of the last step.
        states: how many states may be held in memory, at least 1.

    Yields:
        The state before each step.
    """
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
    """Return after how many steps the next state is held, of `steps` to be walked back.

    Args:
        steps: at least 2.
        states: how many can be held, with that before the first step.

    Returns:
        The number, from 1 to steps - 1.
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
