"""Different optimizers for different parts of the parameters.

Adjoint. Each optimizer's own, for its parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import partial
from typing import Annotated, TypeAlias

import attrs
import optree
import torch

from lincoln_fn.core import NOT_EMPTY, TRAINED, Params, checked, describe, tree, unexpected
from lincoln_fn.optim.leaves import flatten_with_gradients
from lincoln_fn.optim.optimizer import Adjoints, Optimizer, OptimizerState
from lincoln_fn.optim.transforms import adjoint_of

# A pattern of `fnmatch`, such as "0.*", or a function of the path.
Pattern: TypeAlias = str | Callable[[str], bool]
Parts: TypeAlias = tuple[Optimizer, ...]


@attrs.frozen(eq=False)
class Patterns:
    """The patterns, of which the first that a path matches counts."""

    listed: tuple[Pattern, ...]

    def check(self, paths: list[str]) -> None:
        """Check that each pattern fits a parameter; a misspelled one would do nothing."""
        for pattern in self.listed:
            fits = not isinstance(pattern, str) or any(fnmatchcase(path, pattern) for path in paths)
            if paths and not fits:
                known = ", ".join(map(repr, paths[:12])) + (", ..." if paths[12:] else "")
                mend = f"there are {known}; a function of the path may fit none"
                raise unexpected("by_path", "patterns that fit a path", repr(pattern), mend)

    def _owners(self, params: Params) -> list[int]:
        return [self._first_match(path) for path in tree.paths(params)]

    def _first_match(self, path: str) -> int:
        for i, pattern in enumerate(self.listed):
            if fnmatchcase(path, pattern) if isinstance(pattern, str) else pattern(path):
                return i
        known = ", ".join(map(repr, self.listed))
        raise unexpected("by_path", f"a pattern that matches {path!r}", known)

    def shares(self, params: Params, given: Params) -> list[Params]:
        """Make a tree for each optimizer, with None in place of the leaves of the others."""
        leaves, structure = optree.tree_flatten(given, namespace=TRAINED)
        pairs = [*zip(leaves, self._owners(params), strict=True)]
        return [
            structure.unflatten([leaf if owner == i else None for leaf, owner in pairs])
            for i in range(len(self.listed))
        ]

    def merge(self, params: Params, shares: Sequence[Params]) -> Params:
        """Make one tree of the optimizers' trees."""
        leaves, owners = [iter(tree.leaves(share)) for share in shares], iter(self._owners(params))
        return tree.map(lambda p: next(leaves[next(owners)]), params)


def _init(patterns: Patterns, parts: Parts, params: Params) -> OptimizerState:
    patterns.check(tree.paths(params))
    shares = patterns.shares(params, params)
    return tuple(part.init(share) for part, share in zip(parts, shares, strict=True))


def _update(
    patterns: Patterns, parts: Parts, params: Params, grads: Params, state: OptimizerState
) -> tuple[Params, OptimizerState]:
    if type(state) is not tuple or len(state) != len(parts):
        number = "1 state" if len(parts) == 1 else f"{len(parts)} states"
        expected = f"a tuple of {number}"
        raise unexpected("by_path", expected, describe(state), "init(params) makes one")
    flatten_with_gradients("by_path", params, grads)  # which names what does not fit
    shares = (patterns.shares(params, each) for each in (params, grads))
    given = zip(parts, *shares, state, strict=True)
    updated, states = zip(*(part.update(*each) for part, *each in given), strict=True)
    return patterns.merge(params, updated), states


def _adjoint(
    patterns: Patterns, parts: Parts, params: Params, grads: Params, state: OptimizerState,
    params_bar: Params, state_bar: OptimizerState,
) -> Adjoints:  # fmt: skip
    p, dp, p_bar = (patterns.shares(params, each) for each in (params, grads, params_bar))
    given = zip(parts, p, dp, state, p_bar, state_bar, strict=True)
    adjoints = [adjoint_of(part)(*each) for part, *each in given]
    names = sorted({name for each in adjoints for name in each.hyperparameters})
    none = torch.zeros((), dtype=torch.float64)
    return Adjoints(
        patterns.merge(params, [each.params for each in adjoints]),
        patterns.merge(params, [each.grads for each in adjoints]),
        tuple(each.state for each in adjoints),
        {n: torch.stack([each.hyperparameters.get(n, none) for each in adjoints]) for n in names},
    )


@checked
def by_path(optimizers: Annotated[Mapping[Pattern, Optimizer], NOT_EMPTY]) -> Optimizer:
    """Give each parameter to the first optimizer whose pattern its path matches.

    Paths are those of `tree.paths`, such as "2.weight"; in patterns, * matches any characters,
    including dots, and ? matches one.

    Args:
        optimizers: by pattern, or by a function of the path; the first match counts. A function
            may match no path, such as in a stage of a pipeline, whose params are its own.

    Returns:
        The optimizer. Its state is a tuple of the optimizers', with None for others' parameters.

    Raises:
        LayerError: if a parameter matches no pattern, or a pattern no parameter.

    Example:
        >>> optimizer = by_path({"*.bias": lf.optim.sgd(1.0), "*": lf.optim.sgd(0.5)})
        >>> params = ({"bias": torch.tensor(1.0), "weight": torch.tensor(1.0)},)
        >>> optimizer.update(params, params, optimizer.init(params))[0]
        ({'bias': tensor(0.), 'weight': tensor(0.5000)},)
    """
    own = Patterns(tuple(optimizers)), tuple(optimizers.values())
    name = ", ".join(f"{pattern!r}: {part}" for pattern, part in optimizers.items())
    reasons = [part.adjoint for part in own[1] if isinstance(part.adjoint, str)]
    back = reasons[0] if reasons else partial(_adjoint, *own)
    return Optimizer(f"by_path({{{name}}})", partial(_init, *own), partial(_update, *own), back)
