"""The runs of a trial: eager, compiled, in float64, and from numbers changed in their last bits."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch

import lincoln_fn as lf
from helpers.fuzzing.trial import Trial


class Number(NamedTuple):
    """A leaf of what a run has made, and its place."""

    place: str
    leaf: Any


class WrongError(Exception):
    """A run did what no run may do."""


class Runs:
    """The runs of a trial from one state."""

    def __init__(self, trial: Trial, state: lf.TrainState, batches: list[Any]) -> None:
        self.trial, self.state, self.batches = trial, state, batches
        self.exact = self._play(eagerly, torch.float64, state, batches)

    def eager(self) -> list[Number]:
        return self._play(eagerly, self.trial.dtype, self.state, self.batches)

    def shaken(self, i: int) -> list[Number]:
        """Run eagerly from numbers that differ in their last bits."""
        size = 2 * torch.finfo(coarsest(self.trial)).eps * (1 if i < 8 else 4)
        key = lf.Key(i)
        xs = {id(x): shaken_by(key.fold_in(1), size, x) for x, _ in self.batches}
        batches = [(xs[id(x)], target) for x, target in self.batches]
        state = shaken_by(key, size, self.state)
        return self._play(eagerly, self.trial.dtype, state, batches)

    def of(self, compiled: Callable[[Any], Any]) -> list[Number]:
        return self._play(compiled, self.trial.dtype, self.state, self.batches, watches=True)

    def _play(self, how, dtype, state, batches, watches=False) -> list[Number]:
        batches = [in_dtype(dtype, batch) for batch in batches]
        return list(played(self.trial, how, in_dtype(dtype, state), batches, watches))


def coarsest(trial: Trial) -> torch.dtype:
    """Give the dtype with the fewest digits that a network or its optimizer computes in.

    Within a part in bfloat16, a compiled step rounds fewer numbers than the eager one does.
    """
    if "muon(" in trial.optimizer.name:
        return torch.bfloat16
    halves = (torch.bfloat16, torch.float16)
    return next((dtype for dtype in halves if str(dtype) in trial.net.name), trial.dtype)


def eagerly(whole: Any) -> Any:
    return whole


def in_dtype(dtype: torch.dtype, tree: Any) -> Any:
    """Copy a tree in another dtype, each leaf in the order of memory that it has."""
    return lf.tree.map(
        lambda leaf: same_order(leaf, leaf.to(dtype) if leaf.is_floating_point() else leaf),
        tree,
        states=True,
    )


def same_order(like: torch.Tensor, leaf: torch.Tensor) -> torch.Tensor:
    """Copy a leaf, with the strides and the alignment of another."""
    offset = like.storage_offset() % 16
    extent = sum((n - 1) * s for n, s in zip(like.shape, like.stride(), strict=True)) + 1
    room = torch.empty(offset + (extent if like.numel() else 0), dtype=leaf.dtype)
    return room.as_strided(like.shape, like.stride(), offset).copy_(leaf)


def shaken_by(key: lf.Key, size: float, tree: Any) -> Any:
    """Multiply each number by almost 1, and give it in float64."""
    count = iter(range(10**6))

    def shaken(leaf):
        noise = lf.keys.normal(key.fold_in(next(count)), tuple(leaf.shape), dtype=torch.float64)
        if not leaf.is_floating_point():
            return leaf
        return same_order(leaf, (leaf.double() * (1 + size * noise)))

    return lf.tree.map(shaken, tree, states=True)


def played(trial, how, state, batches, watches) -> Iterator[Number]:
    """Take the steps, and list all numbers after each."""
    step, net = made(trial, how)
    for i, batch in enumerate(batches):
        before = cloned((state, batch)) if watches else None
        if trial.mode == "prediction":
            result = net.predict(state.params, batch[0])
        else:
            result = state_after, _ = step(state, batch)
        if watches:
            # A donated state may be changed.
            kept = int(trial.donate and trial.mode == "step")
            check_untouched((state, batch)[kept:], before[kept:])
        yield from numbers_of(f"step {i}", result)
        if trial.mode != "prediction":
            state = changed(trial.change, state_after) if i == 0 else state_after


def cloned(tree: Any) -> Any:
    return lf.tree.map(torch.clone, tree, states=True)


def check_untouched(tree: Any, before: Any) -> None:
    leaves = (lf.tree.leaves(t, states=True) for t in (tree, before))
    paths = lf.tree.paths(before, states=True)
    for path, leaf, old in zip(paths, *leaves, strict=True):
        if not torch.equal(leaf, old):
            raise WrongError(f"an argument was changed in place: {path}")


def numbers_of(when: str, result: Any) -> list[Number]:
    paths, leaves = lf.tree.paths(result, states=True), lf.tree.leaves(result, states=True)
    return [Number(f"{when}: {p}", leaf.clone()) for p, leaf in zip(paths, leaves, strict=True)]


def made(trial: Trial, how: Callable[[Any], Any]) -> tuple[Any, lf.Layer]:
    """Make the step, or the function, and the network, eager or compiled."""
    net = trial.net
    if trial.mode == "prediction":
        return None, how(net)
    if trial.mode == "function":
        return how(own_step(lf.fast(net) if trial.fast else net, trial.loss, trial.optimizer)), net
    return how(lf.make_step(
        net, trial.loss, trial.optimizer, donate=trial.donate, fast=trial.fast
    )), net  # fmt: skip


def own_step(net: lf.Layer, loss: lf.Loss, optimizer: lf.Optimizer) -> Callable[..., Any]:
    """Make a user's own step, a pure function of a state and a batch."""

    def step(state, batch):
        x, target = batch
        z, cache = net.forward(state.params, x)
        value, loss_cache = loss.forward(z, target)
        dparams = net.grads(state.params, cache, loss.backward(loss_cache))
        advanced = net.advance(state.params, cache)
        params, opt_state = optimizer.update(advanced, dparams, state.opt_state)
        new = lf.evolve(state, params=params, opt_state=opt_state, step=state.step + 1)
        return new, {"loss": value}

    return step


def changed(change: str, state: lf.TrainState) -> lf.TrainState:
    """Do to a state what a user may do between two steps."""
    if change == "scaled":
        return lf.evolve(state, params=lf.tree.map(lambda leaf: 0.9 * leaf, state.params))
    if change == "cloned":
        return cloned(state)
    if change == "by rows":
        return lf.tree.map(lambda leaf: leaf.clone(memory_format=torch.contiguous_format), state)
    return state
