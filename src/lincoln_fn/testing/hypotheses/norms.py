"""The gradients of norms, as formulas."""

from __future__ import annotations

import torch
from torch import Tensor

from lincoln_fn.testing.hypotheses.algebra import Axes, Factor, Formula, Term, Use, evaluate
from lincoln_fn.testing.hypotheses.uses import are_same, find_uses


def _is_normalised(v: Tensor, axes: Axes) -> bool:
    return _is_scaled(v, axes) and bool(v.mean(axes).abs().max() < 1e-6)


def _is_rms_scaled(v: Tensor, axes: Axes) -> bool:
    # Of a single group, the mean square may be near 1 by chance: any c u is u / rms then.
    is_alone = v.numel() == _count(v, axes)
    is_near = bool(((v.square().mean(axes) - 1).abs() < 1e-3).all())
    return _is_scaled(v, axes) and (is_near or not is_alone)


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


G = Factor(
    "", lambda use: use.d, (("w missing", "lacks the factor w, the weight", lambda use: use.g),)
)
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
    (
        ("eps missing", "leaves eps out of 1/std", lambda use: _divide_by_std(use)),
        (
            "eps subtracted",
            "subtracts eps in 1/std, where it is added",
            lambda use: (2 * _divide_by_std(use) ** -2 - use.scale**-2).rsqrt(),
        ),
    ),
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
    uses=find_uses(_is_rms_scaled, _recognise_rms_norm),
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
