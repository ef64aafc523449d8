"""What torch's operations and numpy's functions compute on exact numbers, by their names there.

What has a derivative of its own stands first; all other functions are written by it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Final, TypeAlias

import numpy as np

from lincoln_fn.testing.exact.field import TIE, Array, Bilinear, MissingError, P, meaning
from lincoln_fn.testing.exact.numbers import Axes, Number, Numbers, axes_of, constant, flattened


def compare(relation: Callable[[Array, Array], Array], a: Numbers, other: Number) -> Array:
    """Compare numbers by their shadows; two that differ there alone are noted as a tie."""
    b = a.like(other)
    is_tie = (a.shadow == b.shadow) & (a.value != b.value) & np.isfinite(a.shadow)
    if is_tie.any():
        a.field.notes.add(TIE)
    return relation(a.shadow, b.shadow)


def power(z: Numbers, exponent: Number) -> Numbers:
    """Compute z^c, of a number or of each its own."""
    if isinstance(exponent, Numbers) and not exponent.shape and not exponent.tangent.any():
        exponent = float(exponent.shadow)
    if not isinstance(exponent, Numbers):
        return _rational(z, float(exponent))
    made = exp(exponent * log(z))
    made.shadow = z.shadow**exponent.shadow
    return made


def _rational(z: Numbers, exponent: float) -> Numbers:
    """Compute z^(p / q): a root if q is even, then the unique one of the odd rest."""
    field, shadow = z.field, z.shadow**exponent
    over, under, *irrational = meaning(exponent)
    if not over:
        return z * 0 + 1
    if irrational != [1, 0] or under > P:
        return exp(log(z) * exponent)
    while under % 2 == 0:
        z, under = sqrt(z), under // 2
    if under > 1 and over % 2 == 0:  # z^2 would not say whether z has a root
        z, over = sqrt(z), 2 * over
    value, slope = (field.rational(z.value, over - less, under) for less in (0, under))
    slope = field.reduce(slope * field.number(over / under))
    return Numbers(field, shadow, value, field.reduce(slope * z.tangent))


def exp(z: Numbers) -> Numbers:
    """Compute e^z; that of -inf is 0."""
    field = z.field
    value = field.exp(z.turn, z.factor, z.value)
    is_zero = z.shadow == -math.inf
    value = np.where(is_zero, np.zeros((), field.dtype), value)
    slope = field.reduce(value * np.where(is_zero, np.zeros((), field.dtype), z.tangent))
    return Numbers(field, np.exp(z.shadow), value, slope)


def log(z: Numbers) -> Numbers:
    """Compute log z, whose partner is z itself."""
    field, value = z.field, z.field.log(z.value)
    tangent = field.reduce(z.tangent * field.inverse(z.value))
    zeros = np.zeros(np.shape(value), np.int64)
    return Numbers(field, np.log(z.shadow), value, tangent, zeros, z.value)


def sqrt(z: Numbers) -> Numbers:
    """Compute the square root."""
    value, slope = z.field.root(z.value)
    return Numbers(z.field, np.sqrt(z.shadow), value, z.field.reduce(slope * z.tangent))


def erf(z: Numbers) -> Numbers:
    """Compute erf z, with the derivative 2 / sqrt(pi) e^(-z^2)."""
    slope = exp(-(z * z)) * (2 / math.sqrt(math.pi))
    shadow = np.vectorize(math.erf, otypes=[float])(z.shadow)
    return Numbers(z.field, shadow, z.field.erf(z.value), z.field.reduce(slope.value * z.tangent))


def rotation(z: Numbers) -> tuple[Numbers, Numbers]:
    """Compute cos z and sin z."""
    field, (c, s) = z.field, z.field.rotation(z.value)
    along = field.reduce(s * z.tangent)
    cosine = Numbers(field, np.cos(z.shadow), c, field.reduce(-along))
    return cosine, Numbers(field, np.sin(z.shadow), s, field.reduce(c * z.tangent))


def bilinear(of: Bilinear, a: Numbers, b: Numbers) -> Numbers:
    """Multiply matrices, or convolve."""
    field = a.field
    parts = (a.value, b.tangent), (a.tangent, b.value), (a.value, b.value)
    one, other, value = (field.bilinear(of, *part) for part in parts)
    return Numbers(field, of(a.shadow, b.shadow), value, field.reduce(one + other))


matmul = partial(bilinear, np.matmul)


def _abs(z: Numbers) -> Numbers:
    return z.where(compare(np.greater_equal, z, 0.0), -z)


def _folded(z: Numbers, axis: int | None, of: Callable[[Numbers, Numbers], Numbers]) -> Numbers:
    if axis is None or not z.shape:
        z, axis = z.map(np.ravel), 0
    parts = [z.map(partial(np.take, indices=i, axis=axis)) for i in range(z.shape[axis])]
    for i in range(1, len(parts)):
        parts[i] = of(parts[i - 1], parts[i])
    columns = zip(*(part.columns for part in parts), strict=True)
    return Numbers(z.field, *(np.stack(each, axis) for each in columns))


def _add(a: Numbers, b: Number, alpha: float = 1) -> Numbers:
    made: Numbers = a + (b if alpha == 1 else b * alpha)
    return made


def _div(a: Numbers, b: Number, rounding_mode: str | None = None) -> Numbers:
    ratio: Numbers = a / b
    if rounding_mode is None:
        return ratio
    return _rounded(np.floor if rounding_mode == "floor" else np.trunc)(ratio)


def _rounded(function: Callable[[Array], Array]) -> Callable[..., Numbers]:
    def rounded(z: Numbers, **_: Any) -> Numbers:  # Any: decimals, which are 0
        compare(np.equal, z, constant(z.field, np.round(z.shadow * 2) / 2))
        return constant(z.field, function(z.shadow))

    return rounded


def _clamp(z: Numbers, min: Number = None, max: Number = None) -> Numbers:  # noqa: A002
    for bound, beyond in ((min, np.less), (max, np.greater)):
        if bound is not None:
            z = z.where(~compare(beyond, z, bound), bound)
    return z


def _maximum(a: Numbers, b: Numbers) -> Numbers:
    return a.where(compare(np.greater_equal, a, b) | np.isnan(a.shadow), b)


def _mean(z: Numbers, axis: Axes = None, keepdims: bool = False, **_: Any) -> Numbers:
    return z.sum(axis, keepdims) / _count(z, axis)


def _count(z: Numbers, axis: Axes) -> int:
    return math.prod(z.shape[each] for each in axes_of(axis, len(z.shape)))


def _var_mean(
    z: Numbers, dim: Axes = None, correction: float | None = None, keepdim: bool = False
) -> tuple[Numbers, Numbers]:
    n = _count(z, dim) - (1 if correction is None else correction)
    centred = z - _mean(z, dim, True)
    return (centred * centred).sum(dim, keepdim) / max(n, 0), _mean(z, dim, keepdim)


def _norm(z: Numbers, order: Number = 2, axis: Axes = None, keepdims: bool = False) -> Numbers:
    if order in (None, 2):
        return sqrt((z * z).sum(axis, keepdims))
    if math.isinf(order):
        return (_amax if order > 0 else _amin)(_abs(z), axis, keepdims)
    return power(power(_abs(z), order).sum(axis, keepdims), 1 / order)


def _prod(z: Numbers, axis: int | None = None, keepdims: bool = False, **_: Any) -> Numbers:
    if axis is None or not z.shape:
        z, axis = z.map(np.ravel), 0
    if not z.shape[axis]:
        return z.sum(axis, keepdims) + 1
    last = _folded(z, axis, Numbers.__mul__).map(lambda each: np.take(each, [-1], axis))
    return last if keepdims else last.sum(axis)


def _top(z: Numbers, axis: Axes, note: bool = False) -> Numbers:
    """Return the largest along axes, which stay."""
    axes = axes_of(axis, len(z.shape))
    rows = z.map(lambda each: flattened(each, axes))
    place = np.argmax(rows.shadow, -1)[..., None]
    best = rows.map(lambda each: np.take_along_axis(each, place, -1))
    if note:
        compare(np.equal, rows, best)
    shape = [1 if i in axes else n for i, n in enumerate(z.shape)]
    return best.map(lambda each: each.reshape(shape))


def _amax(z: Numbers, axis: Axes = None, keepdims: bool = False) -> Numbers:
    top = _top(z, axis, note=True)
    return top if keepdims else top.sum(axis)


def _amin(z: Numbers, axis: Axes = None, keepdims: bool = False) -> Numbers:
    return -_amax(-z, axis, keepdims)


def _logsumexp(z: Numbers, axis: Axes, keepdims: bool = False) -> Numbers:
    # A float needs it that the largest is subtracted.
    top = _top(z, axis)
    top = top.where(np.isfinite(top.shadow), 0.0)
    total = log(exp(z - top).sum(axis, True)) + top
    return total if keepdims else total.sum(axis)


def in_order(z: Numbers, axis: int | None = -1) -> Numbers:
    """Sort numbers along an axis, or all; two that are equal in their shadows alone are a tie."""
    if axis is None:
        z, axis = z.map(np.ravel), 0
    order = np.argsort(z.shadow, axis)
    z = z.map(lambda each: np.take_along_axis(each, order, axis))
    below = z.map(lambda each: np.moveaxis(each, axis, -1)[..., :-1])
    above = z.map(lambda each: np.moveaxis(each, axis, -1)[..., 1:])
    compare(np.greater, above, below)
    return z


def _log_softmax(z: Numbers, dim: int, half_to_float: bool = False) -> Numbers:
    return z - _logsumexp(z, dim, True)


def _softplus(z: Numbers, beta: Number = 1, threshold: Number = 20) -> Numbers:
    scaled = z * beta
    return z.where(scaled.shadow > threshold, log(exp(scaled) + 1) / beta)


def _sign(z: Numbers, **_: Any) -> Numbers:
    compare(np.equal, z, 0.0)
    return constant(z.field, np.sign(z.shadow))


def _addmm(c: Numbers, a: Numbers, b: Numbers, beta: float = 1, alpha: float = 1) -> Numbers:
    return _add(c if beta == 1 else c * beta, matmul(a, b), alpha)


def asked(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make the rule of a question that the shadows answer."""

    def answered(*given: Any, **how: Any) -> Any:  # Any: as the question has them
        shadows = (each.shadow if isinstance(each, Numbers) else each for each in given)
        return function(*shadows, **how)

    return answered


