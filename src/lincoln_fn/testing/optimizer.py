"""`check_optimizer`: is an optimizer's adjoint the derivative of its update?

The update is a function like a layer's forward, and the adjoint its backward:

    forward     (hyperparameters, (params, grads, state)) -> (params, state)
    backward    (params_bar, state_bar) -> the bars of all of these

So it is judged as a layer is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, Literal, overload

import attrs
import torch
from torch import Tensor

from lincoln_fn.core import tree
from lincoln_fn.core.keys import Key
from lincoln_fn.core.layer import Arrays, Layer, Params
from lincoln_fn.errors.arguments import check_argument
from lincoln_fn.errors.errors import LayerError
from lincoln_fn.optim.optimizer import Adjoints, Optimizer, OptimizerState
from lincoln_fn.testing.diagnosis import GradientError
from lincoln_fn.testing.report import Report
from lincoln_fn.testing.run import Options, checked
from lincoln_fn.testing.sample import doubled, random_like

_HYPERPARAMETERS: Final = ("lr", "weight_decay", "momentum")


@overload
def check_optimizer(
    optimizer: Optimizer, params: Params, *, steps: int = ..., key: Key = ...,
    all: Literal[False] = ...,
) -> None: ...  # fmt: skip
@overload
def check_optimizer(
    optimizer: Optimizer, params: Params, *, steps: int = ..., key: Key = ..., all: Literal[True]
) -> Report: ...
def check_optimizer(
    optimizer: Optimizer,
    params: Params,
    *,
    steps: int = 2,
    key: Key = Key(0),
    all: bool = False,  # noqa: A002  # as the option is called
) -> Report | None:
    """Check an optimizer's adjoint, in float64, and that its functions are pure.

    Compares the adjoint, for random bars of the new params and state, with central differences of
    the update and with autograd of it, as `check_layer` does for a layer. A hyperparameter that
    update and adjoint take by keyword is checked, too, if it is not 0.

    Args:
        optimizer: the optimizer, the library's or your own.
        params: parameters; converted to float64.
        steps: how many steps with random gradients come before the one that is checked.
        key: gradients, bars and directions are drawn from it.
        all: whether to return a report of every derivative, in place of an error at the first.

    Returns:
        The `Report`, with `all=True`; else None.

    Raises:
        GradientError: naming the derivative and the most likely mistake; not with `all=True`.
        LayerError: if an argument has the wrong type, or the optimizer has no adjoint.

    Example:
        >>> from lincoln_fn.optim import Optimizer, sgd
        >>> check_optimizer(sgd(0.1, momentum=0.9), torch.tensor([1.0, -2.0]))
        >>> from lincoln_fn.optim import Adjoints
        >>> plain = sgd(0.1)
        >>> wrong = lambda p, dp, state, p_bar, _: Adjoints(p_bar, 0.1 * p_bar, state, {})
        >>> check_optimizer(Optimizer("mine()", plain.init, plain.update, wrong), torch.ones(2))
        Traceback (most recent call last):
        lincoln_fn.testing.diagnosis.GradientError: mine(): grads_bar has the wrong sign
    """
    check_argument("check_optimizer", "optimizer", Optimizer, optimizer, ("optimizer", "params"))
    check_argument("check_optimizer", "key", Key, key)
    if isinstance(optimizer.adjoint, str):
        raise LayerError(optimizer.name, f"has no adjoint: {optimizer.adjoint}")
    params = doubled(params)
    state = optimizer.init(params)
    for i in range(steps):
        params, state = optimizer.update(params, random_like(params, key.fold_in(i)), state)
    grads = random_like(params, key.fold_in(steps))
    given = _Given(optimizer, state, _constants(optimizer, params, grads, state))
    values = {
        name: torch.as_tensor(value, dtype=torch.float64)
        for name, value in _keywords(optimizer, state).items()
    }
    x = {"params_bar": params, "grads_bar": grads, "state_bar": given.moving(state)}
    as_layer = Layer(optimizer.name, given.forward, given.backward)
    try:
        report = checked(as_layer, values, x, Options(key.fold_in(-1), all=all))
    except GradientError as error:
        raise GradientError(_renamed(str(error))) from None
    findings = tuple(
        attrs.evolve(each, leaf=_renamed(each.leaf), sentence=_renamed(each.sentence))
        for each in report.findings
    )
    return attrs.evolve(report, findings=findings) if all else None


def _renamed(text: str) -> str:
    """Name what the judge takes for a layer's gradients."""
    return text.replace("dx.", "").replace("dparams.", "hyperparameters.")


