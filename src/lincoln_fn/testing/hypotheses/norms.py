"""Normalisations: the mean or the variance is treated as a constant, a factor is missing."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from lincoln_fn.testing.hypotheses.formulas import (
    Axes,
    Formula,
    Instance,
    formula,
    on_other_axes,
    others,
    same,
    without_keepdim,
)
from lincoln_fn.testing.hypotheses.hypothesis import Hypothesis


def _is_normalised(v: Tensor, axes: Axes) -> bool:
    return _is_scaled(v, axes) and bool(v.mean(axes).abs().max() < 1e-6)


def _is_scaled(v: Tensor, axes: Axes) -> bool:
    size = v.square().mean(axes)
    # The mean square, or the sum of squares by one less than their number.
    return bool(((size > 0.5) & (size < 1 + 1e-9)).all())


def _norm(u: Tensor, v: Tensor, axes: Axes) -> Tensor | None:
    """Recognise v = (u - mean) / std, with any small epsilon."""
    centred = u - u.mean(axes, keepdim=True)
    return _scaled(centred, v, axes)


def _rms_norm(u: Tensor, v: Tensor, axes: Axes) -> Tensor | None:
    """Recognise v = u / sqrt(mean u^2), with any small epsilon."""
    return _scaled(u, v, axes)


def _scaled(bracket: Tensor, v: Tensor, axes: Axes) -> Tensor | None:
    if torch.Size(v.shape[axis] for axis in axes).numel() < 2:
        return None
    square = bracket.square().mean(axes, keepdim=True)
    scale = (bracket * v).mean(axes, keepdim=True) / square
    return scale if same(bracket * scale, v) else None


def _norm_right(i: Instance) -> Tensor:
    return i.scale * (i.d - i.mean(i.d) - i.v * _along(i))


def _rms_right(i: Instance) -> Tensor:
    return i.scale * (i.d - i.v * _along(i))


def _along(i: Instance) -> Tensor:
    return i.mean(i.d * i.v)


def _variance_times(k: float, i: Instance) -> Tensor:
    return i.scale * (i.d - i.mean(i.d) - k * i.v * _along(i))


def _correction(i: Instance) -> float:
    n = torch.Size(i.v.shape[axis] for axis in i.axes).numel()
    return n / (n - 1)


def _of_norm(name: str, sentence: str, wrong: Formula) -> Hypothesis:
    return formula(name, sentence, (_is_normalised, _norm), _norm_right, wrong)


def _of_rms(name: str, sentence: str, wrong: Formula) -> Hypothesis:
    return formula(name, sentence, (_is_scaled, _rms_norm), _rms_right, wrong)


def _mean_on_other_axes(n: int, i: Instance) -> Tensor:
    other = i.d.mean(others(i, n), keepdim=True)
    return i.scale * (i.d - other - i.v * _along(i))


def _variance_on_other_axes(n: int, i: Instance) -> Tensor:
    other = (i.d * i.v).mean(others(i, n), keepdim=True)
    return i.scale * (i.d - i.mean(i.d) - i.v * other)


_BOTH = "treats the mean and the variance as constants"
HYPOTHESES = [
    _of_norm("mean and variance constant", _BOTH, lambda i: i.scale * i.d),
    _of_norm("variance constant", "treats the variance as a constant",
             lambda i: i.scale * (i.d - i.mean(i.d))),
    _of_norm("mean constant", "treats the mean as a constant",
             lambda i: i.scale * (i.d - i.v * _along(i))),
    _of_norm("1/N missing", "lacks the factor 1/N of its means",
             lambda i: i.scale * (i.d - i.sum(i.d) - i.v * i.sum(i.d * i.v))),
    _of_norm("1/N missing", "lacks the factor 1/N of the mean of g",
             lambda i: i.scale * (i.d - i.sum(i.d) - i.v * _along(i))),
    _of_norm("1/N missing", "lacks the factor 1/N of the variance's part",
             lambda i: i.scale * (i.d - i.mean(i.d) - i.v * i.sum(i.d * i.v))),
    _of_norm("1/std missing", "lacks the factor 1/std", lambda i: _norm_right(i) / i.scale),
    _of_norm("1/std twice", "has the factor 1/std twice", lambda i: _norm_right(i) * i.scale),
    _of_norm("std for 1/std", "is multiplied by the standard deviation, not divided",
             lambda i: _norm_right(i) / i.scale**2),
    _of_norm("sign", "has the wrong sign before the mean of g",
             lambda i: i.scale * (i.d + i.mean(i.d) - i.v * _along(i))),
    _of_norm("sign", "has the wrong sign before the variance's part",
             lambda i: i.scale * (i.d - i.mean(i.d) + i.v * _along(i))),
    _of_norm("sign", "has the wrong signs before both means",
             lambda i: i.scale * (i.d + i.mean(i.d) + i.v * _along(i))),
    _of_norm("x_hat missing", "lacks the factor x_hat of the variance's part",
             lambda i: i.scale * (i.d - i.mean(i.d) - _along(i))),
    _of_norm("x_hat missing", "lacks the factor x_hat inside the variance's mean",
             lambda i: i.scale * (i.d - i.mean(i.d) - i.v * i.mean(i.d))),
    _of_norm("x for x_hat", "uses x where its formula needs x_hat",
             lambda i: i.scale * (i.d - i.mean(i.d) - i.u * i.mean(i.d * i.u))),
    _of_norm("w missing", "lacks the factor w, the weight",
             lambda i: i.scale * (i.g - i.mean(i.g) - i.v * i.mean(i.g * i.v))),
    _of_norm("w missing", "lacks the factor w, the weight, in its means",
             lambda i: i.scale * (i.d - i.mean(i.g) - i.v * i.mean(i.g * i.v))),
    _of_norm("w missing", "lacks the factor w, the weight, outside of its means",
             lambda i: i.scale * (i.g - i.mean(i.d) - i.v * _along(i))),
    _of_norm("w missing", "lacks the factor w, the weight, in the mean of g",
             lambda i: i.scale * (i.d - i.mean(i.g) - i.v * _along(i))),
    _of_norm("w missing", "lacks the factor w, the weight, in the variance's part",
             lambda i: i.scale * (i.d - i.mean(i.d) - i.v * i.mean(i.g * i.v))),
    _of_norm("w too late", "multiplies by the weight w after the means, where it belongs before",
             lambda i: i.d / i.g * i.scale * (i.g - i.mean(i.g) - i.v * i.mean(i.g * i.v))),
    _of_norm("keepdim", "lacks keepdim=True in its means", without_keepdim(_norm_right)),
    _of_norm("1/std missing", "lacks the factor 1/std outside of its means",
             lambda i: i.d - i.scale * (i.mean(i.d) + i.v * _along(i))),
    _of_norm("N - 1 for N", "divides the variance's part by N - 1, where forward divides by N",
             lambda i: i.scale * (i.d - i.mean(i.d) - i.v * _along(i) * _correction(i))),
    _of_norm("power of 1/std", "has a wrong power of 1/std in the variance's part",
             lambda i: i.scale * (i.d - i.mean(i.d)) - i.v * _along(i)),
    _of_norm("power of 1/std", "has a wrong power of 1/std in the variance's part",
             lambda i: i.scale * (i.d - i.mean(i.d) - i.v * _along(i) * i.scale)),
    *(
        _of_norm("variance's factor", f"has a variance's part {words}",
                 partial(_variance_times, k))
        for k, words in ((2, "twice as large as it should be"),
                         (0.5, "half as large as it should be"))
    ),
    *(
        _of_norm("wrong axes", "averages over the wrong axes in the derivative of the norm",
                 on_other_axes(_norm_right, n))
        for n in range(14)
    ),
    *(
        _of_norm("wrong axes", f"averages {words} over the wrong axes", partial(wrong, n))
        for wrong, words in ((_mean_on_other_axes, "g"),
                             (_variance_on_other_axes, "the variance's part"))
        for n in range(14)
    ),
    _of_rms("mean square constant", "treats the mean square, the variance, as a constant",
            lambda i: i.scale * i.d),
    _of_rms("1/N missing", "lacks the factor 1/N of its mean",
            lambda i: i.scale * (i.d - i.v * i.sum(i.d * i.v))),
    _of_rms("1/rms missing", "lacks the factor 1/rms", lambda i: _rms_right(i) / i.scale),
    _of_rms("power of 1/rms", "has a wrong power of 1/rms in the mean square's part",
            lambda i: i.scale * i.d - i.v * _along(i)),
    _of_rms("sign", "has the wrong sign before the mean square's part",
            lambda i: i.scale * (i.d + i.v * _along(i))),
    _of_rms("that of layer norm", "has the derivative of layer norm: it subtracts the mean of g",
            lambda i: i.scale * (i.d - i.mean(i.d) - i.v * _along(i))),
    _of_rms("x for x_hat", "uses x where its formula needs x_hat",
            lambda i: i.scale * (i.d - i.u * i.mean(i.d * i.u))),
    *(
        _of_rms("wrong axes", "averages over the wrong axes in the derivative of the norm",
                on_other_axes(_rms_right, n))
        for n in range(14)
    ),
]  # fmt: skip
