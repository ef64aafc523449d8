"""Transforms: changes to gradients, or to parameters, around an optimizer's update.

A transform takes an optimizer and returns another that wraps it:

    chain(clip_by_global_norm(1.0), accumulate(4), adamw(1e-3))

clips each gradient, then accumulates four of them, then takes a step of AdamW.

Adjoint. With dp' the changed gradient, and the inner optimizer's bars of p and dp',

    clip by norm     f = max / (n + e), n = |dp|, if that is below 1; dp' = f dp
                     bar dp = f bar dp' - f / (n (n + e)) dp sum dp bar dp'
                     else bar dp = bar dp'
    clip by value    bar dp = bar dp' where |dp| <= max, else 0
    weight decay     bar p += factor bar dp', bar dp = bar dp', bar factor = sum p bar dp'
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated, Final, TypeAlias

import attrs
import torch
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import OR_INFINITE, NonNegative, Params, Positive, bare, constructor, tree
from lincoln_fn.optim.leaves import flatten_with_gradients
from lincoln_fn.optim.optimizer import Adjoint, Adjoints, Optimizer, OptimizerState
from lincoln_fn.optim.rules import add_scaled

# torch's: it is added to a norm, so that a gradient of 0 stays 0.
_EPS: Final = 1e-6

Mask = Callable[[str], bool]
# grads_bar -> (what is added to params_bar, or None, grads_bar, derivatives)
Pull: TypeAlias = Callable[[Params], tuple[Params | None, Params, Mapping[str, Tensor]]]
# (params, grads) -> (grads, pull)
Change: TypeAlias = Callable[..., tuple[Params, Pull]]


@attrs.frozen(eq=False, repr=False)
class Transform(core.Made):
    """A function that wraps an optimizer in another.

    Args:
        name: the code that makes it; its repr.
        around: optimizer -> optimizer. The name of the result does not matter.

    Example:
        >>> optimizer = chain(clip_by_value(2.0), lf.optim.sgd(0.5))
        >>> optimizer.update(torch.tensor(3.0), torch.tensor(8.0), ())
        (tensor(2.), ())
    """

    name: str
    around: Callable[[Optimizer], Optimizer]


@constructor
def chain(*parts: Transform | Optimizer) -> Optimizer:
    """Put transforms before an optimizer, the last part. They change gradients in their order.

    Returns:
        The optimizer. Its state is that of the first part that has one, and holds the next one's.

    Example:
        >>> chain(clip_by_global_norm(1.0), lf.optim.adamw(0.002))
        chain(clip_by_global_norm(1.0), adamw(0.002))
    """
    for i, part in enumerate(parts):
        if not isinstance(part, Transform | Optimizer):
            raise core.wrong_kind("chain", f"parts[{i}]", part, "a Transform or an Optimizer")
    transforms = [part for part in parts[:-1] if isinstance(part, Transform)]
    optimizer = parts[-1] if parts else None
    if not isinstance(optimizer, Optimizer) or len(transforms) < len(parts) - 1:
        raise core.unexpected("chain", "transforms and then one optimizer", parts)
    for part in reversed(transforms):
        optimizer = part.around(optimizer)
    return bare(partial(_named, optimizer))


def _named(optimizer: Optimizer, name: str) -> Optimizer:
    return attrs.evolve(optimizer, name=name)


# The functions of a transform, whose first argument is the inner optimizer.
Init: TypeAlias = Callable[..., OptimizerState]
Step: TypeAlias = Callable[..., tuple[Params, OptimizerState]]
Back: TypeAlias = Callable[..., Adjoints] | str


def transform(name: str, init: Init, update: Step, adjoint: Back) -> Transform:
    """Make a transform of functions that take the inner optimizer first."""
    return Transform(name, partial(_around, init, update, adjoint))


def _around(init: Init, update: Step, adjoint: Back, inner: Optimizer) -> Optimizer:
    if not isinstance(adjoint, str):
        adjoint = inner.adjoint if isinstance(inner.adjoint, str) else partial(adjoint, inner)
    return Optimizer(inner.name, partial(init, inner), partial(update, inner), adjoint)


def _on_gradients(name: core.Spec, change: Change) -> Transform:
    """Make a transform without state of a change of the gradients."""
    update = partial(_update, name=name.of.__name__, change=change)
    return transform(name, _init, update, partial(_adjoint, change=change))


def _init(inner: Optimizer, params: Params) -> OptimizerState:
    return inner.init(params)


def _update(
    inner: Optimizer, params: Params, grads: Params, state: OptimizerState,
    *, name: str, change: Change,
) -> tuple[Params, OptimizerState]:  # fmt: skip
    try:
        changed, _ = change(params, grads)
    except Exception:
        flatten_with_gradients(name, params, grads)  # which names what does not fit
        raise
    return inner.update(params, changed, state)


def _adjoint(
    inner: Optimizer, params: Params, grads: Params, state: OptimizerState,
    params_bar: Params, state_bar: OptimizerState, *, change: Change,
) -> Adjoints:  # fmt: skip
    """Undo the inner optimizer's step, then the change."""
    changed, pull = change(params, grads)
    adjoints = adjoint_of(inner)(params, changed, state, params_bar, state_bar)
    more, grads_bar, derivatives = pull(adjoints.grads)
    params_bar = adjoints.params if more is None else tree.map(torch.add, adjoints.params, more)
    # A hyperparameter may have the name of one of the inner optimizer's.
    before = adjoints.hyperparameters
    added = {name: before.get(name, 0) + derivatives[name] for name in derivatives}
    return Adjoints(params_bar, grads_bar, adjoints.state, {**before, **added})


def adjoint_of(inner: Optimizer) -> Adjoint:
    """Return the adjoint of an optimizer that has one."""
    assert not isinstance(inner.adjoint, str)  # as `transform` has checked
    return inner.adjoint


