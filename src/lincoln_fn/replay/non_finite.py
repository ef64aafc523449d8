"""Where the first nan or infinity of a run was made, found by bisection over its saved states.

A parameter that is not finite stays so. So of n saved states about log2(n) are looked at, and only
the steps after the last finite one are repeated.
"""

from __future__ import annotations

from bisect import bisect_left

import attrs
import torch
from torch import Tensor

from lincoln_fn.core import LayerError, NonNegativeInt, checked, tree
from lincoln_fn.per_example.internal import only
from lincoln_fn.replay import arrays
from lincoln_fn.replay.arrays import Array, Leaf, Place
from lincoln_fn.replay.run import Run, State
from lincoln_fn.walk import Site


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
        steps: the number of the last step; by default that of the last saved state, or that of the
            last batch.

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
        leaf = None if new is None else arrays.first_non_finite_leaf("", new)
        if new is None or leaf is not None:
            return _find_within(run, state, leaf)
        state = new
    return None


def _find_within(run: Run, state: State, of_new: Leaf | None) -> Origin:
    """Find the first array that is not finite in the step after a state."""
    within = arrays.first_within(
        run, state, lambda a: arrays.first_non_finite_leaf(a.name, a.values)
    )
    if of_new is None:
        after = Array("loss", "value", ()), Leaf("value", (), (torch.nan,), torch.inf)
    else:
        after = Array("update", "", ()), of_new
    return _origin(run, *(within or after), int(state.step) + 1)


def _origin(run: Run, array: Array, leaf: Leaf, step: int) -> Origin:
    batch = max(step - 1, 0)
    example = None if array.made_by in ("start", "update") else _example(run, array, leaf, batch)
    row = None if example is None else run.row(batch, example)
    return Origin(
        place=array.place(step, leaf), value=leaf.values[0], batch=batch, example=example, row=row
    )


def _example(run: Run, array: Array, leaf: Leaf, batch: int) -> int | None:
    """Find the example of the batch that an array's value comes from."""
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
