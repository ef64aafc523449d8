"""Composites: which layer gets which rule, by its kind, by its position, or by its path.

The composites here have zennit's names, rules and defaults. Beside the rules for dense layers and
convolutions, by which they differ, they have the rules of `base` for all other layers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeAlias

import attrs
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.attribution import kinds, rules
from lincoln_fn.attribution.kinds import CONVOLUTION, DENSE, LINEAR, Kind, belongs
from lincoln_fn.attribution.rules import Rule
from lincoln_fn.core import Layer, NonNegative, checked, kind_of
from lincoln_fn.rules.internal import no_backward
from lincoln_fn.walk.internal import paths, unknown_path

Choice: TypeAlias = tuple[Kind, Rule]


def base(stabilizer: NonNegative = 1e-6) -> tuple[Choice, ...]:
    """List the choices for all layers but dense layers and convolutions.

    log_softmax, logsumexp, variance, divide, bilinear, cosine_similarities, graph_attention,
    weight_norm, spectral_norm and layers of your own that declare no kind have no rule; give them
    one by their path.

    Example:
        >>> [rule for _, rule in base()]
        [pass_(), gradient(), norm(), split(), signal(), attention(), recurrent(), nothing()]
    """
    return (
        (kinds.ACTIVATION | kinds.DROPOUT | kinds.NORM, rules.pass_()),
        (kinds.MOVING | kinds.MAX_POOL, rules.gradient()),
        (kinds.AVG_POOL | kinds.ADDITION | kinds.SOFTMAX, rules.norm(stabilizer)),
        (kinds.PRODUCT, rules.split(stabilizer)),
        (kinds.GATED, rules.signal(stabilizer)),
        (kinds.ATTENTION, rules.attention(stabilizer)),
        (kinds.RECURRENT, rules.recurrent(stabilizer)),
        (kinds.EMBEDDING, rules.nothing()),
    )


@attrs.frozen(eq=False)
class Composite:
    """Which layer gets which rule; `composite` makes it of the same arguments."""

    choices: tuple[Choice, ...]
    first: tuple[Choice, ...] = ()
    by_path: Mapping[str, Rule] = attrs.field(factory=dict)

    def rules_of(self, net: Layer) -> dict[str, Rule]:
        """Choose a rule for every single layer of a network, by its path.

        Raises:
            LayerError: if a layer has no rule, or net has no single layer at one of the paths.

        Example:
            >>> epsilon_plus().rules_of(lf.serial(lf.conv2d(4, 3), lf.relu(), lf.dense(2)))
            {'0': z_plus(), '1': pass_(), '2': epsilon(1e-06)}
        """
        singles = {
            path: layer
            for path, layer in paths(net)
            if layer.composition is None and layer.backward is not no_backward  # a rule's feedback
        }
        for path in self.by_path:
            if path not in singles:
                raise unknown_path("lrp", path, singles)
        chosen: dict[str, Rule] = {}
        first = self.first
        for path, layer in singles.items():
            special = _fitting(layer, first)
            first = () if special else first
            chosen[path] = self.by_path.get(path) or special or self.rule_of(layer, path)
        return chosen

    def rule_of(self, layer: Layer, path: str = "") -> Rule:
        """Choose a rule for a layer by its kind.

        Example:
            >>> epsilon_plus().rule_of(lf.add())
            norm()
        """
        rule = _fitting(layer, self.choices)
        if rule is None:
            mend = f"give it one by composite(by_path={{{path!r}: rule}})"
            if kind_of(layer) == "log_softmax":
                mend += ", or explain the scores before it: leave the layer out"
            where = " ".join(filter(None, ("lrp:", path, layer.name)))
            raise core.LayerError(where, f"the composite has no rule; {mend}")
        return rule


def composite(
    *choices: Choice,
    first: Iterable[Choice] = (),
    by_path: Mapping[str, Rule] | None = None,
) -> Composite:
    """Make a composite; layers that no choice fits have the rules of `base`, or `epsilon`.

    Args:
        *choices: pairs of a kind, as in `lf.attribution.kinds`, and a rule. The first that fits a
            layer counts.
        first: such pairs for the first layer that one of them fits, in the order of `parts`.
        by_path: rules for single layers by their path, which count before the others.

    Example:
        >>> net = lf.serial(lf.dense(3), lf.layer_norm(), lf.dense(2))
        >>> made = composite((kinds.NORM, rules.constant_std()), by_path={"0": rules.w_square()})
        >>> made.rules_of(net)
        {'0': w_square(), '1': constant_std(), '2': epsilon(1e-06)}
    """
    first, by_path = tuple(first), dict(by_path or {})
    for name, pairs in (("choices", choices), ("first", first)):
        for i, pair in enumerate(pairs):
            is_pair = isinstance(pair, tuple) and [*map(type, pair)] == [frozenset, Rule]
            wanted = f"{name}[{i}] to be a pair of a kind and a rule"
            core.require(is_pair, "composite", wanted, pair, "write (kinds.DENSE, rules.epsilon())")
    core.check_argument("composite", "by_path", Mapping[str, Rule], by_path)
    return Composite((*choices, *base(), (LINEAR, rules.epsilon())), first, by_path)


@checked
def epsilon_plus(epsilon: NonNegative = 1e-6, stabilizer: NonNegative = 1e-6) -> Composite:
    """Make a composite: z_plus for convolutions, epsilon for dense layers.

    Example:
        >>> epsilon_plus().choices[0][1]
        z_plus()
    """
    return _two(rules.z_plus(stabilizer), epsilon, stabilizer)


@checked
def epsilon_plus_flat(epsilon: NonNegative = 1e-6, stabilizer: NonNegative = 1e-6) -> Composite:
    """Make a composite like `epsilon_plus`, with flat for the first dense layer or convolution.

    Its arguments are those of `epsilon_plus`.

    Example:
        >>> epsilon_plus_flat().first[0][1]
        flat()
    """
    return _two(rules.z_plus(stabilizer), epsilon, stabilizer, (LINEAR, rules.flat(stabilizer)))


@checked
def epsilon_alpha2_beta1(epsilon: NonNegative = 1e-6, stabilizer: NonNegative = 1e-6) -> Composite:
    """Make a composite: alpha_beta(2, 1) for convolutions, epsilon for dense layers.

    Its arguments are those of `epsilon_plus`.

    Example:
        >>> epsilon_alpha2_beta1().choices[0][1]
        alpha_beta(2.0, 1.0)
    """
    return _two(rules.alpha_beta(2.0, 1.0, stabilizer), epsilon, stabilizer)


@checked
def epsilon_alpha2_beta1_flat(
    epsilon: NonNegative = 1e-6, stabilizer: NonNegative = 1e-6
) -> Composite:
    """Make a composite like `epsilon_alpha2_beta1`, with flat for the first such layer.

    Its arguments are those of `epsilon_plus`.

    Example:
        >>> epsilon_alpha2_beta1_flat().first[0][1]
        flat()
    """
    flat = rules.flat(stabilizer)
    return _two(rules.alpha_beta(2.0, 1.0, stabilizer), epsilon, stabilizer, (LINEAR, flat))


@checked
def epsilon_gamma_box(
    low: float | Tensor,
    high: float | Tensor,
    epsilon: NonNegative = 1e-6,
    gamma: NonNegative = 0.25,
    stabilizer: NonNegative = 1e-6,
) -> Composite:
    """Make a composite: z_box for the first convolution, then gamma, and epsilon for dense layers.

    Args:
        low: the smallest value that the input can have, as `z_box` takes it.
        high: the largest.

    Example:
        >>> epsilon_gamma_box(-1.0, 1.0).first[0][1]
        z_box(-1.0, 1.0)
    """
    box = rules.z_box(low, high, stabilizer)
    return _two(rules.gamma(gamma, stabilizer), epsilon, stabilizer, (CONVOLUTION, box))


def _two(for_convolutions: Rule, epsilon: float, stabilizer: float, *first: Choice) -> Composite:
    own = (CONVOLUTION, for_convolutions), (DENSE, rules.epsilon(epsilon))
    return Composite((*own, *base(stabilizer)), first)


def _fitting(layer: Layer, choices: Iterable[Choice]) -> Rule | None:
    return next((rule for kind, rule in choices if belongs(layer, kind)), None)
