"""An optimizer whose state is divided among processes: the first stage of ZeRO.

Each process updates its slice of the parameters, and holds the state of that slice alone. Then all
collect the new slices. With n processes, each holds 1 / n of the state, and does 1 / n of the work.

Source: Rajbhandari and others, "ZeRO: Memory Optimizations Toward Training Trillion Parameter
Models", SC 2020.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from lincoln_fn.core import Key, LayerError, Params, checked, keys, record, static, tree
from lincoln_fn.optim.leaves import check_state
from lincoln_fn.optim.optimizer import Optimizer, OptimizerState
from lincoln_fn.optim.slices import Processes, cut, join


@record
class ShardedState:
    """The inner optimizer's state for this process's slices.

    `names` and `sizes` are the path of each whole parameter and how many numbers it has.
    """

    inner: OptimizerState
    names: tuple[str, ...] = static()
    sizes: tuple[int, ...] = static()


@checked
def sharded(optimizer: Optimizer, group: Processes) -> Optimizer:
    """Divide an optimizer's state among processes: ZeRO-1.

    All numbers of all parameters are divided equally, also within a parameter. The parameters and
    the gradients stay whole. The new parameters have the bits that `optimizer` alone gives.

    Args:
        optimizer: one that updates each number by itself, such as `adamw`. What looks at several
            numbers, such as `clip_by_global_norm`, goes before: `chain(clip_by_global_norm(1.0),
            sharded(adamw(1e-3), group))`.
        group: the processes, such as `distributed.world()`.

    Returns:
        The optimizer. Its state differs from process to process.

    Raises:
        LayerError: if optimizer is not one, or does not update each number by itself.

    Example:
        >>> optimizer = lf.optim.sharded(lf.optim.adamw(0.1), lf.distributed.alone())
        >>> optimizer, optimizer.init({"weight": torch.zeros(2, 3)}).inner.m
        (sharded(adamw(0.1), group), {'weight': tensor([0., 0., 0., 0., 0., 0.])})
    """
    _check_elementwise(optimizer)
    return Optimizer(
        f"sharded({optimizer.name}, group)",
        partial(_init, optimizer, group),
        partial(_update, optimizer, group),
        "its state is divided among processes; one process takes the same steps with the optimizer "
        "inside it",
    )


def _init(optimizer: Optimizer, group: Processes, params: Params) -> ShardedState:
    sizes = tuple(leaf.numel() for leaf in tree.leaves(params))
    return ShardedState(optimizer.init(_cut(params, group)), tuple(tree.paths(params)), sizes)


def _update(
    optimizer: Optimizer, group: Processes, params: Params, grads: Params, state: ShardedState
) -> tuple[Params, ShardedState]:
    """Update this process's slices, and collect those of the others."""
    check_state("sharded", state, ShardedState)
    new, inner = optimizer.update(_cut(params, group), _cut(grads, group), state.inner)
    leaves = tree.leaves(params)
    whole = iter(join(tree.leaves(new), [leaf.shape for leaf in leaves], group))
    # The memory layout stays, on which the bits of a product can depend.
    params = tree.map(lambda p: torch.empty_like(p).copy_(next(whole)), params)
    return params, ShardedState(inner, state.names, state.sizes)


def _cut(params: Params, group: Processes) -> Params:
    slices = iter(cut(tree.leaves(params), group))
    return tree.map(lambda _: next(slices), params)


def _check_elementwise(optimizer: Optimizer) -> None:
    """Check that slices that are updated alone are those of the whole."""
    numbers = keys.normal(Key(0), (2, 12)) * 10.0 ** torch.arange(-3, 3).repeat(2)

    def halves(row: Tensor) -> tuple[Params, Params]:
        return {"bias": row[:0], "weight": row[:6]}, {"bias": row[8:], "weight": row[6:8]}

    def update(params: Params, grads: Params) -> list[Tensor]:
        state = optimizer.init(params)
        for _ in range(2):
            params, state = optimizer.update(params, grads, state)
        return [leaf.flatten() for leaf in tree.leaves(params)]

    problem = f"expected an optimizer that updates each number by itself, got {optimizer}"
    mend = "put what uses several numbers before it: chain(..., sharded(adamw(1e-3), group))"
    whole = ({"bias": row[8:], "weight": row[:8].view(2, 4)} for row in numbers)
    try:
        parts = map(update, *map(halves, numbers))
        leaves = zip(update(*whole), *parts, strict=True)
    except LayerError as error:
        raise LayerError("sharded", f"{problem} ({error}); {mend}") from error
    for leaf, first, second in leaves:
        if not torch.equal(leaf, torch.cat((first, second))):
            raise LayerError("sharded", f"{problem}; {mend}")
