"""Different optimizers for different parts of the parameters.

Adjoint. Each optimizer's own, for its parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from functools import partial
from typing import Annotated, TypeAlias

import optree
import torch

from lincoln_fn.core import NOT_EMPTY, TRAINED, LayerError, Params, checked, describe, tree
from lincoln_fn.optim.leaves import flatten_with_gradients
from lincoln_fn.optim.optimizer import Adjoint, Adjoints, Optimizer, OptimizerState

# A pattern of `fnmatch`, such as "0.*", or a function of the path.
Pattern: TypeAlias = str | Callable[[str], bool]


def _init(
    patterns: tuple[Pattern, ...], parts: tuple[Optimizer, ...], params: Params
) -> OptimizerState:
    """Make the state of each optimizer for its parameters."""
    _check_patterns(tree.paths(params), patterns)
    shares = _shares(patterns, params, params)
    return tuple(part.init(share) for part, share in zip(parts, shares, strict=True))


def _update(
    patterns: tuple[Pattern, ...],
    parts: tuple[Optimizer, ...],
    params: Params,
    grads: Params,
    state: OptimizerState,
) -> tuple[Params, OptimizerState]:
    """Update each optimizer's parameters, and merge the results."""
    if type(state) is not tuple or len(state) != len(parts):
        number = "1 state" if len(parts) == 1 else f"{len(parts)} states"
        problem = f"expected a tuple of {number}, got {describe(state)}; init(params) makes one"
        raise LayerError("by_path", problem)
    flatten_with_gradients("by_path", params, grads)  # which names what does not fit
    shares = (_shares(patterns, params, each) for each in (params, grads))
    updated = [
        part.update(*share, kept) for part, kept, *share in zip(parts, state, *shares, strict=True)
    ]
    return _merged(patterns, params, [new for new, _ in updated]), tuple(
        kept for _, kept in updated
    )


def _adjoint(
    patterns: tuple[Pattern, ...], adjoints: tuple[Adjoint, ...], params: Params, grads: Params,
    state: OptimizerState, params_bar: Params, state_bar: OptimizerState,
) -> Adjoints:  # fmt: skip
    """Undo each optimizer's update, and merge the results."""
    shares = (_shares(patterns, params, each) for each in (params, grads, params_bar))
    parts = [
        adjoint(p, dp, kept, p_bar, kept_bar)
        for adjoint, kept, kept_bar, p, dp, p_bar in zip(
            adjoints, state, state_bar, *shares, strict=True
        )
    ]
    names = sorted({name for each in parts for name in each.hyperparameters})
    none = torch.zeros((), dtype=torch.float64)
    return Adjoints(
        _merged(patterns, params, [each.params for each in parts]),
        _merged(patterns, params, [each.grads for each in parts]),
        tuple(each.state for each in parts),
        {n: torch.stack([each.hyperparameters.get(n, none) for each in parts]) for n in names},
    )


def _check_patterns(paths: list[str], patterns: tuple[Pattern, ...]) -> None:
    """Check that each pattern fits a parameter; a misspelled one would do nothing."""
    for pattern in patterns:
        fits = not isinstance(pattern, str) or any(fnmatchcase(path, pattern) for path in paths)
        if paths and not fits:
            listed = ", ".join(map(repr, paths[:12])) + (", ..." if paths[12:] else "")
            mend = f"there are {listed}; a function of the path may fit none"
            raise LayerError(
                "by_path", f"expected patterns that fit a path, got {pattern!r}; {mend}"
            )


def _first_match(path: str, patterns: tuple[Pattern, ...]) -> int:
    for i, pattern in enumerate(patterns):
        if fnmatchcase(path, pattern) if isinstance(pattern, str) else pattern(path):
            return i
    known = ", ".join(map(repr, patterns))
    raise LayerError("by_path", f"expected a pattern that matches {path!r}, got {known}")


def _shares(patterns: tuple[Pattern, ...], params: Params, given: Params) -> list[Params]:
    """Make a tree for each optimizer, with None in place of the leaves of the others."""
    owners = [_first_match(path, patterns) for path in tree.paths(params)]
    leaves, structure = optree.tree_flatten(given, namespace=TRAINED)
    pairs = [*zip(leaves, owners, strict=True)]
    return [
        structure.unflatten([leaf if owner == i else None for leaf, owner in pairs])
        for i in range(len(patterns))
    ]


def _merged(patterns: tuple[Pattern, ...], params: Params, shares: list[Params]) -> Params:
    """Make one tree of the optimizers' trees."""
    leaves = [iter(tree.leaves(share)) for share in shares]
    merged = iter([next(leaves[_first_match(path, patterns)]) for path in tree.paths(params)])
    return tree.map(lambda p: next(merged), params)


@checked
def by_path(optimizers: Annotated[Mapping[Pattern, Optimizer], NOT_EMPTY]) -> Optimizer:
    """Give each parameter to the first optimizer whose pattern its path matches.

    Paths are those of `tree.paths`, such as "2.weight"; in patterns, * matches any characters,
    including dots, and ? matches one.

    Args:
        optimizers: by pattern, or by a function of the path; the first match counts. A function
            may match no path, such as in a stage of a pipeline, whose params are its own.

    Returns:
        The optimizer. Its state is a tuple of the optimizers' states, with None for each parameter
        of another optimizer.

    Raises:
        ValueError: if there is no optimizer.
        LayerError: if a parameter matches no pattern, or a pattern no parameter; and as the
            optimizers do.

    Example:
        >>> from lincoln_fn.optim import sgd
        >>> optimizer = by_path({"*.bias": sgd(1.0), "*": sgd(0.5)})
        >>> params = ({"bias": torch.tensor(0.0), "weight": torch.tensor(0.0)},)
        >>> grads = ({"bias": torch.tensor(1.0), "weight": torch.tensor(1.0)},)
        >>> optimizer.update(params, grads, optimizer.init(params))[0]
        ({'bias': tensor(-1.), 'weight': tensor(-0.5000)},)
    """
    patterns, parts = tuple(optimizers), tuple(optimizers.values())
    pairs = ", ".join(f"{pattern!r}: {part}" for pattern, part in optimizers.items())
    adjoints = tuple(part.adjoint for part in parts if not isinstance(part.adjoint, str))
    reasons = [part.adjoint for part in parts if isinstance(part.adjoint, str)]
    return Optimizer(
        f"by_path({{{pairs}}})",
        partial(_init, patterns, parts),
        partial(_update, patterns, parts),
        reasons[0] if reasons else partial(_adjoint, patterns, adjoints),
    )
