"""The gradients that are known as formulas: norms, softmax, log-softmax and cross-entropy."""

from __future__ import annotations

import torch
from torch import Tensor

from lincoln_fn.testing.hypotheses.algebra import Axes, Factor, Formula, Term, Use, evaluate
from lincoln_fn.testing.hypotheses.hinge import HINGE
from lincoln_fn.testing.hypotheses.uses import are_same, find_uses, find_uses_of_gradient


def _is_normalised(v: Tensor, axes: Axes) -> bool:
    return _is_scaled(v, axes) and bool(v.mean(axes).abs().max() < 1e-6)


def _is_scaled(v: Tensor, axes: Axes) -> bool:
    size, n = v.square().mean(axes), _count(v, axes)
    # The mean square, or the sum of squares by one less than their number; with any small epsilon.
    sizes = size, size * n / max(1, n - 1)
    return any(bool(((s > 0.9) & (s < 1 + 1e-9)).all()) for s in sizes)


def _count(v: Tensor, axes: Axes) -> int:
    return torch.Size(v.shape[axis] for axis in axes).numel()


def _recognise_norm(u: Tensor, v: Tensor, axes: Axes) -> Tensor | None:
    """Recognise v = (u - mean) / std, with any small epsilon."""
    return _recognise_rms_norm(u - u.mean(axes, keepdim=True), v, axes)


def _recognise_rms_norm(u: Tensor, v: Tensor, axes: Axes) -> Tensor | None:
    """Recognise v = u / sqrt(mean u^2), with any small epsilon."""
    if _count(v, axes) < 2:
        return None
    scale = (u * v).mean(axes, keepdim=True) / u.square().mean(axes, keepdim=True)
    # What is normalised already does not change.
    is_same = bool(((scale - 1).abs() < 1e-3).all())
    return scale if not is_same and are_same(u * scale, v) else None


def _sums_to_one(v: Tensor, axes: Axes) -> bool:
    return len(axes) == 1 and bool((v.sum(axes) - 1).abs().max() < 1e-9)


def _recognise_softmax(u: Tensor, v: Tensor, axes: Axes) -> Tensor | None:
    return v if v.shape[axes[0]] > 1 and are_same(torch.softmax(u, axes[0]), v) else None


def _recognise_log_softmax(u: Tensor, v: Tensor, axes: Axes) -> Tensor | None:
    return v if v.shape[axes[0]] > 1 and are_same(torch.log_softmax(u, axes[0]), v) else None


def _recognise_cross_entropy(z: Tensor, right: Tensor) -> tuple[Tensor, Tensor, Tensor] | None:
    """Recognise a gradient s (p - t), with p = softmax(z) and t one-hot."""
    if z.ndim != 2 or z.shape != right.shape or z.shape[1] < 3:
        return None
    p = torch.softmax(z, 1)
    # Off the label the ratio is s, and the label is where it differs.
    s = (right / p).median(1, keepdim=True).values
    t = p - right / torch.where(s == 0, 1, s)
    is_hot = (t - t.round()).abs().max() < 1e-6 and bool((t.round().sum(1) == 1).all())
    return (p, t.round(), s) if is_hot and bool((s != 0).all()) else None


G = Factor(
    "",
    lambda use: use.d,
    (("w missing", "lacks the factor w, the weight", lambda use: use.g),),
)
PLAIN_G = Factor("", lambda use: use.d)
X_HAT = Factor(
    "x_hat",
    lambda use: use.v,
    (
        ("x for x_hat", "uses x where its formula needs x_hat", lambda use: use.u),
        ("eps missing", "leaves eps out of x_hat", lambda use: _centre(use) * _divide_by_std(use)),
    ),
)


def _centre(use: Use) -> Tensor:
    return use.u - use.u.mean(use.axes, keepdim=True)


def _divide_by_std(use: Use) -> Tensor:
    """Return 1/std without an eps."""
    return _centre(use).square().mean(use.axes, keepdim=True).rsqrt()


def _multiply_late(use: Use) -> Tensor:
    ones = Use(use.u, use.v, use.g, use.axes, use.scale, use.g, use.gradients)
    return use.d / use.g * evaluate(NORM.terms, ones)


