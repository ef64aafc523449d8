"""The first difference between two runs, and the first number of one that is not finite.

Two runs that differ once usually differ from then on. So of n saved states, about log2(n) pairs
are compared, and only the steps between two of them are repeated. A parameter that is not finite
stays so, too: then the steps after the last finite state are repeated.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable
from typing import Final

import attrs
import torch
from torch import Tensor

from lincoln_fn.core import LayerError, NonFiniteError, NonNegative, NonNegativeInt, checked, tree
from lincoln_fn.per_example.internal import only
from lincoln_fn.replay import arrays
from lincoln_fn.replay.arrays import Array, Leaf, MadeBy, Place
from lincoln_fn.replay.run import Run, State
from lincoln_fn.walk import Site


@attrs.frozen(kw_only=True)
class Difference:
    """The first array in which two runs differ.

    Args:
        place: the step, the layer and the array.
        values: the first number that differs, of each run; () if shape or dtype differ, or if one
            run has no such array.
        largest: the largest difference in the array.
        after: up to this step the runs are equal. It is the step before, except for made_by
            "record", where it is the saved state before.
    """

    place: Place
    values: tuple[float, ...]
    largest: float
    after: int

    def __str__(self) -> str:
        if not self.values:
            differ = "has another shape or dtype, or is in one run only"
        else:
            differ = f"is {self.values[0]:.9g} and {self.values[1]:.9g}"
            differ += f", by at most {self.largest:.3g} in the array"
        if self.place.made_by == "record":
            differ += f"; a replay from step {self.after} does not reach the saved state"
        return f"{self.place.where} {differ}"


@checked
def first_difference(
    a: Run, b: Run | None = None, *, tol: NonNegative = 0.0, steps: NonNegativeInt | None = None
) -> Difference | None:
    """Find the first step, layer and array in which two runs, or a run and its repetition, differ.

    The steps that both have saved are compared as they are. Where only one run has a saved state,
    the other repeats the steps from the saved state before it. Bisection finds the first of these
    comparisons that fails. Then both runs repeat the steps between, side by side, to the first that
    differs. In that step all arrays are compared in the order of their computation: the batch, each
    layer's output, the loss, each layer's gradients, and the new state. A run that a loss of nan or
    infinity has ended is compared up to that step.

    Args:
        b: another one, such as with another step or other batches. None compares a's saved states
            with a repetition.
        tol: 0 compares bits. Above 0, numbers may differ by this share of the largest number in
            their array: two devices compute different roundings.
        steps: the number of the last step; by default that of the last saved state or batch.

    Raises:
        LayerError: if the last step is not known; as the steps do.

    Example:
        >>> net, optimizer, x = lf.dense(1), lf.optim.sgd(0.1), torch.ones(4, 3)
        >>> step = lf.make_step(net, lf.losses.mse(), optimizer)
        >>> start = lf.init_state(net, optimizer, lf.Key(0), x)
        >>> batches = [(x, torch.ones(4, 1))] * 6
        >>> run = lf.replay.Run(step, batches, start)
        >>> other = lf.replay.Run(step, [*batches[:4], (x, torch.zeros(4, 1)), batches[5]], start)
        >>> print(lf.replay.first_difference(run, other))
        step 5: data: target[0, 0] is 1 and 0, by at most 1 in the array
    """
    b = attrs.evolve(a, saved=()) if b is None else b
    leaf = arrays.first_unequal("", a.start, b.start, tol)
    if leaf is not None:
        return _difference(Array("start", "", a.start), leaf, a.begun, a.begun)
    pair = _Pair(a, b, tol)
    last = _last(a, b) if steps is None else steps
    marks = [a.begun, *sorted(step for step in {*a.marks, *b.marks} if a.begun < step <= last)]
    bad = _first_bad(lambda i: pair.unequal(marks[i - 1], marks[i]) is not None, len(marks))
    if bad is not None:
        return pair.side_by_side(marks[bad - 1], marks[bad])
    return pair.side_by_side(marks[-1], last)


def _last(a: Run, b: Run) -> int:
    """Return the number of the last saved state, or of the last step that both have a batch for."""
    ends = [end for end in (a.end, b.end) if end is not None]
    if a.marks or b.marks:
        return max(*a.marks, *b.marks, a.begun)
    if not ends:
        problem = "expected saved states, or steps, the number of the last step"
        raise LayerError("first_difference", problem)
    return min(ends)


def _first_bad(is_bad: Callable[[int], bool], count: int) -> int | None:
    """Find the first i from 1 that is bad, if all after it are bad as well; else any bad one."""
    if count < 2 or not is_bad(count - 1):
        return next((i for i in range(1, count - 1) if is_bad(i)), None)
    return 1 + bisect_left(range(1, count - 1), True, key=is_bad)


@attrs.frozen(eq=False)
class _Pair:
    a: Run
    b: Run
    tol: float

    def states(self, step: int) -> tuple[State, State]:
        """Return the saved states of both runs, or for a run that has none, the other's."""
        a = self.a if self.a.has(step) else self.b
        b = self.b if self.b.has(step) else self.a
        return a.at(step), b.at(step)

    def unequal(self, before: int, step: int) -> Leaf | None:
        """Compare the states after a step, repeated from the step before where not saved."""
        pairs = zip((self.a, self.b), self.states(before), strict=True)
        try:
            a, b = (
                run.at(step) if run.has(step) else run.reached(state, step) for run, state in pairs
            )
        except NonFiniteError:  # `side_by_side` finds out whether both runs end there
            return _ENDED
        return arrays.first_unequal("", a, b, self.tol)

    def side_by_side(self, before: int, last: int) -> Difference | None:
        """Repeat the steps of both runs, to the first after which their states differ."""
        old = self.states(before)
        while int(old[0].step) < last:
            a, b = arrays.take_finite(self.a, old[0]), arrays.take_finite(self.b, old[1])
            if a is None or b is None:  # a loss that is not finite ends a run
                return self._find_within(old, None if a is b else _ENDED)
            leaf = arrays.first_unequal("", a, b, self.tol)
            if leaf is not None:
                return self._find_within(old, leaf)
            old = a, b
        leaf = self.unequal(before, last) if last > before else None
        return None if leaf is None else _difference(Array("record", "", ()), leaf, last, before)

    def _find_within(self, old: tuple[State, State], leaf: Leaf | None) -> Difference | None:
        number = int(old[0].step) + 1
        others = {array.key: array.values for array in arrays.arrays_of_step(self.b, old[1])}

        def compare(array: Array) -> Leaf | None:
            if array.key not in others:
                return None
            return arrays.first_unequal(array.name, array.values, others[array.key], self.tol)

        within = arrays.first_within(self.a, old[0], compare)
        if within is not None:
            return _difference(*within, number, number - 1)
        if leaf is None:
            return None
        made_by: MadeBy = "loss" if leaf is _ENDED else "update"
        return _difference(Array(made_by, "", ()), leaf, number, number - 1)


