"""What each of numpy's functions computes on exact numbers, by the name that numpy has for it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final, TypeAlias

import numpy as np

from lincoln_fn.testing.exact.numbers import Numbers, exp, log
from lincoln_fn.testing.exact.rules import QUESTIONS, RELATIONS, RULES, asked, in_order, matmul
from lincoln_fn.testing.exact.table import MissingError

# Any: the rules have the arguments of numpy's functions.
Rule: TypeAlias = Callable[..., Any]


def _spread(rule: Rule) -> Rule:
    return lambda z, axis=None, ddof=0, keepdims=False: rule(z, axis, ddof, keepdims)


def _norm(z: Numbers, order: Any = None, axis: Any = None, keepdims: bool = False) -> Numbers:
    is_of_matrices = np.ndim(axis) > 0 or (axis is None and len(z.shape) > 1)
    if order not in (None, "fro") and is_of_matrices:
        raise MissingError("a norm of matrices has no rule for exact numbers")
    made: Numbers = RULES["norm"](z, 2 if order == "fro" else order, axis, keepdims)
    return made


def _clip(z: Numbers, a_min: Any = None, a_max: Any = None, **named: Any) -> Any:
    return RULES["clamp"](z, named.get("min", a_min), named.get("max", a_max))


def _choice(function: Rule, default: int | None = None) -> Rule:
    """Make the rule of a function that chooses places by the order of numbers."""

    def chosen(z: Numbers, axis: int | None = default, **how: Any) -> Any:
        in_order(z, axis)
        return function(z.shadow, axis, **how)

    return chosen


_SAME: Final = """
    add remainder reciprocal square exp exp2 expm1 log log1p log2 log10 sqrt tanh sin cos tan sign
    maximum minimum floor ceil trunc erf sum mean prod amax amin cumsum cumprod
"""
FUNCTIONS: Final[dict[str, Rule]] = {
    **{name: RULES[name] for name in _SAME.split()},
    "subtract": RULES["sub"], "multiply": RULES["mul"], "negative": RULES["neg"],
    "positive": lambda z: z, "divide": RULES["div"], "true_divide": RULES["div"],
    "floor_divide": partial(RULES["div"], rounding_mode="floor"), "matmul": matmul,
    "power": RULES["pow"], "float_power": RULES["pow"], "expit": RULES["sigmoid"],
    "absolute": RULES["abs"], "fabs": RULES["abs"], "fmax": RULES["maximum"],
    "fmin": RULES["minimum"], "clip": _clip, "rint": RULES["round"],
    "round": RULES["round"], "around": RULES["round"],
    "sinh": lambda z: (exp(z) - exp(-z)) / 2, "cosh": lambda z: (exp(z) + exp(-z)) / 2,
    "logaddexp": lambda a, b: log(exp(a) + exp(b)),
    "max": RULES["amax"], "min": RULES["amin"],
    "var": _spread(RULES["var"]), "std": _spread(RULES["std"]),
    "trace": lambda z: z.map(np.diagonal).sum((0,)), "norm": _norm, "sort": in_order,
    "argmax": _choice(np.argmax), "argmin": _choice(np.argmin), "argsort": _choice(np.argsort, -1),
    **{relation.__name__: QUESTIONS[name] for name, relation in RELATIONS.items()},
    **{each.__name__: asked(each) for each in (
        np.isnan, np.isfinite, np.isinf, np.signbit, np.logical_not, np.logical_and, np.logical_or,
        np.any, np.all, np.nonzero, np.flatnonzero, np.argwhere, np.count_nonzero, np.allclose,
        np.isclose, np.array_equal, np.shape, np.ndim, np.size,
    )},
}  # fmt: skip
