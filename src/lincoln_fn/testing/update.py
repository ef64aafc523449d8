"""An optimizer's update as a layer's forward, and its adjoint as the layer's backward.

forward     (hyperparameters, (params, grads, state)) -> (params, state)
backward    (params_bar, state_bar) -> the bars of all of these
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import attrs
import torch
from torch import Tensor

from lincoln_fn.core import (
    Arrays,
    Key,
    Layer,
    LayerError,
    Params,
    arguments_of,
    check_pair,
    tree,
)
from lincoln_fn.optim import Adjoints, Optimizer, OptimizerState
from lincoln_fn.testing.diagnosis import GradientError
from lincoln_fn.testing.sample import not_a_tensor, random_like

_HYPERPARAMETERS: Final = ("lr", "weight_decay", "momentum")
# What the judge says of a layer, and what that is in an optimizer.
_WORDS: Final = (
    (r"\bx\.(params|grads|state)_bar\b", r"\1"),
    (r"\bchanged g\.0\b", "changed params_bar"),
    (r"\bchanged g\.1\b", "changed state_bar"),
    (r"\bdx\.", ""),
    (r"\bdparams\.", "hyperparameters."),
    (r"\bforward\b", "update"),
    (r"\bbackward\b", "adjoint"),
)


def at_a_step(
    optimizer: Optimizer, params: Params, steps: int, key: Key
) -> tuple[Params, Params, OptimizerState]:
    """Take steps with random gradients, and return the params, the gradients and the state."""
    if isinstance(optimizer.adjoint, str):
        raise LayerError(optimizer.name, f"has no adjoint: {optimizer.adjoint}")
    state = optimizer.init(params)
    if told := not_a_tensor({"state": state}):
        raise LayerError(optimizer.name, told)
    for i in range(steps):
        grads = random_like(params, key.fold_in(i))
        params, state = updated(optimizer, {}, params, grads, state)
    return params, random_like(params, key.fold_in(steps)), state


def update_as_layer(
    update: Update, params: Params, grads: Params
) -> tuple[Layer, dict[str, Tensor], dict[str, Arrays]]:
    """Make a layer of an update, with its params, the hyperparameters, and its x."""
    device = next((leaf.device for leaf in tree.leaves(params)), None)
    values = {
        name: torch.as_tensor(value, dtype=torch.float64, device=device)
        for name, value in keywords(update.optimizer, update.state).items()
    }
    x = {"params_bar": params, "grads_bar": grads, "state_bar": update.moving(update.state)}
    return Layer(update.optimizer.name, update.forward, update.backward), values, x


def updated(
    optimizer: Optimizer, values: Mapping[str, Tensor], *arguments: Any
) -> tuple[Params, OptimizerState]:
    """Take a step with some hyperparameters, and check that it returns a pair."""
    result = _bound(optimizer.update, values)(*arguments)  # Any: as the update takes them
    check_pair(optimizer.name, "update", result)
    return result[0], result[1]


def keywords(optimizer: Optimizer, state: OptimizerState) -> Mapping[str, float]:
    """Find the hyperparameters that both functions take by keyword, and that are not 0."""
    given, of_adjoint = map(arguments_of, (optimizer.update, optimizer.adjoint))
    found = {name: given[name] for name in _HYPERPARAMETERS if given.get(name)}
    found = {name: value for name, value in found.items() if name in of_adjoint}
    if callable(found.get("lr")):
        found["lr"] = found["lr"](state.step)
    return found


@attrs.frozen(eq=False)
class Update:
    """An optimizer and the state in which it is checked."""

    optimizer: Optimizer
    state: OptimizerState
    # The leaves of the state that count, of which the adjoint returns the state's own.
    constants: frozenset[str] = frozenset()
    # The other leaves of which it does so, by mistake.
    unchanged: frozenset[str] = frozenset()

    def with_constants(self, params: Params, grads: Params) -> Update:
        """Find the leaves of the state of which the adjoint returns the state's own."""
        given = tree.map(
            lambda leaf: leaf + 1 + leaf.abs() if leaf.is_floating_point() else leaf, self.state
        )
        try:
            found = self.adjoints({}, params, grads, self.state, params, given)
        except (GradientError, LayerError):
            raise
        except Exception as error:
            told = f"adjoint raised {type(error).__name__}: {error}"
            raise GradientError(f"{self.optimizer.name}: {told}") from error
        leaves = tree.leaves(self.state), tree.leaves(found.state)
        same = {
            path: leaf
            for path, leaf, bar in zip(tree.paths(self.state), *leaves, strict=True)
            if not leaf.is_floating_point() or torch.equal(bar, leaf)
        }
        counts = {p for p, leaf in same.items() if not (leaf.is_floating_point() and leaf.ndim)}
        moved = {path for path, leaf in same.items() if path not in counts and bool(leaf.any())}
        return attrs.evolve(self, constants=frozenset(counts), unchanged=frozenset(moved))

    def moving(self, state: OptimizerState) -> dict[str, Tensor]:
        """Return the leaves of a state that do not count, by their paths."""
        pairs = zip(tree.paths(state), tree.leaves(state), strict=True)
        return {path: leaf for path, leaf in pairs if path not in self.constants}

    def adjoints(self, values: Mapping[str, Tensor], *arguments: Any) -> Adjoints:
        """Call the adjoint, and check what it returns."""  # Any: as the adjoint takes them
        name, adjoint = self.optimizer.name, self.optimizer.adjoint
        assert not isinstance(adjoint, str)
        found = _bound(adjoint, values)(*arguments)
        if not isinstance(found, Adjoints):
            got = type(found).__name__
            raise GradientError(f"{name}: expected adjoint to return Adjoints, got a {got}")
        expected, given = (tree.paths(each) for each in (self.state, found.state))
        if given != expected:
            wanted, got = (", ".join(paths) or "nothing" for paths in (expected, given))
            raise GradientError(f"{name}: expected a bar of the state of {wanted}; got {got}")
        if lacking := next((key for key in values if key not in found.hyperparameters), None):
            raise GradientError(f'{name}: hyperparameters lacks "{lacking}"')
        return found

    def forward(self, values: Mapping[str, Tensor], x: Any) -> tuple[Arrays, Arrays]:
        """Compute the new params and state."""  # Any: a dict, as `check_optimizer` makes it
        given = x["params_bar"], x["grads_bar"], self._rebuilt(x["state_bar"])
        params, new_state = updated(self.optimizer, values, *given)
        return (params, self.moving(new_state)), (values, given)

    def backward(self, params: Params, cache: Any, g: Any) -> tuple[Arrays, Params]:
        """Compute the adjoint."""  # Any: as in forward
        (values, given), (params_bar, state_bar) = cache, g
        found = self.adjoints(values, *given, params_bar, self._rebuilt(state_bar))
        state = self.moving(found.state)
        dx = {"params_bar": found.params, "grads_bar": found.grads, "state_bar": state}
        return dx, {name: found.hyperparameters[name] for name in values}

    def told(self, text: str, params: Params) -> str:
        """Name what the judge takes for a layer's."""
        outputs = tree.paths({"params_bar": params, "state_bar": self.moving(self.state)})
        forgets = r"\bforgets g\.(\d+), the gradient of output \d+"
        text = re.sub(forgets, lambda at: f"forgets {outputs[int(at[1])]}", text)
        for pattern, words in _WORDS:
            text = re.sub(pattern, words, text)
        return text

    def _rebuilt(self, leaves: Mapping[str, Tensor]) -> OptimizerState:
        paths = iter(tree.paths(self.state))
        return tree.map(lambda leaf: leaves.get(next(paths), leaf), self.state)


def _bound(function: Callable[..., Any], values: Mapping[str, Tensor]) -> Callable[..., Any]:
    """Replace the hyperparameters of a function."""  # Any: the update or the adjoint
    if not values:
        return function
    new: dict[str, Any] = dict(values)  # Any: a number, or a schedule
    if callable(arguments_of(function).get("lr")):
        new["lr"] = lambda step: values["lr"]
    return partial(function, **new)