def _keywords(optimizer: Optimizer, state: OptimizerState) -> Mapping[str, float]:
    """Find the hyperparameters that both functions take by keyword, and that are not 0."""
    given, of_adjoint = (getattr(f, "keywords", {}) for f in (optimizer.update, optimizer.adjoint))
    found = {name: given[name] for name in _HYPERPARAMETERS if given.get(name)}
    found = {name: value for name, value in found.items() if name in of_adjoint}
    if callable(found.get("lr")):
        found["lr"] = found["lr"](state.step)
    return found


def _constants(
    optimizer: Optimizer, params: Params, grads: Params, state: OptimizerState
) -> set[str]:
    """Find the leaves of the state that count, of which the adjoint returns the state's own."""
    assert not isinstance(optimizer.adjoint, str)
    given = tree.map(
        lambda leaf: leaf + 1 + leaf.abs() if leaf.is_floating_point() else leaf, state
    )
    bars = tree.leaves(optimizer.adjoint(params, grads, state, params, given).state)
    return {
        path
        for path, leaf, bar in zip(tree.paths(state), tree.leaves(state), bars, strict=True)
        if not leaf.is_floating_point() or torch.equal(bar, leaf)
    }


@attrs.frozen(eq=False)
class _Given:
    """An optimizer and the state in which it is checked."""

    optimizer: Optimizer
    state: OptimizerState
    constants: set[str]

    def moving(self, state: OptimizerState) -> dict[str, Tensor]:
        """Return the leaves of a state that do not count, by their paths."""
        pairs = zip(tree.paths(state), tree.leaves(state), strict=True)
        return {path: leaf for path, leaf in pairs if path not in self.constants}

    def rebuilt(self, leaves: Mapping[str, Tensor]) -> OptimizerState:
        """Make the state with other leaves."""
        paths = iter(tree.paths(self.state))
        return tree.map(lambda leaf: leaves.get(next(paths), leaf), self.state)

    def bound(
        self, function: Callable[..., Any], values: Mapping[str, Tensor]
    ) -> Callable[..., Any]:
        """Replace the hyperparameters of a function."""  # Any: the update or the adjoint
        if not values:
            return function
        new: dict[str, Any] = dict(values)  # Any: a number, or a schedule
        if callable(getattr(function, "keywords", {}).get("lr")):
            new["lr"] = lambda step: values["lr"]
        return partial(function, **new)

    def forward(self, values: Mapping[str, Tensor], x: Any) -> tuple[Arrays, Arrays]:
        """Compute the new params and state."""  # Any: a dict, as `check_optimizer` makes it
        state = self.rebuilt(x["state_bar"])
        update = self.bound(self.optimizer.update, values)
        params, new_state = update(x["params_bar"], x["grads_bar"], state)
        return (params, self.moving(new_state)), (values, x)

    def backward(self, params: Params, cache: Any, g: Any) -> tuple[Arrays, Params]:
        """Compute the adjoint."""  # Any: as in forward
        values, x = cache
        params_bar, state_bar = g
        state = self.rebuilt(x["state_bar"])
        assert not isinstance(self.optimizer.adjoint, str)
        adjoint = self.bound(self.optimizer.adjoint, values)
        found: Adjoints = adjoint(
            x["params_bar"], x["grads_bar"], state, params_bar, self.rebuilt(state_bar)
        )
        dx = {
            "params_bar": found.params,
            "grads_bar": found.grads,
            "state_bar": self.moving(found.state),
        }
        return dx, {name: found.hyperparameters[name] for name in values}
