"""The batches of each epoch of `fit`, from arrays or from any iterable of batches."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from operator import length_hint
from typing import Annotated, TypeAlias

import attrs

from lincoln_fn.core import A_TUPLE, BY_HAND, Arrays, require, unexpected, warn
from lincoln_fn.optim.internal import is_waiting
from lincoln_fn.training.batch_checks import check_batch, check_walkable, is_array
from lincoln_fn.training.data import Array, Batch, Batches, Mapped, batches, innermost, is_used_once
from lincoln_fn.training.train import TrainState

Data: TypeAlias = Annotated[tuple[Array, Array] | Iterable[Batch], BY_HAND]


def as_batches(
    name: str,
    data: Data,
    batch_size: int | None,
    shard: tuple[int, int],
    *,
    used_once: bool = False,
) -> Iterable[Batch]:
    """Make batches of the argument `name`, or raise a `LayerError`."""
    if isinstance(data, tuple):
        if len(data) != 2:
            mend = "; give batches as a list" if isinstance(data[0], tuple | list) else ""
            expected = f"{name} given as a tuple (x, target)"
            raise unexpected("fit", expected, f"{len(data)} entries{mend}")
        if batch_size is None:
            expected = f"a batch_size for {name} given as arrays"
            raise unexpected("fit", expected, "None", "write batch_size=32, or give batches")
        arrays: tuple[Arrays, ...] = data  # for mypy, two arrays may also be a batch
        return batches(arrays, batch_size, shard=shard)
    if is_used_once(data) and not used_once:
        expected = f"{name} that can be walked once an epoch"
        raise unexpected("fit", expected, "an iterator", "give a list or a DataLoader, or epochs=1")
    if isinstance(data, list) and data and is_array(data[0]):
        raise unexpected("fit", "arrays as a tuple (x, target)", "a list", A_TUPLE)
    check_walkable("fit", data)
    return data


def check_batch_size(batch_size: int | None, *sources: Data | None) -> None:
    """Refuse a batch_size where no source is given as arrays: batches have a size of their own."""
    fits = batch_size is None or any(isinstance(source, tuple) for source in sources)
    mend = f"leave it out, or give arrays (x, target) or DataLoader(dataset, {batch_size})"
    require(fits, "fit", "no batch_size for data given as batches", batch_size, mend)


def first_input(source: Iterable[Batch]) -> tuple[Arrays, Iterable[Batch]]:
    """Return an example x, and all batches, including the one that x was taken from."""
    if isinstance(source, Batches):
        return source.at(0)[0], source
    walked = iter(source)
    for batch in walked:
        check_batch("fit", batch)
        return batch[0], chain([batch], walked) if is_used_once(source) else source
    raise unexpected("fit", "at least one batch", "none")


def batches_of_epoch(
    source: Iterable[Batch], epoch: int, *, begun: int, step: int
) -> Iterable[Batch]:
    """Return the batches up to the end of an epoch, from 1, that a run has not seen yet.

    Only `data.batches` know their batches by number; others give an epoch at each iteration.
    """
    if isinstance(source, Mapped):
        inner = batches_of_epoch(source.source, epoch, begun=begun, step=step)
        return attrs.evolve(source, source=inner)
    if isinstance(source, Batches):
        first = source.start or begun
        return attrs.evolve(source, epochs=epoch * source.epochs, start=first + step - begun)
    return source


def check_epoch(source: Iterable[Batch], epoch: int, steps: int) -> None:
    """Check that an epoch had a batch; of `data.batches`, a resumed run may have had all before."""
    if not steps and not isinstance(innermost(source), Batches):
        mend = "give a list, a DataLoader or data.batches with a batch in each epoch"
        raise unexpected("fit", f"at least one batch in epoch {epoch}", "none", mend)


def warn_of_no_update(source: Iterable[Batch], epochs: int, begun: int, state: TrainState) -> None:
    """Warn of a run from step `begun` to a state that has the same parameters."""
    steps, inner = int(state.step) - begun, innermost(source)
    if steps and is_waiting(state.opt_state, steps):
        problem = f"accumulate waits for more than the {steps} batches given"
        mend = "give more batches or epochs, or accumulate fewer"
        warn(f"fit: {problem}, so no parameter has changed; {mend}")
    if not steps and isinstance(inner, Batches):  # `check_epoch` refuses others without a step
        end = epochs * inner.epochs * inner.per_epoch
        problem = f"state is at step {begun}, and epochs={epochs} end at {end}"
        mend = "epochs include those before, so write more of them to train on"
        other = "for other data or another batch_size, take init_state(..., params=state.params)"
        warn(f"fit: trains nothing, since {problem}; {mend}; {other}")


def count_steps(source: Iterable[Batch], epochs: int, begun: int) -> int | None:
    """Count the steps of a run, if its data has a length."""
    whole = source
    if isinstance(innermost(source), Batches):
        whole, epochs = batches_of_epoch(source, epochs, begun=begun, step=begun), 1
    length = length_hint(whole, -1)
    return None if length < 0 else length * epochs