def _clip_norm(params: Params, grads: Params, *, max_norm: float) -> tuple[Params, Pull]:
    """Compute dp min(1, max / |dp|), and bar dp = f bar dp' - f / (n (n + e)) dp sum dp bar dp'."""
    if not tree.leaves(grads):
        return grads, lambda grads_bar: (None, grads_bar, {})
    norm = norm_of(grads)

    def pull(grads_bar: Params) -> tuple[None, Params, Mapping[str, Tensor]]:
        f = max_norm / (norm + _EPS)
        pairs = zip(tree.leaves(grads), tree.leaves(grads_bar), strict=True)
        along = torch.stack([(widened(dp) * bar).sum() for dp, bar in pairs]).sum()
        slope = torch.where(f < 1, f * along / (norm * (norm + _EPS)), 0)
        f = f.clamp(max=1.0)

        def of_leaf(dp: Tensor, bar: Tensor) -> Tensor:
            return (f * widened(bar) - slope * widened(dp)).to(dp.dtype)

        return None, tree.map(of_leaf, grads, grads_bar), {}

    return clip(grads, norm, max_norm), pull


def norm_of(grads: Params) -> Tensor:
    """Compute the norm of all gradients as one vector."""
    norms = [torch.linalg.vector_norm(widened(g)) for g in tree.leaves(grads)]
    norm: Tensor = torch.linalg.vector_norm(torch.stack(norms)) if norms else torch.zeros(())
    return norm


def widened(g: Tensor) -> Tensor:
    """Convert to float32, if g has less: in float16 a norm overflows, and a factor rounds to 0."""
    return g.to(torch.promote_types(g.dtype, torch.float32))


def clip(grads: Params, norm: Tensor, max_norm: float) -> Params:
    """Scale gradients of a known norm: dp min(1, max / (|dp| + 1e-6))."""
    factor = (max_norm / (norm + _EPS)).clamp(max=1.0)
    return tree.map(lambda g: (widened(g) * factor).to(g.dtype), grads)


@constructor
def clip_by_global_norm(max_norm: Annotated[Positive, OR_INFINITE]) -> Transform:
    """Scale all gradients together so that their norm is at most max_norm: dp min(1, max / |dp|).

    It is the norm of all as one vector, plus 1e-6, as in torch, so that a gradient of 0 stays 0.

    Source: Pascanu, Mikolov and Bengio, "On the difficulty of training recurrent neural networks",
    2013, algorithm 1.

    Example:
        >>> clipped = chain(clip_by_global_norm(1.0), lf.optim.sgd(1.0))
        >>> clipped.update(torch.zeros(2), torch.tensor([3.0, 4.0]), ())[0]
        tensor([-0.6000, -0.8000])
    """
    return bare(_on_gradients, _clip_norm)


def _clip_values(params: Params, grads: Params, *, max_value: float) -> tuple[Params, Pull]:
    """Clamp dp, and compute bar dp = bar dp' where |dp| <= max, else 0."""

    def pull(grads_bar: Params) -> tuple[None, Params, Mapping[str, Tensor]]:
        return None, tree.map(lambda g, bar: bar * (g.abs() <= max_value), grads, grads_bar), {}

    return tree.map(lambda g: g.clamp(-max_value, max_value), grads), pull


@constructor
def clip_by_value(max_value: Annotated[Positive, OR_INFINITE]) -> Transform:
    """Clip each element of each gradient to [-max_value, max_value].

    Example:
        >>> clipped, dp = chain(clip_by_value(1.0), lf.optim.sgd(1.0)), torch.tensor([3.0, -0.5])
        >>> clipped.update(torch.zeros(2), dp, ())[0]
        tensor([-1.0000,  0.5000])
    """
    return bare(_on_gradients, _clip_values)


def _decay(
    params: Params, grads: Params, *, factor: float, mask: Mask | None
) -> tuple[Params, Pull]:
    """Compute dp + factor p, bar p += factor bar dp', bar factor = sum p bar dp'."""
    decays = [mask is None or mask(path) for path in tree.paths(params)]

    def pull(grads_bar: Params) -> tuple[Params, Params, Mapping[str, Tensor]]:
        chosen = iter(decays)
        decaying = tree.map(lambda bar: bar if next(chosen) else torch.zeros_like(bar), grads_bar)
        pairs = zip(tree.leaves(params), tree.leaves(decaying), strict=True)
        products = [(p * bar).sum(dtype=torch.float64) for p, bar in pairs]
        derivatives = {"weight_decay": torch.stack(products).sum()} if products else {}
        return tree.map(lambda bar: factor * bar, decaying), grads_bar, derivatives

    chosen = iter(decays)
    return tree.map(
        lambda p, g: add_scaled(g, p, factor) if next(chosen) else g, params, grads
    ), pull


@constructor
def weight_decay(factor: NonNegative, mask: Mask | None = None) -> Transform:
    """Add factor p to the gradients, of some parameters or of all.

    Transforms before it in a chain do not see what it adds. To use adamw's decoupled weight decay
    for some parameters only, use `by_path`.

    Args:
        factor: the factor of the penalty |p|^2 / 2, at least 0.
        mask: path -> whether this parameter decays; None for all.

    Example:
        >>> params, grads = {"bias": torch.ones(1), "weight": torch.ones(1)}, torch.zeros(1)
        >>> decayed = chain(weight_decay(0.5, lambda path: path == "weight"), lf.optim.sgd(1.0))
        >>> decayed.update(params, {"bias": grads, "weight": grads}, ())[0]
        {'bias': tensor([1.]), 'weight': tensor([0.5000])}
    """
    return bare(_on_gradients, _decay)