RSTD = Factor(
    "1/std",
    lambda use: use.scale,
    (("eps missing", "leaves eps out of 1/std", lambda use: _divide_by_std(use)),),
)
_MEAN, _VARIANCE = "the mean of g", "the variance's part"
NORM = Formula(
    terms=(
        Term("the term of g", (RSTD, G)),
        Term(_MEAN, (RSTD,), (G,), "mean", -1),
        Term(_VARIANCE, (RSTD, X_HAT), (G, X_HAT), "mean", -1),
    ),
    uses=find_uses(_is_normalised, _recognise_norm),
    words={
        f"misses {_MEAN} and {_VARIANCE}":
            ("mean and variance constant", "treats the mean and the variance as constants"),
        f"misses {_VARIANCE}": ("variance constant", "treats the variance as a constant"),
        f"misses {_MEAN}": ("mean constant", "treats the mean as a constant"),
        "divides by the factor 1/std":
            ("std for 1/std", "is multiplied by the standard deviation, not divided"),
        f"lacks the factor 1/std, in {_VARIANCE}":
            ("power of 1/std", f"has a wrong power of 1/std in {_VARIANCE}"),
        f"has the factor 1/std twice, in {_VARIANCE}":
            ("power of 1/std", f"has a wrong power of 1/std in {_VARIANCE}"),
        f"has {_VARIANCE} twice as large as it should be":
            ("variance's factor", f"has {_VARIANCE} twice as large as it should be"),
        f"has {_VARIANCE} half as large as it should be":
            ("variance's factor", f"has {_VARIANCE} half as large as it should be"),
    },
    further=(
        ("w too late", "multiplies by the weight w after the means, where it belongs before",
         _multiply_late),
    ),
)  # fmt: skip
RRMS = Factor("1/rms", lambda use: use.scale)
_SQUARE = "the mean square's part"
RMS_NORM = Formula(
    terms=(
        Term("the term of g", (RRMS, G)),
        Term(_SQUARE, (RRMS, X_HAT), (G, X_HAT), "mean", -1),
    ),
    uses=find_uses(_is_scaled, _recognise_rms_norm),
    words={
        f"misses {_SQUARE}":
            ("mean square constant", "treats the mean square, the variance, as a constant"),
        f"lacks the factor 1/rms, in {_SQUARE}":
            ("power of 1/rms", f"has a wrong power of 1/rms in {_SQUARE}"),
        f"has the factor 1/rms twice, in {_SQUARE}":
            ("power of 1/rms", f"has a wrong power of 1/rms in {_SQUARE}"),
    },
    further=(
        ("that of layer norm", "has the derivative of layer norm: it subtracts the mean of g",
         lambda use: evaluate(NORM.terms, use)),
    ),
)  # fmt: skip
Y = Factor(
    "y",
    lambda use: use.v,
    (("at x for y", "takes softmax's derivative at x, where its formula needs y",
      lambda use: use.u),),
)  # fmt: skip
_SUM, _OF_SOFTMAX = "the sum over the classes", "in softmax's derivative"
_ADDED = "adds the sum over the classes, where it should be subtracted"
SOFTMAX = Formula(
    terms=(
        Term("y g", (Y, PLAIN_G)),
        Term(_SUM, (Y,), (PLAIN_G, Y), "sum", -1),
    ),
    uses=find_uses(_sums_to_one, _recognise_softmax),
    words={
        f"misses {_SUM}":
            ("softmax's sum", f"misses {_SUM} of softmax: each x changes every y"),
        f"does not sum in {_SUM}":
            ("softmax's diagonal",
             f"has only the diagonal of softmax's Jacobian: {_SUM} is missing"),
        "lacks the factor y, in its sums":
            ("softmax's weights", f"sums g without the weights y {_OF_SOFTMAX}"),
        "misses y g":
            ("softmax's first term", "has only the sum of softmax's derivative: y g is missing"),
        "lacks the factor y, in y g":
            ("softmax's factor", f"lacks the factor y before g {_OF_SOFTMAX}"),
        f"averages in {_SUM}, where it should sum":
            ("softmax's mean", "averages over the classes, where softmax's derivative sums"),
        "lacks the factor y, outside of its sums":
            ("softmax's factor", "lacks the factor y before the bracket of softmax's derivative"),
        f"has the wrong sign before {_SUM}": ("sum's sign", _ADDED),
        f"sums over the wrong axes in {_SUM}":
            ("softmax's axis", f"sums over the wrong axis {_OF_SOFTMAX}"),
        "has the factor y twice, in y g":
            ("softmax's factor", f"has the factor y twice before g {_OF_SOFTMAX}"),
    },
    further=(
        ("softmax twice", "applies softmax's derivative twice",
         lambda use: _pass_softmax(use, _pass_softmax(use, use.d))),
        ("derivative missing", "lacks the derivative of softmax", lambda use: use.d),
    ),
)  # fmt: skip


