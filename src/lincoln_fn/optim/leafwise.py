"""Optimizers that update leaf by leaf: `leafwise` makes them of the rule of a leaf and its adjoint.

    rules(at, *, betas, eps)                             -> rule, adjoint
    rule(p, dp, *kept)                                   -> p, *kept
    adjoint(p, dp, *kept, p_bar, *kept_bar)              -> p_bar, dp_bar, *kept_bar, products

`rules` computes what all leaves of a step share. Of the constructor's arguments it gets those that
it takes by keyword. The rest follows, for every optimizer alike:

- the state: what it starts with, its checks, the count of steps, a schedule's learning rate;
- to maximize the loss, -dp replaces dp;
- weight decay, dp <- dp + weight_decay p or, decoupled, p <- (1 - lr weight_decay) p. Rules that
  ask for `weight_decay` compute it themselves;
- the dtype of each leaf.

A bar is the derivative of one number in a tensor. The bars of what an update returns become those
of what it was given, by the chain rule, from the last line of the rule up: for y = f(x, z),

    bar x += (dy)/(dx) bar y
    bar z += (dy)/(dz) bar y

In an adjoint p, dp and the kept tensors are those before the update, and `p_bar` is at first that
of the new p. The sum of a hyperparameter's product, a tensor, is the derivative in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, cached_property, partial
from typing import Any, NamedTuple, TypeAlias

import attrs
import torch
from torch import Tensor

from lincoln_fn.core import Params, Spec, asked_of, bare, evolve, takes_all, tree
from lincoln_fn.optim import leaves
from lincoln_fn.optim.leaves import Entry, Lists, each_leaf, update_lists
from lincoln_fn.optim.optimizer import Adjoints, Optimizer, OptimizerState
from lincoln_fn.optim.rules import add_scaled, learning_rate

Row: TypeAlias = tuple[Entry, ...]  # of an adjoint, its last is products by name
Option: TypeAlias = Any  # a hyperparameter, or a number made of some
# The rule and its adjoint.
Rules: TypeAlias = tuple[Callable[..., Row], Callable[..., Row] | None]
# (kind, at, formula, *, hyperparameters) -> a function of lists, the formula or a faster one.
Faster: TypeAlias = Callable[..., Callable[[Lists], Lists]]


class Once(NamedTuple):
    """A number that a state keeps once, in float64; next(at, *, hyperparameters) is its next."""

    value: float
    next: Callable[..., Tensor]


@attrs.frozen(eq=False, slots=False)  # with slots, attrs of 2023 keeps no cached property
class At:
    """The state before a step, and the step's learning rate."""

    state: OptimizerState
    lr: Option  # a float, or a schedule's tensor

    @cached_property
    def next_step(self) -> Tensor:
        """The count of steps with this one."""
        count: Tensor = self.state.step + 1
        return count

    @cached_property
    def t(self) -> Tensor:
        """The number of this step, from 1, in float64."""
        return self.next_step.double()


# By the name of a field: the number that fills its tree, or a function that makes it of each
# parameter; None if it is not kept. For `step`, True if steps are counted without a schedule, too.
Start: TypeAlias = Mapping[str, float | Callable[[Tensor], object] | Once | None]


@attrs.frozen(eq=False)
class Leafwise:
    """An optimizer's parts: `check` refuses params, `faster` is the rule of all leaves at once."""

    state: type[OptimizerState]
    rules: Callable[..., Rules]
    start: Start
    check: Callable[[str, Params], None] | None
    decoupled: bool
    name: str = ""
    faster: Faster | None = None
    donate: bool = False

    def is_decoupled(self, options: Mapping[str, Option]) -> bool:
        """Return whether weight decay multiplies p."""
        return self.decoupled or bool(options.get("decoupled_weight_decay"))

    def kept(self, options: Mapping[str, Option]) -> Start:
        """Say what each field of the state starts with."""
        counts = callable(options.get("lr")) or None
        names = (field.name for field in attrs.fields(self.state))
        return {name: self.start.get(name, counts) for name in names}


def leafwise(
    state: type[OptimizerState],
    rules: Callable[..., Rules],
    start: Start,
    *,
    check: Callable[[str, Params], None] | None = None,
    no_adjoint: str = "",
    decoupled: bool = False,
) -> Optimizer:
    """Make an optimizer of rules, from within its constructor."""
    kind = Leafwise(state, rules, start, check, decoupled)
    return bare(partial(_make, kind, no_adjoint), init, update, adjoint)


def _make(
    kind: Leafwise, no_adjoint: str, call: Spec, *functions: Callable[..., Entry]
) -> Optimizer:
    kind = attrs.evolve(kind, name=call.of.__name__)
    start, step, back = (partial(function, kind) for function in functions)
    return Optimizer(call, start, step, no_adjoint or back)


@takes_all
def init(kind: Leafwise, params: Params, **options: Option) -> OptimizerState:
    """Make what the state keeps; () for nothing."""
    if kind.check is not None:
        kind.check(kind.name, params)
    trees = {name: _begin(of, params) for name, of in kind.kept(options).items()}
    return kind.state(**trees) if any(each is not None for each in trees.values()) else ()


def _begin(start: Option, params: Params) -> Params:
    if start is None:
        return None
    if start is True:
        return leaves.no_steps(params)
    if isinstance(start, Once):
        device = leaves.no_steps(params).device
        return torch.full((), start.value, dtype=torch.float64, device=device)
    return leaves.state_tree(start, params) if callable(start) else leaves.fill_like(params, start)