# In place of a leaf: the loss of one run is not finite, and so it has no new state.
_ENDED: Final = Leaf("value", (), (), math.inf)


def _difference(array: Array, leaf: Leaf, step: int, after: int) -> Difference:
    return Difference(
        place=array.place(step, leaf), values=leaf.values, largest=leaf.largest, after=after
    )


@attrs.frozen(kw_only=True)
class Origin:
    """Where the first nan or infinity of a run was made.

    Args:
        place: the step, the layer and the array. "forward" and "backward" say which pass made it.
        value: the first number in the array that is not finite.
        batch: the number of the batch, from 0, as `run.batch` takes it.
        example: which example of the batch; None if that is not known, or if it is not one alone.
        row: the example's row in the data of `data.batches`; None if that is not known.
    """

    place: Place
    value: float
    batch: int
    example: int | None
    row: int | None

    def __str__(self) -> str:
        example = "" if self.example is None else f", example {self.example}"
        row = "" if self.row is None else f", row {self.row} of the data"
        return f"{self.place.where} is {self.value}; batch {self.batch}{example}{row}"


@checked
def first_non_finite(run: Run, *, steps: NonNegativeInt | None = None) -> Origin | None:
    """Find the step, the layer and the pass that made the first nan or infinity of a run.

    Bisection finds the last saved state that is finite, and the steps after it are repeated. In the
    first step whose loss or new state is not finite, all arrays are looked at in the order of their
    computation. A layer's output counts even if the network could go on: a mask of -inf should be
    inside a layer.

    An output or a dx names the example by its first axis, if that is the batch. For a gradient of
    parameters, the layer's backward is repeated with the g of one example at a time.

    Args:
        steps: as for `first_difference`.

    Raises:
        LayerError: if the last step is not known; as the steps do.

    Example:
        >>> net, optimizer, x = lf.dense(1), lf.optim.sgd(0.1), torch.ones(4, 3)
        >>> step = lf.make_step(net, lf.losses.mse(), optimizer)
        >>> start = lf.init_state(net, optimizer, lf.Key(0), x)
        >>> bad = torch.tensor([[1.0], [1.0], [torch.inf], [1.0]])
        >>> run = lf.replay.Run(step, [(x, torch.ones(4, 1)), (x, bad)], start)
        >>> print(lf.replay.first_non_finite(run))
        step 2: data: target[2, 0] is inf; batch 1, example 2
    """
    leaf = arrays.first_non_finite_leaf("", run.start)
    if leaf is not None:
        return _origin(run, Array("start", "", ()), leaf, run.begun)
    marks = [*run.marks]
    bad = bisect_left(
        marks, True, key=lambda step: arrays.first_non_finite_leaf("", run.at(step)) is not None
    )
    state = run.at(marks[bad - 1]) if bad else run.start
    ends = steps, *marks[bad : bad + 1], run.end
    last = next((step for step in ends if step is not None), None)
    if last is None:
        problem = "expected steps, the number of the last step, as the batches do not say it"
        raise LayerError("first_non_finite", problem)
    while int(state.step) < last:
        new = arrays.take_finite(run, state)
        leaf = _NOT_FINITE if new is None else arrays.first_non_finite_leaf("", new)
        if leaf is not None:
            within = arrays.first_within(
                run, state, lambda a: arrays.first_non_finite_leaf(a.name, a.values)
            )
            after = Array("loss" if new is None else "update", "", ()), leaf
            return _origin(run, *(within or after), int(state.step) + 1)
        state = new
    return None