# What is compared, by the names that torch and numpy have for it.
RELATIONS: Final = {
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater,
    "ge": np.greater_equal,
}  # fmt: skip
QUESTIONS: Final[dict[str, Callable[..., Any]]] = {
    **{name: partial(compare, relation) for name, relation in RELATIONS.items()},
    **{each.__name__: asked(each) for each in (
        np.isnan, np.isinf, np.isfinite, np.isposinf, np.isneginf, np.signbit, np.logical_not,
    )},
    "nonzero": asked(np.argwhere),
}  # fmt: skip
# Any: the rules have the arguments of torch's operations, and numpy's names of axes.
RULES: Final[dict[str, Callable[..., Any]]] = {
    "add": _add, "sub": lambda a, b, alpha=1: _add(a, b, -alpha),
    "rsub": lambda a, b, alpha=1: _add(b, a, -alpha),
    "mul": lambda a, b: a * b, "div": _div, "neg": Numbers.__neg__,
    "pow": lambda a, b: power(a if isinstance(a, Numbers) else b.like(a), b),
    "reciprocal": Numbers.inverse, "square": lambda z: z * z,
    "remainder": lambda a, b: a - _rounded(np.floor)(a / b) * b,
    "exp": exp, "exp2": lambda z: exp(z * math.log(2)), "expm1": lambda z: exp(z) - 1,
    "log": log, "log1p": lambda z: log(z + 1), "log2": lambda z: log(z) / math.log(2),
    "log10": lambda z: log(z) / math.log(10), "sqrt": sqrt, "rsqrt": lambda z: 1 / sqrt(z),
    "sigmoid": lambda z: 1 / (exp(-z) + 1), "tanh": lambda z: 1 - 2 / (exp(z * 2) + 1),
    "erf": erf, "erfc": lambda z: 1 - erf(z),
    "cos": lambda z: rotation(z)[0], "sin": lambda z: rotation(z)[1],
    "tan": lambda z: rotation(z)[1] / rotation(z)[0],
    "abs": _abs, "sign": _sign, "sgn": _sign, "clamp": _clamp,
    "relu": lambda z: z.where(~compare(np.less_equal, z, 0.0), 0.0),
    "clamp_min": _clamp, "clamp_max": lambda z, top: _clamp(z, None, top),
    "maximum": _maximum, "minimum": lambda a, b: -_maximum(-a, -b),
    "floor": _rounded(np.floor), "ceil": _rounded(np.ceil), "round": _rounded(np.round),
    "trunc": _rounded(np.trunc),
    "sum": lambda z, axis=None, keepdims=False, **_: z.sum(axis, keepdims),
    "mean": _mean, "prod": _prod, "var_mean": _var_mean,
    "var": lambda *z, **how: _var_mean(*z, **how)[0],
    "std": lambda *z, **how: sqrt(_var_mean(*z, **how)[0]),
    "linalg_vector_norm": _norm, "norm": _norm, "amax": _amax, "amin": _amin,
    "aminmax": lambda z, dim=None, keepdim=False: (_amin(z, dim, keepdim), _amax(z, dim, keepdim)),
    "cumsum": lambda z, axis=None, **_: _folded(z, axis, Numbers.__add__),
    "cumprod": lambda z, axis=None, **_: _folded(z, axis, Numbers.__mul__),
    "logsumexp": _logsumexp, "_log_softmax": _log_softmax,
    "_softmax": lambda z, *how: exp(_log_softmax(z, *how)), "softplus": _softplus,
    "mm": matmul, "bmm": matmul, "mv": matmul, "addmm": _addmm, "baddbmm": _addmm, "addmv": _addmm,
    **dict.fromkeys(("dot", "vdot"), lambda a, b: (a * b).sum(0)),
}  # fmt: skip


# Any: the rules have the arguments of numpy's functions.
Rule: TypeAlias = Callable[..., Any]


def _spread(rule: Rule) -> Rule:
    return lambda z, axis=None, ddof=0, keepdims=False: rule(z, axis, ddof, keepdims)


def _numpy_norm(z: Numbers, order: Any = None, axis: Any = None, keepdims: bool = False) -> Numbers:
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
    "trace": lambda z: z.map(np.diagonal).sum((0,)), "norm": _numpy_norm, "sort": in_order,
    "argmax": _choice(np.argmax), "argmin": _choice(np.argmin), "argsort": _choice(np.argsort, -1),
    **{relation.__name__: QUESTIONS[name] for name, relation in RELATIONS.items()},
    **{each.__name__: asked(each) for each in (
        np.isnan, np.isfinite, np.isinf, np.signbit, np.logical_not, np.logical_and, np.logical_or,
        np.any, np.all, np.nonzero, np.flatnonzero, np.argwhere, np.count_nonzero, np.allclose,
        np.isclose, np.array_equal, np.shape, np.ndim, np.size,
    )},
}  # fmt: skip
