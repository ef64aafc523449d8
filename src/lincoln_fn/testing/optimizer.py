"""`check_optimizer`: is an optimizer's adjoint the derivative of its update?

The update is checked as a layer's forward, and the adjoint as the layer's backward:

    forward     (hyperparameters, (params, grads, state)) -> (params, state)
    backward    (params_bar, state_bar) -> the bars of all of these
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cached_property, partial
from typing import Any, Final

import attrs
import torch
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import Arrays, Key, Layer, LayerError, Params, check_argument, tree
from lincoln_fn.optim import Adjoints, Optimizer, OptimizerState
from lincoln_fn.testing.diagnosis import Finding, GradientError, Report
from lincoln_fn.testing.run import Options, checked, foremost
from lincoln_fn.testing.sample import doubled, not_dense, random_like

_HYPERPARAMETERS: Final = ("lr", "weight_decay", "momentum")
# What the judge says of a layer, and what that is in an optimizer.
_WORDS: Final = (
    (r"\bx\.(params|grads|state)_bar\b", r"\1"),
    (r"\bchanged g\.", "changed "),
    (r"\bdx\.", ""),
    (r"\bdparams\.", "hyperparameters."),
    (r"\bforward\b", "update"),
    (r"\bbackward\b", "adjoint"),
)


def check_optimizer(
    optimizer: Optimizer,
    params: Params,
    *,
    steps: int = 2,
    key: Key = Key(0),
    all: bool = False,  # noqa: A002  # as the option is called
) -> Report:
    """Check an optimizer's adjoint, in float64, and that its functions are pure.

    Compares the adjoint, for random bars of the new params and state, with central differences of
    the update and with autograd of it, as `check_layer` does for a layer. A hyperparameter that
    update and adjoint take by keyword is checked, too, if it is not 0.

    Args:
        params: a tree that the optimizer takes; converted to float64.
        steps: how many steps with random gradients come before the one that is checked.
        all: whether to report every derivative, in place of an error at the first that is wrong.

    Raises:
        GradientError: naming the derivative and the most likely mistake; not with `all=True`.
        LayerError: if an argument has the wrong type, or the optimizer has no adjoint.

    Example:
        >>> from lincoln_fn.optim import Adjoints, Optimizer, sgd
        >>> check_optimizer(sgd(0.1, momentum=0.9), torch.tensor([1.0, -2.0])).is_right
        True
        >>> plain = sgd(0.1)
        >>> wrong = lambda p, dp, state, p_bar, _: Adjoints(p_bar, 0.1 * p_bar, state, {})
        >>> check_optimizer(Optimizer("mine()", plain.init, plain.update, wrong), torch.ones(2))
        Traceback (most recent call last):
        lincoln_fn.testing.diagnosis.GradientError: mine(): grads_bar has the wrong sign
    """
    check_argument("check_optimizer", "optimizer", Optimizer, optimizer, ("optimizer", "params"))
    check_argument("check_optimizer", "key", Key, key)
    try:
        report = step_of(optimizer, doubled(params), steps, key).judged(key.fold_in(-1))
    except GradientError as error:
        if not all:
            raise
        finding = Finding("", optimizer.name, "adjoint", "wrong", "contract", str(error))
        report = Report(optimizer.name, (finding,))
    if report.mistakes and not all:
        raise GradientError(foremost(report).sentence)
    return report


def step_of(optimizer: Optimizer, params: Params, steps: int, key: Key) -> Step:
    """Take steps with random gradients, and return the next."""
    if isinstance(optimizer.adjoint, str):
        raise LayerError(optimizer.name, f"has no adjoint: {optimizer.adjoint}")
    state = optimizer.init(params)
    if told := not_dense({"state": state}):
        raise LayerError(optimizer.name, told)
    for i in range(steps):
        params, state = _updated(optimizer, {}, params, random_like(params, key.fold_in(i)), state)
    return Step(optimizer, params, random_like(params, key.fold_in(steps)), state)


@attrs.frozen(eq=False, slots=False)
class Step:
    """An optimizer, and what its update is given."""

    optimizer: Optimizer
    params: Params
    grads: Params
    state: OptimizerState

    def as_layer(self) -> tuple[Layer, dict[str, Tensor], dict[str, Arrays]]:
        """Make the layer, with its params, the hyperparameters, and its x."""
        device = next((leaf.device for leaf in tree.leaves(self.params)), None)
        wide = partial(torch.as_tensor, dtype=torch.float64, device=device)
        values = {n: wide(value) for n, value in _keywords(self.optimizer, self.state).items()}
        bars = {"params_bar": self.params, "grads_bar": self.grads}
        x = {**bars, "state_bar": self._moving(self.state)}
        return Layer(self.optimizer.name, self._forward, self._backward), values, x

    def judged(self, key: Key) -> Report:
        """Judge the update as a layer, and tell of it as of an optimizer."""
        report = checked(*self.as_layer(), Options(key, all=True))
        told = tuple(map(self._told_of, report.findings)), tuple(map(self._told, report.remarks))
        return Report(report.name, *told)

    def _told_of(self, finding: Finding) -> Finding:
        leaf, sentence = map(self._told, (finding.leaf, finding.sentence))
        own = self._own.get(finding.leaf.removeprefix("dx.state_bar."))
        is_own = own is not None and not _counts(own) and bool(own.any())
        if is_own and finding.verdict == "wrong":
            sentence = f"{finding.where}: {leaf} is the state itself, not its bar"
            finding = attrs.evolve(finding, name="state for bar")
        return attrs.evolve(finding, leaf=leaf, sentence=sentence)

    def _told(self, text: str) -> str:
        """Name what the judge takes for a layer's."""
        outputs = tree.paths({"params_bar": self.params, "state_bar": self._moving(self.state)})
        forgets = r"\bforgets g\.(\d+), the gradient of output \d+"
        text = re.sub(forgets, lambda at: f"forgets {outputs[int(at[1])]}", text)
        for pattern, words in _WORDS:
            text = re.sub(pattern, words, text)
        return text

    def _forward(self, values: Mapping[str, Tensor], x: Any) -> tuple[Arrays, Arrays]:
        given = x["params_bar"], x["grads_bar"], self._rebuilt(x["state_bar"])
        params, state = _updated(self.optimizer, values, *given)
        return {"params_bar": params, "state_bar": self._moving(state)}, (values, given)

    def _backward(self, params: Params, cache: Any, g: Any) -> tuple[Arrays, Params]:
        values, given = cache
        found = self._adjoints(values, *given, g["params_bar"], self._rebuilt(g["state_bar"]))
        state = self._moving(found.state)
        dx = {"params_bar": found.params, "grads_bar": found.grads, "state_bar": state}
        return dx, {name: found.hyperparameters[name] for name in values}

    def _adjoints(self, values: Mapping[str, Tensor], *arguments: Any) -> Adjoints:
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

    @cached_property
    def _own(self) -> dict[str, Tensor]:
        """The leaves of the state of which the adjoint returns the state's own."""
        others = tree.map(lambda t: t + 1 + t.abs() if t.is_floating_point() else t, self.state)
        try:
            given = self.params, self.grads, self.state, self.params, others
            bars = tree.leaves(self._adjoints({}, *given).state)
        except (GradientError, LayerError):
            raise
        except Exception as error:
            told = f"adjoint raised {type(error).__name__}: {error}"
            raise GradientError(f"{self.optimizer.name}: {told}") from error
        return {
            path: leaf
            for (path, leaf), bar in zip(core.named_leaves(self.state), bars, strict=True)
            if not leaf.is_floating_point() or torch.equal(bar, leaf)
        }

    def _moving(self, state: OptimizerState) -> dict[str, Tensor]:
        """Return the leaves of a state that do not count, by their paths."""
        leaves = core.named_leaves(state)
        return {path: leaf for path, leaf in leaves if path not in self._own or not _counts(leaf)}

    def _rebuilt(self, leaves: Mapping[str, Tensor]) -> OptimizerState:
        paths = iter(tree.paths(self.state))
        return tree.map(lambda leaf: leaves.get(next(paths), leaf), self.state)


def _counts(leaf: Tensor) -> bool:
    return not (leaf.is_floating_point() and leaf.ndim)


def _updated(
    optimizer: Optimizer, values: Mapping[str, Tensor], *arguments: Any
) -> tuple[Params, OptimizerState]:
    result = _bound(optimizer.update, values)(*arguments)  # Any: as the update takes them
    core.check_pair(optimizer.name, "update", result)
    return result[0], result[1]


def _keywords(optimizer: Optimizer, state: OptimizerState) -> Mapping[str, float]:
    """Find the hyperparameters that both functions take by keyword, and that are not 0."""
    given, of_adjoint = map(core.arguments_of, (optimizer.update, optimizer.adjoint))
    found = {name: given[name] for name in _HYPERPARAMETERS if given.get(name)}
    found = {name: value for name, value in found.items() if name in of_adjoint}
    if callable(found.get("lr")):
        found["lr"] = found["lr"](state.step)
    return found


def _bound(function: Callable[..., Any], values: Mapping[str, Tensor]) -> Callable[..., Any]:
    new: dict[str, Any] = dict(values)  # Any: a number, or a schedule
    if "lr" in values and callable(core.arguments_of(function).get("lr")):
        new["lr"] = lambda step: values["lr"]
    return partial(function, **new)