# In place of a leaf of the new state, which a loss that is not finite leaves out.
_NOT_FINITE: Final = Leaf("value", (), (math.nan,), math.inf)


def _origin(run: Run, array: Array, leaf: Leaf, step: int) -> Origin:
    batch = max(step - 1, 0)
    example = None if array.made_by in ("start", "update") else _example(run, array, leaf, batch)
    row = None if example is None else run.row(batch, example)
    return Origin(
        place=array.place(step, leaf), value=leaf.values[0], batch=batch, example=example, row=row
    )


def _example(run: Run, array: Array, leaf: Leaf, batch: int) -> int | None:
    of_batch = [x for x in tree.leaves(run.batch(batch)) if isinstance(x, Tensor) and x.ndim]
    if not of_batch:
        return None
    count = len(of_batch[0])
    if array.name == "dparams":
        return None if array.site is None else _example_of_gradient(array.site, count)
    tensor = arrays.name_leaves(array.name, array.values).get(leaf.array)
    has_batch = tensor is not None and tensor.ndim > 0 and len(tensor) == count
    return leaf.index[0] if has_batch else None


def _example_of_gradient(site: Site, count: int) -> int | None:
    """Find the first example whose g alone makes a gradient that is not finite."""
    if not all(leaf.ndim and len(leaf) == count for leaf in tree.leaves(site.g)):
        return None

    def is_finite(chosen: Tensor) -> bool:
        dparams = site.layer.backward(site.params, site.cache, only(chosen, site.g))[1]
        return arrays.first_non_finite_leaf("", dparams) is None

    examples = torch.arange(count)
    if not is_finite(examples < 0):  # no example is to blame
        return None
    return next((i for i in range(count) if not is_finite(examples == i)), None)
