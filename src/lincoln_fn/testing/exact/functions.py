"""What each of numpy's functions computes on exact numbers, by the name that numpy has for it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final, TypeAlias

import numpy as np

from lincoln_fn.testing.exact.numbers import Numbers, compare, exp, log
from lincoln_fn.testing.exact.rules import RULES, in_order, matmul
from lincoln_fn.testing.exact.table import MissingError

# Any: the rules have the arguments of numpy's functions.
Rule: TypeAlias = Callable[..., Any]


def _along(rule: Rule) -> Rule:
    return lambda z, axis=None, keepdims=False: rule(z, axis, keepdims)


def _onwards(rule: Rule) -> Rule:
    return lambda z, axis=None: rule(z.map(np.ravel), 0) if axis is None else rule(z, axis)


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


def _question(function: Rule) -> Rule:
    """Make the rule of a function that the shadows answer."""

    def asked(*given: Any, **how: Any) -> Any:
        shadows = (each.shadow if isinstance(each, Numbers) else each for each in given)
        return function(*shadows, **how)

    return asked


_SAME: Final = """
    add remainder reciprocal square exp exp2 expm1 log log1p log2 log10 sqrt tanh sin cos tan sign
    maximum minimum floor ceil trunc erf
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
    **{name: _along(RULES[name]) for name in ("sum", "mean", "prod", "amax", "amin")},
    "max": _along(RULES["amax"]), "min": _along(RULES["amin"]),
    "var": _spread(RULES["var"]), "std": _spread(RULES["std"]),
    "cumsum": _onwards(RULES["cumsum"]), "cumprod": _onwards(RULES["cumprod"]),
    "trace": lambda z: z.map(np.diagonal).sum((0,)), "norm": _norm, "sort": in_order,
    "argmax": _choice(np.argmax), "argmin": _choice(np.argmin), "argsort": _choice(np.argsort, -1),
    **{each.__name__: partial(compare, each) for each in (
        np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal,
    )},
    **{each.__name__: _question(each) for each in (
        np.isnan, np.isfinite, np.isinf, np.signbit, np.logical_and, np.logical_or, np.logical_not,
        np.any, np.all, np.nonzero, np.flatnonzero, np.argwhere, np.count_nonzero, np.allclose,
        np.isclose, np.array_equal, np.shape, np.ndim, np.size,
    )},
}  # fmt: skip
