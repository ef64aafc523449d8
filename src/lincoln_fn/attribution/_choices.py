"""The choices of a composite: pairs of a kind of layers and a rule."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeAlias

from lincoln_fn.attribution.kinds import Kind, belongs
from lincoln_fn.attribution.rules import Rule
from lincoln_fn.core import Layer, LayerError, describe, wrong_kind
from lincoln_fn.rules.internal import no_backward

Choice: TypeAlias = tuple[Kind, Rule]


def fitting(layer: Layer, choices: Iterable[Choice]) -> Rule | None:
    """Return the rule of the first choice whose kind a layer belongs to."""
    return next((rule for kind, rule in choices if belongs(layer, kind)), None)


def has_relevance(layer: Layer) -> bool:
    """Return whether it is a single layer, and not the feedback of a rule."""
    return layer.composition is None and layer.backward is not no_backward


def check_composite(
    choices: Iterable[object], first: Iterable[object], by_path: Mapping[str, object]
) -> None:
    """Check the arguments of `composite`: pairs of a kind and a rule, and rules by path."""
    for name, pairs in (("choices", choices), ("first", first)):
        for i, pair in enumerate(pairs):
            match pair:
                case (frozenset(), Rule()):
                    continue
            problem = f"expected {name}[{i}] to be a pair of a kind and a rule, got {_shown(pair)}"
            raise LayerError("composite", f"{problem}; write (kinds.DENSE, rules.epsilon())")
    for path, rule in by_path.items():
        if not isinstance(rule, Rule):
            raise wrong_kind("composite", f"by_path[{path!r}]", rule, "Rule")


def _shown(choice: object) -> str:
    if isinstance(choice, tuple):
        return f"({', '.join(map(_shown, choice))})"
    return "a kind" if isinstance(choice, frozenset) else describe(choice)