def _pass_softmax(use: Use, d: Tensor) -> Tensor:
    return use.v * (d - (d * use.v).sum(use.axes, keepdim=True))


P = Factor(
    "softmax(x)",
    lambda use: torch.exp(use.v),
    (("log y for y", "uses log-probabilities in place of probabilities", lambda use: use.v),
     ("x for y", "uses e^x, not normalised, for the probabilities of log-softmax",
      lambda use: torch.exp(use.u))),
)  # fmt: skip
_WEIGHTS = "lacks the factor softmax(x) of the sum in log-softmax's derivative"
_THAT = ("that of softmax", "has the derivative of softmax, but forward is log-softmax")
LOG_SOFTMAX = Formula(
    terms=(
        Term("g", (PLAIN_G,)),
        Term(_SUM, (P,), (PLAIN_G,), "sum", -1),
    ),
    uses=find_uses(lambda v, axes: _sums_to_one(torch.exp(v), axes), _recognise_log_softmax),
    words={
        f"misses {_SUM}": ("log-softmax's sum", f"misses {_SUM} of log-softmax"),
        f"does not sum in {_SUM}":
            ("log-softmax's diagonal", "does not sum g over the classes of log-softmax"),
        "lacks the factor softmax(x)": ("log-softmax's weights", _WEIGHTS),
        f"has the wrong sign before {_SUM}": ("sum's sign", _ADDED),
        f"sums over the wrong axes in {_SUM}":
            ("softmax's axis", "sums over the wrong axis in log-softmax's derivative"),
    },
    further=(
        ("log-softmax's mean", _WEIGHTS, lambda use: use.d - use.d.mean(use.axes, keepdim=True)),
        (*_THAT, lambda use: _pass_softmax(use, use.d)),
        (*_THAT, lambda use: use.v.exp() * (use.d - (use.d * use.v.exp()).sum(use.axes, True))),
    ),
)  # fmt: skip
# A use of cross-entropy has p for v, and t for d.
SIZE = Factor("", lambda use: use.scale)
PROBABILITIES = Factor(
    "p",
    lambda use: use.v,
    (("scores for probabilities", "uses the scores z for the probabilities p", lambda use: use.u),
     ("log p for p", "uses log-probabilities for the probabilities p", lambda use: use.v.log()),
     ("e^z for p", "uses e^z, not normalised, for the probabilities p",
      lambda use: use.u.exp()),
     ("e^z for p", "uses e^z, not normalised, for the probabilities p",
      lambda use: (use.u - use.u.amax(1, keepdim=True)).exp())),
)  # fmt: skip
LABEL = Factor("", lambda use: use.d)


def _subtract_label(use: Use) -> Tensor:
    return use.scale * (use.v - use.d)


CROSS_ENTROPY = Formula(
    terms=(
        Term("the probabilities", (SIZE, PROBABILITIES)),
        Term("the label", (SIZE, LABEL), sign=-1),
    ),
    uses=find_uses_of_gradient(_recognise_cross_entropy),
    words={
        "misses the label":
            ("one-hot missing", "is p: the path through the label, minus 1 at it, is missing"),
        "misses the probabilities":
            ("p missing", "has only the label's term: the sum over the classes, p, is missing"),
        "has the wrong sign before the label":
            ("label's sign", "adds 1 at the label, where it should be subtracted"),
    },
    further=(
        ("label overwritten", "has -1 at the label, where it should be p - 1",
         lambda use: use.scale * (use.v * (1 - use.d) - use.d)),
        ("gradient by p", "is the gradient by p: the derivative of softmax is missing",
         lambda use: -use.scale * use.d / use.v),
        ("softmax twice", "applies the derivative of softmax twice",
         lambda use: _pass_softmax(use, _subtract_label(use))),
        ("softmax twice", "has the diagonal of softmax's derivative as a further factor",
         lambda use: _subtract_label(use) * use.v * (1 - use.v)),
        ("label twice", "adds p at the label twice",
         lambda use: use.scale * (use.v * (1 + use.d) - use.d)),
        ("label only", "has p - 1 at the label, and zero elsewhere",
         lambda use: _subtract_label(use) * use.d),
    ),
)  # fmt: skip
FORMULAS = (CROSS_ENTROPY, HINGE, SOFTMAX, LOG_SOFTMAX, NORM, RMS_NORM)
HYPOTHESES = [hypothesis for formula in FORMULAS for hypothesis in formula.hypotheses()]
