"""Transforms: changes to gradients, or to parameters, around an optimizer's update.

A transform takes an optimizer and returns another that wraps it:

    chain(clip_by_global_norm(1.0), accumulate(4), adamw(1e-3))

clips each gradient, then accumulates four of them, then takes a step of AdamW.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, TypeAlias

import attrs
import torch
from torch import Tensor

from lincoln_fn.core import tree
from lincoln_fn.core.constructors import bare, constructor
from lincoln_fn.core.layer import Params
from lincoln_fn.errors.arguments import OR_INFINITE, NonNegative, Positive
from lincoln_fn.errors.errors import LayerError
from lincoln_fn.errors.kinds import check_functions, wrong_kind
from lincoln_fn.optim.optimizer import Optimizer, OptimizerState

Mask = Callable[[str], bool]
# (params, grads) -> grads
Change: TypeAlias = Callable[[Params, Params], Params]


@attrs.frozen(eq=False, repr=False)
class Transform:
    """A function that wraps an optimizer in another.

    Args:
        name: the code that makes it; its repr.
        around: optimizer -> optimizer. The name of the result does not matter.

    Example:
        >>> from lincoln_fn.optim import sgd
        >>> chain(clip_by_value(2.0), sgd(0.5)).update(torch.tensor(3.0), torch.tensor(8.0), ())
        (tensor(2.), ())
    """

    name: str
    around: Callable[[Optimizer], Optimizer]

    def __attrs_post_init__(self) -> None:
        check_functions("Transform", self.name, around=self.around)

    def __repr__(self) -> str:
        return self.name


@constructor
def chain(*parts: Transform | Optimizer) -> Optimizer:
    """Put transforms before an optimizer. Gradients pass through the first one first.

    Args:
        *parts: any number of transforms, and the optimizer last.

    Returns:
        The optimizer. Its state is the first transform's, which contains the next one's. A
        transform without state does not appear in it.

    Raises:
        LayerError: if the last part is not an optimizer, or another is not a transform.

    Example:
        >>> from lincoln_fn.optim import adamw
        >>> chain(clip_by_global_norm(1.0), adamw(0.002))
        chain(clip_by_global_norm(1.0), adamw(0.002))
    """
    for i, part in enumerate(parts):
        if not isinstance(part, Transform | Optimizer):
            raise wrong_kind("chain", f"parts[{i}]", part, "a Transform or an Optimizer")
    optimizer: Optimizer | None = None
    for part in reversed(parts):
        if isinstance(part, Transform) and optimizer is not None:
            optimizer = part.around(optimizer)
        elif isinstance(part, Optimizer) and optimizer is None:
            optimizer = part
        else:
            optimizer = None
            break
    if optimizer is None:
        raise LayerError("chain", f"expected transforms and then one optimizer, got {parts}")
    return bare(Optimizer, optimizer.init, optimizer.update)


def _on_gradients(name: str, change: Change) -> Transform:
    """Make a transform without state from (params, grads) -> grads."""
    return Transform(name, partial(_around, change))


def _around(change: Change, inner: Optimizer) -> Optimizer:
    return Optimizer(inner.name, inner.init, partial(_update, change, inner))


def _update(
    change: Change,
    inner: Optimizer,
    params: Params,
    grads: Params,
    state: OptimizerState,
) -> tuple[Params, OptimizerState]:
    """Take the inner optimizer's step with the changed gradients."""
    return inner.update(params, change(params, grads), state)


def _clip_norm(params: Params, grads: Params, *, max_norm: float) -> Params:
    """Compute dp min(1, max / |dp|)."""
    leaves = tree.leaves(grads)
    if not leaves:
        return grads
    norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g) for g in leaves]))
    return clip(grads, norm, max_norm)


def clip(grads: Params, norm: Tensor, max_norm: float) -> Params:
    """Scale gradients of a known norm: dp min(1, max / (|dp| + 1e-6))."""
    factor = (max_norm / (norm + 1e-6)).clamp(max=1.0)
    return tree.map(lambda g: (g * factor).to(g.dtype), grads)


@constructor
def clip_by_global_norm(max_norm: Annotated[Positive, OR_INFINITE]) -> Transform:
    """Scale all gradients together so that their norm is at most max_norm: dp min(1, max / |dp|).

    The norm is that of all gradients as one vector. As in torch, 1e-6 is added to it, so that a
    gradient of 0 stays 0.

    Args:
        max_norm: the largest norm, above 0.

    Returns:
        The transform.

    Raises:
        ValueError: if max_norm is not above 0.

    Source: Pascanu, Mikolov and Bengio, "On the difficulty of training recurrent neural networks",
    2013, algorithm 1.

    Example:
        >>> from lincoln_fn.optim import sgd
        >>> dp = torch.tensor([30.0, 40.0])
        >>> chain(clip_by_global_norm(10.0), sgd(1.0)).update(torch.zeros(2), dp, ())[0]
        tensor([-6.0000, -8.0000])
    """
    return bare(_on_gradients, _clip_norm)


def _clip_values(params: Params, grads: Params, *, max_value: float) -> Params:
    return tree.map(lambda g: g.clamp(-max_value, max_value), grads)


@constructor
def clip_by_value(max_value: Annotated[Positive, OR_INFINITE]) -> Transform:
    """Clip each element of each gradient to [-max_value, max_value].

    Args:
        max_value: the largest magnitude, above 0.

    Returns:
        The transform.

    Raises:
        ValueError: if max_value is not above 0.

    Example:
        >>> from lincoln_fn.optim import sgd
        >>> dp = torch.tensor([3.0, -0.5])
        >>> chain(clip_by_value(1.0), sgd(1.0)).update(torch.zeros(2), dp, ())[0]
        tensor([-1.0000,  0.5000])
    """
    return bare(_on_gradients, _clip_values)


def _decay(params: Params, grads: Params, *, factor: float, mask: Mask | None) -> Params:
    """Compute dp + factor p."""
    if mask is None:
        return tree.map(lambda p, g: g.add(p, alpha=factor), params, grads)
    chosen = iter([mask(path) for path in tree.paths(params)])
    return tree.map(lambda p, g: g.add(p, alpha=factor) if next(chosen) else g, params, grads)


@constructor
def weight_decay(factor: NonNegative, mask: Mask | None = None) -> Transform:
    """Add factor p to the gradients, of some parameters or of all.

    Transforms before it in a chain do not see what it adds. To use adamw's decoupled weight decay
    for some parameters only, use `by_path`.

    Args:
        factor: the factor of the penalty |p|^2 / 2, at least 0.
        mask: path -> whether this parameter decays; None for all.

    Returns:
        The transform.

    Raises:
        ValueError: if factor is below 0.

    Example:
        >>> from lincoln_fn.optim import sgd
        >>> params, grads = {"bias": torch.ones(1), "weight": torch.ones(1)}, torch.zeros(1)
        >>> decayed = chain(weight_decay(0.5, mask=lambda path: path == "weight"), sgd(1.0))
        >>> decayed.update(params, {"bias": grads, "weight": grads}, ())[0]
        {'bias': tensor([1.]), 'weight': tensor([0.5000])}
    """
    return bare(_on_gradients, _decay)
