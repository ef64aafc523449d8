"""Training: a step is a pure function of a state and a batch, and a loop passes the state on."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from time import perf_counter
from typing import Any, Final, Protocol, TypeAlias, TypeVar

import attrs
import torch
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import STATE, Arrays, Key, Layer, Params, record, tree, unexpected, wrong_kind
from lincoln_fn.optim import Optimizer, OptimizerState
from lincoln_fn.runtime import count_cores, watch_pace
from lincoln_fn.training.batch_checks import check_example, check_walkable, count_examples
from lincoln_fn.training.data import Batch, is_used_once
from lincoln_fn.training.gears import faster
from lincoln_fn.training.protocols import Gradient, GradientState
from lincoln_fn.walk.internal import on_meta


@record
class TrainState:
    """Everything that a training run carries from one step to the next.

    `key` belongs to the run and stays the same: the order of the data, for example, is drawn from
    `key.fold_in(epoch)`. `step` counts the steps taken. `gradient_state` is what a step's own
    gradient keeps; () for most.
    """

    params: Params
    opt_state: OptimizerState
    key: Key
    step: Tensor
    gradient_state: GradientState = ()


@record
class StepRecord:
    """The record of one step of `train`.

    `step` is its number, from 1, and `loss` its loss. `examples` is the number of examples in the
    batch (None if that is not of tensors). `scores` are further numbers by name: the value of each
    part of `losses.weighted`, and the metrics that `streams.evaluated` adds.
    """

    step: int
    loss: float
    examples: int | None = None
    scores: Mapping[str, float] = attrs.field(factory=dict)


# The loss, or numbers by name, "loss" among them.
Value: TypeAlias = Tensor | Mapping[str, Tensor]
StepFunction: TypeAlias = Callable[[TrainState, Batch], tuple[TrainState, Tensor]]


class StateLike(Protocol):
    """What `train` needs of your own state, such as one of two networks: the attribute `step`.

    Your step function adds 1 to it. Define the state's class with `lf.record`, with records and
    tensors as fields: then `checkpoint` can save it, and `lf.compile` can compile the step.

    Example:
        >>> @lf.record
        ... class Average:
        ...     mean: Tensor
        ...     step: Tensor
        >>> def step(state, batch):
        ...     mean = 0.9 * state.mean + 0.1 * batch
        ...     return Average(mean, state.step + 1), (batch - mean).abs()
        >>> begin = Average(torch.tensor(0.0), torch.tensor(0))
        >>> [round(record.loss, 2) for _, record in train(step, begin, list(torch.ones(3)))]
        [0.9, 0.81, 0.73]
    """

    @property
    def step(self) -> Tensor | int:
        """The number of steps taken: an int, or a tensor with one."""


KEEPS_EVERY_STEP: Final = "a derivative would keep every step in memory"

S = TypeVar("S", bound=StateLike)
B = TypeVar("B")


@core.checked
def init_state(
    net: Layer,
    optimizer: Optimizer,
    key: Key,
    x: Arrays,
    *,
    params: Params | None = None,
    gradient: Gradient | None = None,
) -> TrainState:
    """Make the state before the first step.

    Args:
        key: `key.fold_in(0)` draws the parameters, and `key.fold_in(1)` becomes the run's key.
        x: an example input, of which only shape, dtype and device matter.
        params: parameters to start from, such as a trained network's, of which a copy is made. None
            draws them from the key.
        gradient: the step's own gradient, if `make_step` has one.

    Example:
        >>> net, optimizer, x = lf.dense(2), lf.optim.sgd(0.1), torch.zeros(1, 3)
        >>> state = init_state(net, optimizer, lf.Key(0), x)
        >>> state.params
        Params(weight=float32[3, 2], bias=float32[2])
    """
    check_example("init_state", x)
    init_key, run_key = map(key.near(tree.leaves(x)[0]).fold_in, range(2))
    init = faster(net).init  # the same numbers, in a faster memory layout
    params = init(init_key, x) if params is None else copy_like(params, init, init_key, x)
    step = torch.zeros((), dtype=torch.int64, device=run_key.bits.device)
    kept = () if gradient is None else gradient.init(net, params)
    return TrainState(params, optimizer.init(params), run_key, step, kept)


def train(
    step: Callable[[S, B], tuple[S, Value]], state: S, batches: Iterable[B]
) -> Iterator[tuple[S, StepRecord]]:
    """Take a step for every batch, and let the caller decide when to look, stop or save.

    Args:
        step: from `make_step`, or any function (state, batch) -> (state, value). The value is the
            loss, a tensor with one number, or a dict of such tensors; "loss" is the loss, and the
            others go to `record.scores`. None may be named "step".
        state: to start from: a `TrainState`, or your own state, which only needs an attribute
            `step`, the number of steps taken (`StateLike`).
        batches: an iterable of batches, such as (x, target).

    Yields:
        The state after each step, and its record.

    Raises:
        LayerError: if an iterator of batches is empty, or autograd or torch.func sees the steps;
            and as the step does.
        NonFiniteError: for a loss that is not finite, even if the step does not check it.

    Example:
        >>> count = lambda state, batch: (state, torch.tensor(0.5))
        >>> begin = TrainState((), (), Key(0), torch.tensor(0))
        >>> [record.step for state, record in train(count, begin, [(1, 2), (3, 4)])]
        [1, 2]
    """
    yield from take_steps("train", step, state, batches, watch_pace(count_cores()))


def take_steps(
    name: str,
    step: Callable[[S, B], tuple[S, Value]],
    state: S,
    batches: Iterable[B],
    watch: Callable[[tuple[int | None, float]], None],
) -> Iterator[tuple[S, StepRecord]]:
    """Train for `fit` or `train`; `watch` is given the examples and the seconds of each step."""
    if isinstance(step, Layer) or not callable(step):
        swapped = "(step, state, batches)" if hasattr(step, "step") else ""
        raise wrong_kind("train", "step", step, "what make_step returns", swapped)
    if not hasattr(state, "step"):
        raise wrong_kind("train", "state", state, STATE)
    check_walkable("train", batches)
    # Any: the step of a weighted loss has one more function, which reports the parts.
    take: Any = getattr(step, "with_parts", step)
    number = begun = int(state.step)
    for batch in batches:
        started = perf_counter()
        state, value = take(state, batch)
        number += 1
        if number == begun + 1:
            mend = "detach data and state, or take steps by make_step"
            # Not the tensors that the user's own step differentiates anew.
            seen = (t for t in core.tensors_in((state,)) if not (t.is_leaf and t.requires_grad))
            core.check_not_transformed(name, KEEPS_EVERY_STEP, mend, seen)
        loss, scores = _read_numbers(value)
        if not math.isfinite(loss):
            raise core.NonFiniteError(f"step {number}", f"the loss is {loss}")
        examples = count_examples(batch)
        watch((examples, perf_counter() - started))
        yield state, StepRecord(number, loss, examples, scores)
    # Batches that can be iterated over again may be empty: a run that is resumed at its end has no
    # step left.
    if number == begun and is_used_once(batches):
        got, mend = "none: the iterator is used up", "give a list, a DataLoader or data.batches"
        raise unexpected("train", "at least one batch", got, mend)


def _read_numbers(value: Value) -> tuple[float, dict[str, float]]:
    """Read the loss, and the other numbers by name, of what a step returned beside the state."""
    if isinstance(value, Tensor):
        return value.item(), {}
    if not isinstance(value, Mapping) or "loss" not in value:
        kind = "a tensor of one number, or a dict of such with 'loss' among them"
        raise wrong_kind("train", "the step's value", value, kind)
    if "step" in value:  # a log has the number of the step there
        expected = "no number named 'step' in the step's value"
        raise unexpected("train", expected, list(value), "give it another name")
    numbers = {name: float(number) for name, number in value.items()}
    return numbers.pop("loss"), numbers


def copy_like(params: Params, init: Callable[[Key, Arrays], Params], key: Key, x: Arrays) -> Params:
    """Copy given params in the memory layout of drawn ones, after checking that they fit."""
    try:
        drawn = init(Key(key.bits.to("meta")), on_meta(x))  # which draws no numbers
    except Exception:  # of an init that reads numbers; it says what is wrong with others
        drawn = init(key, x)
    # Copies, because a step that updates its state in place must not change the given params.
    own, given = _by_path(drawn), _by_path(params)
    if not tree.same_structure(params, drawn, states=True):
        missing = [path for path in own if path not in given]
        unknown = [path for path in given if path not in own]
        lists = ("missing", missing), ("unknown", unknown)
        named = (f"{word} {', '.join(paths)}" for word, paths in lists if paths)
        mend = core.suggest(params, "params") or "; ".join(named)
        expected = f"params like the network's own, {core.format_briefly(drawn)}"
        raise unexpected("init_state", expected, core.describe(params), mend)
    for path, leaf in own.items():
        found = given[path]
        if not isinstance(found, Tensor) or found.shape != leaf.shape:
            raise core.wrong_shape("init_state", path, found, str(tuple(leaf.shape)))

    def copy(like: Tensor, leaf: Tensor) -> Tensor:
        memory = torch.empty_strided(
            like.shape, like.stride(), dtype=leaf.dtype, device=leaf.device
        )
        return memory.copy_(leaf.detach())

    return tree.map(copy, drawn, params, states=True)


def _by_path(params: Params) -> dict[str, Any]:  # Any: a tensor, or what was given for one
    named = core.named_leaves(params, states=True)
    return {f"params.{path}".removesuffix("."): leaf for path, leaf in named}