@takes_all
def update(
    kind: Leafwise, params: Params, grads: Params, state: OptimizerState, **options: Option
) -> tuple[Params, OptimizerState]:
    """Apply the rule to every leaf."""
    start = kind.kept(options)
    names = _trees(start)
    is_kept = {name: of is not None for name, of in start.items()}
    # Where nothing is trained, a state has no trees; and it is () if it counts nothing.
    counts = any(is_kept[name] for name in is_kept.keys() - {*names})
    is_empty = type(state) is kind.state if counts else type(state) in (kind.state, tuple)
    if tree.leaves(params) or not is_empty:
        expected = kind.state if any(is_kept.values()) else None
        leaves.check_state(kind.name, state, expected, **is_kept)
    at, maximize = _at(state, options), options.get("maximize", False)

    @cache  # once a step, and not at all where a faster function serves every leaf
    def rules_and_decays() -> tuple[Rules, tuple[Option, Option]]:
        return kind.rules(at, **asked_of(kind.rules, options)), _decays(kind, at, options)

    def of_leaf(p: Tensor, dp: Tensor, *kept: Entry) -> Row:
        (rule, _), (penalty, factor) = rules_and_decays()
        dp = _regularized(p, dp, penalty, maximize)
        return rule(p if factor is None else p * factor, dp, *kept)

    apply: Callable[[Lists], Lists] = partial(each_leaf, of_leaf)
    if kind.faster is not None:
        apply = kind.faster(kind, at, apply, **asked_of(kind.faster, options))
    kept = (getattr(state, name, None) for name in names)
    params, *new = update_lists(kind.name, apply, params, grads, *kept)
    if type(state) is tuple:
        return params, state
    once = {
        name: of.next(at, **asked_of(of.next, options))
        for name, of in start.items()
        if isinstance(of, Once)
    }
    counted = {"step": at.next_step} if is_kept.get("step") else {}
    return params, evolve(state, **counted, **once, **dict(zip(names, new, strict=True)))


def _at(state: OptimizerState, options: Mapping[str, Option]) -> At:
    return At(state, learning_rate(options.get("lr", 0.0), getattr(state, "step", None)))


def _trees(start: Start) -> list[str]:
    return [name for name, of in start.items() if name != "step" and not isinstance(of, Once)]


def _decays(kind: Leafwise, at: At, options: Mapping[str, Option]) -> tuple[Option, Option]:
    """Return the factor of the penalty, and 1 - lr weight_decay, or None."""
    decay = 0.0 if "weight_decay" in asked_of(kind.rules, options) else options.get("weight_decay")
    if not kind.is_decoupled(options):
        return decay or 0.0, None
    return 0.0, 1 - at.lr * decay if decay else None


def _regularized(p: Tensor, dp: Tensor, penalty: float | Tensor, maximize: bool) -> Tensor:
    """Compute dp + penalty p: the gradient plus that of penalty |p|^2 / 2."""
    dp = dp.neg() if maximize else dp
    return add_scaled(dp, p, penalty) if penalty else dp


@takes_all
def adjoint(
    kind: Leafwise, params: Params, grads: Params, state: OptimizerState, params_bar: Params,
    state_bar: OptimizerState, **options: Option,
) -> Adjoints:  # fmt: skip
    """Apply the adjoint of the rule to every leaf, undo weight decay, and sum the products."""
    at, sums = _at(state, options), list[dict[str, Tensor]]()
    _, rule = kind.rules(at, **asked_of(kind.rules, options))
    assert rule is not None  # else the optimizer has no adjoint
    (penalty, factor), maximize = _decays(kind, at, options), options.get("maximize", False)

    def of_leaf(p: Tensor, dp: Tensor, _: Tensor, p_bar: Tensor, *kept: Entry) -> Row:
        dp = _regularized(p, dp, penalty, maximize)
        old, bars = kept[: len(names)], kept[len(names) :]
        new_bar, dp_bar, *kept_bar, products = rule(p, dp, *old, p_bar, *bars)
        slopes = {name: product.sum().double() for name, product in products.items()}
        if kind.is_decoupled(options):
            of_decay = (p * new_bar).sum().double()
            slopes["lr"] = slopes["lr"] - options["weight_decay"] * of_decay
            slopes["weight_decay"] = -at.lr * of_decay
            new_bar = new_bar if factor is None else new_bar * factor
        elif "weight_decay" not in slopes:
            slopes["weight_decay"] = (p * dp_bar).sum().double()
            new_bar = new_bar + penalty * dp_bar if penalty else new_bar
        sums.append(slopes)
        return new_bar, dp_bar.neg() if maximize else dp_bar, p_bar, *kept_bar, *bars

    names = _trees(kind.kept(options))
    kept = [getattr(each, name, None) for each in (state, state_bar) for name in names]
    params_bar, grads_bar, _, *new = update_lists(
        kind.name, partial(each_leaf, of_leaf), params, grads, grads, params_bar, *kept
    )
    of_state = evolve(state, **dict(zip(names, new, strict=False))) if state else state
    of_all = {n: torch.stack([each[n] for each in sums]).sum() for n in (sums[0] if sums else ())}
    return Adjoints(params_bar, grads_bar, of_state, of_all)
