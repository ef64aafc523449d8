"""Softmax and log-softmax: the sum over the classes is missing or wrong."""

from __future__ import annotations

import torch
from torch import Tensor

from lincoln_fn.testing.hypotheses.formulas import (
    Axes,
    Formula,
    Instance,
    formula,
    on_other_axes,
    same,
    without_keepdim,
)
from lincoln_fn.testing.hypotheses.hypothesis import Hypothesis


def _sums_to_one(v: Tensor, axes: Axes) -> bool:
    return len(axes) == 1 and bool((v.sum(axes) - 1).abs().max() < 1e-9)


def _log_sums_to_one(v: Tensor, axes: Axes) -> bool:
    return _sums_to_one(torch.exp(v), axes)


def _softmax(u: Tensor, v: Tensor, axes: Axes) -> Tensor | None:
    is_it = len(axes) == 1 and v.shape[axes[0]] > 1 and same(torch.softmax(u, axes[0]), v)
    return v if is_it else None


def _log_softmax(u: Tensor, v: Tensor, axes: Axes) -> Tensor | None:
    is_it = len(axes) == 1 and v.shape[axes[0]] > 1 and same(torch.log_softmax(u, axes[0]), v)
    return v if is_it else None


def _softmax_right(i: Instance) -> Tensor:
    return i.v * (i.d - i.sum(i.d * i.v))


def _log_softmax_right(i: Instance) -> Tensor:
    return i.d - torch.exp(i.v) * i.sum(i.d)


def _of_softmax(name: str, sentence: str, wrong: Formula) -> Hypothesis:
    return formula(name, sentence, (_sums_to_one, _softmax), _softmax_right, wrong)


def _of_log_softmax(name: str, sentence: str, wrong: Formula) -> Hypothesis:
    return formula(name, sentence, (_log_sums_to_one, _log_softmax), _log_softmax_right, wrong)


_SUM = "misses the sum over the classes of softmax: each x changes every y"
_KEEPDIM = "lacks keepdim=True: its sum over the classes is subtracted along another axis"
_ADDED = "adds the sum over the classes, where it should be subtracted"
HYPOTHESES = [
    _of_softmax("softmax's sum", _SUM, lambda i: i.d * i.v),
    _of_softmax("softmax's diagonal",
                "has only the diagonal of softmax's Jacobian: the sum over the classes is missing",
                lambda i: i.d * i.v * (1 - i.v)),
    _of_softmax("softmax's weights", "sums g without the weights y in softmax's derivative",
                lambda i: i.v * (i.d - i.sum(i.d))),
    _of_softmax("softmax's first term", "has only the sum of softmax's derivative: y g is missing",
                lambda i: -i.v * i.sum(i.d * i.v)),
    _of_softmax("softmax's factor", "lacks the factor y before g in softmax's derivative",
                lambda i: i.d - i.v * i.sum(i.d * i.v)),
    _of_softmax("softmax's mean", "averages over the classes, where softmax's derivative sums",
                lambda i: i.v * (i.d - i.mean(i.d * i.v))),
    _of_softmax("at x for y", "takes softmax's derivative at x, where its formula needs y",
                lambda i: i.u * (i.d - i.sum(i.d * i.u))),
    _of_softmax("softmax's factor", "lacks the factor y before the bracket of softmax's derivative",
                lambda i: i.d - i.sum(i.d * i.v)),
    _of_softmax("sum's sign", _ADDED, lambda i: i.v * (i.d + i.sum(i.d * i.v))),
    *(
        _of_softmax("softmax's axis", "sums over the wrong axis in softmax's derivative",
                    on_other_axes(_softmax_right, n))
        for n in range(6)
    ),
    _of_softmax("keepdim", _KEEPDIM, without_keepdim(_softmax_right)),
    _of_softmax("softmax's factor", "has the factor y twice before g in softmax's derivative",
                lambda i: i.v * (i.v * i.d - i.sum(i.d * i.v))),
    _of_softmax("softmax twice", "applies softmax's derivative twice",
                lambda i: i.v * (_softmax_right(i) - i.sum(_softmax_right(i) * i.v))),
    _of_softmax("derivative missing", "lacks the derivative of softmax", lambda i: i.d),
    _of_log_softmax("log-softmax's sum", "misses the sum over the classes of log-softmax",
                    lambda i: i.d),
    _of_log_softmax("log-softmax's diagonal", "does not sum g over the classes of log-softmax",
                    lambda i: i.d - torch.exp(i.v) * i.d),
    _of_log_softmax("log-softmax's weights",
                    "lacks the factor softmax(x) of the sum in log-softmax's derivative",
                    lambda i: i.d - i.sum(i.d)),
    _of_log_softmax("log-softmax's mean",
                    "lacks the factor softmax(x) of the sum in log-softmax's derivative",
                    lambda i: i.d - i.mean(i.d)),
    _of_log_softmax("log y for y", "uses log-probabilities in place of probabilities",
                    lambda i: i.d - i.v * i.sum(i.d)),
    _of_log_softmax("x for y", "uses e^x, not normalised, for the probabilities of log-softmax",
                    lambda i: i.d - torch.exp(i.u) * i.sum(i.d)),
    _of_log_softmax("sum's sign", _ADDED, lambda i: i.d + torch.exp(i.v) * i.sum(i.d)),
    _of_log_softmax("keepdim", _KEEPDIM, without_keepdim(_log_softmax_right)),
    _of_log_softmax("that of softmax", "has the derivative of softmax, but forward is log-softmax",
                    lambda i: torch.exp(i.v) * (i.d - i.sum(i.d * torch.exp(i.v)))),
    _of_log_softmax("that of softmax", "has the derivative of softmax, but forward is log-softmax",
                    lambda i: i.v * (i.d - i.sum(i.d * i.v))),
    *(
        _of_log_softmax("softmax's axis", "sums over the wrong axis in log-softmax's derivative",
                        on_other_axes(_log_softmax_right, n))
        for n in range(6)
    ),
]  # fmt: skip
