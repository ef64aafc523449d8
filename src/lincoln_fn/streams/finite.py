"""Stop as soon as a tensor of the state is not finite, and name the tensor and its layer."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import Layer, LayerError, NonFiniteError, Params, PositiveInt, called, tree
from lincoln_fn.streams.stream import Stream, closing
from lincoln_fn.training import StepRecord, TrainState
from lincoln_fn.walk.internal import composition_of


@core.checked
def finite(
    stream: Stream, net: Layer, *, every: PositiveInt = 1
) -> Iterator[tuple[TrainState, StepRecord]]:
    """Check that all parameters, running statistics and the optimizer's state stay finite.

    A step checks only its loss, which is computed from the parameters before its update. So this
    stream finds an error one step earlier, before the new state is used, saved or evaluated.

    Args:
        every: check after each step that is a multiple of it. A check reads every tensor once.

    Raises:
        NonFiniteError: from the stream, with the step, the layer, and the path of every tensor of
            the state that holds a `nan` or an infinity.

    Example:
        >>> net, nan = lf.serial(lf.tanh(), lf.dense(1)), torch.full((3, 1), torch.nan)
        >>> params = ((), lf.layers.dense.Params(nan, torch.zeros(1)))
        >>> state = TrainState(params, (), lf.Key(0), torch.tensor(7))
        >>> list(finite([(state, StepRecord(7, 0.5))], net))
        Traceback (most recent call last):
        lincoln_fn.NonFiniteError: step 7: serial[1] dense(1): not finite: params.1.weight
    """
    with closing("finite", stream) as steps:
        for state, record in steps:
            if record.step % every == 0:
                leaves = tree.leaves(state, states=True)
                if not all(map(_is_finite, leaves)):
                    raise _non_finite(net, state, record.step)
            yield state, record


def _is_finite(leaf: object) -> bool:
    if not isinstance(leaf, Tensor):  # such as a step that is an int
        return True
    # A sum is faster than a comparison of every number; the comparison decides if the sum
    # overflows.
    return math.isfinite(leaf.sum().item()) or bool(torch.isfinite(leaf).all())


def _non_finite(net: Layer, state: TrainState, step: int) -> NonFiniteError:
    leaves = core.named_leaves(state, states=True)
    bad = {path: leaf for path, leaf in leaves if not _is_finite(leaf)}
    first = next((leaf for path, leaf in bad.items() if path.startswith("params")), None)
    owner = "" if first is None else f": {_owner(net, state.params, first)}"
    return NonFiniteError(f"step {step}{owner}", f"not finite: {', '.join(bad)}")


def _owner(layer: Layer, params: Params, leaf: Tensor) -> str:
    """Name the layer that a parameter belongs to, with its position: "serial[2] dense(10)"."""
    position = ""
    while (made := composition_of(layer)) is not None:
        try:
            entries = made.split_params(params)
        except LayerError:  # a composition of one's own that does not say how its params are made
            break
        held = (any(leaf is own for own in tree.leaves(entry, states=True)) for entry in entries)
        i = next((i for i, is_owner in enumerate(held) if is_owner), None)
        if i is None:
            break
        position += f"{called(layer.name)}[{i}] "
        layer, params = made.parts[i], entries[i]
    return f"{position}{layer.name}"
