"""An optimizer's update as a layer, whose backward is the adjoint."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import attrs
import torch
from torch import Tensor

from lincoln_fn.core import Arrays, LayerError, Params, arguments_of, check_pair, tree
from lincoln_fn.optim import Adjoints, Optimizer, OptimizerState
from lincoln_fn.testing.diagnosis import GradientError

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


def updated(
    optimizer: Optimizer, params: Params, grads: Params, state: OptimizerState
) -> tuple[Params, OptimizerState]:
    """Take a step, and check that it returns a pair."""
    return _pair_of(optimizer, optimizer.update(params, grads, state))


def _pair_of(optimizer: Optimizer, result: Any) -> tuple[Params, OptimizerState]:  # Any: a user's
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
        leaves = zip(tree.leaves(self.state), tree.leaves(found.state), strict=True)
        same = {
            path: leaf
            for path, (leaf, bar) in zip(tree.paths(self.state), leaves, strict=True)
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
        found = self._bound(adjoint, values)(*arguments)
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
        update = self._bound(self.optimizer.update, values)
        result = update(x["params_bar"], x["grads_bar"], self._rebuilt(x["state_bar"]))
        params, new_state = _pair_of(self.optimizer, result)
        return (params, self.moving(new_state)), (values, x)

    def backward(self, params: Params, cache: Any, g: Any) -> tuple[Arrays, Params]:
        """Compute the adjoint."""  # Any: as in forward
        values, x = cache
        params_bar, state_bar = g
        given = x["params_bar"], x["grads_bar"], self._rebuilt(x["state_bar"])
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
        """Make the state with other leaves."""
        paths = iter(tree.paths(self.state))
        return tree.map(lambda leaf: leaves.get(next(paths), leaf), self.state)

    def _bound(
        self, function: Callable[..., Any], values: Mapping[str, Tensor]
    ) -> Callable[..., Any]:
        """Replace the hyperparameters of a function."""  # Any: the update or the adjoint
        if not values:
            return function
        new: dict[str, Any] = dict(values)  # Any: a number, or a schedule
        if callable(arguments_of(function).get("lr")):
            new["lr"] = lambda step: values["lr"]
        return partial(function, **new)
