"""The gradients of softmax, cross-entropy, the hinge loss, and all that are known as formulas."""

from __future__ import annotations

import torch
from torch import Tensor

from lincoln_fn.testing.hypotheses.algebra import Axes, Factor, Formula, Term, Use
from lincoln_fn.testing.hypotheses.norms import NORM, RMS_NORM
from lincoln_fn.testing.hypotheses.uses import are_same, find_uses, find_uses_of_gradient


def _recognise_hinge(z: Tensor, right: Tensor) -> tuple[Tensor, Tensor, Tensor] | None:
    """Recognise a gradient s (mask - count t), with t one-hot and count the sum of the mask."""
    if z.ndim != 2 or z.shape != right.shape or z.shape[1] < 3:
        return None
    size = right.sum(1).abs().max()
    counted = right[right.abs() > 1e-12].abs()  # behind a norm the gradient is rounding alone
    s = counted.min() if counted.numel() else right.new_ones(())
    # In each row the label alone has the other sign.
    s = s if bool(((right < -s / 2).sum(1) <= 1).all()) else -s
    scaled = right / s
    # Where no class is in the margin, the label has the largest score.
    is_zero = (right == 0).all(1)
    label = torch.where(is_zero, z.argmax(1), scaled.argmin(1))
    t = torch.zeros_like(z).scatter(1, label.unsqueeze(1), 1.0)
    mask = scaled * (1 - t)
    is_mask = bool((((mask - 1).abs() < 1e-9) | (mask.abs() < 1e-9)).all())
    if not is_mask or bool(size > 1e-9 * right.abs().max()) or not bool(mask.any()):
        return None
    return mask.round(), t, s


# A use of the hinge loss has the mask of the margins for v, without the label, and the label for d.
SIZE = Factor("", lambda use: use.scale)
LABEL = Factor("", lambda use: use.d)
MASK = Factor("mask", lambda use: use.v)
COUNT = Factor("count", lambda use: use.v.sum(1, keepdim=True))


def _margins(use: Use) -> Tensor:
    """Return how much each score is above what the label's needs, at the label as well."""
    return use.u - (use.u * use.d).sum(1, keepdim=True) + 1


HINGE = Formula(
    terms=(
        Term("the classes in the margin", (SIZE, MASK)),
        Term("the label", (SIZE, LABEL, COUNT), sign=-1),
    ),
    uses=find_uses_of_gradient(_recognise_hinge),
    words={
        "misses the label":
            ("label's term missing", "misses the label: minus the number of classes in the margin"),
        "misses the classes in the margin":
            ("classes missing", "has only the label's term: the classes in the margin are missing"),
        "has the wrong sign before the label":
            ("label's sign", "adds at the label, where it should subtract"),
        "lacks the factor count":
            ("label's count", "subtracts 1 at the label, not the number of classes in the margin"),
    },
    further=(
        ("label counted", "counts the label itself among the classes in the margin",
         lambda use: use.scale * (use.v - use.d * (use.v.sum(1, keepdim=True) + 1))),
        ("label counted", "counts the label itself among the classes in the margin",
         lambda use: use.scale * (use.v - use.d * (use.v.sum(1, keepdim=True) - 1))),
        ("label counted", "has 1 at the label as at a class in the margin: the term of the label "
         "is overwritten", lambda use: use.scale * (use.v + use.d)),
        ("mask missing", "takes all classes, not those in the margin alone",
         lambda use: use.scale * (1 - use.d - use.d * (use.u.shape[1] - 1))),
        ("mask inverted", "takes the classes outside of the margin",
         lambda use: use.scale * _labelled(use, 1 - use.d - use.v)),
        ("margins for the mask", "has the margins themselves, where each counts as 1",
         lambda use: use.scale * _labelled(use, _margins(use) * use.v)),
        ("negative margins", "counts negative margins, which should be 0",
         lambda use: use.scale * _labelled(
             use, torch.where(use.v > 0, 1.0, _margins(use) * (1 - use.d)))),
    ),
)  # fmt: skip


def _labelled(use: Use, classes: Tensor) -> Tensor:
    return classes - use.d * classes.sum(1, keepdim=True)


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


PLAIN_G = Factor("", lambda use: use.d)
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
        f"averages in {_SUM}, where it should sum":
            ("softmax's mean", "averages over the classes, where softmax's derivative sums"),
        "lacks the factor y, outside of its sums":
            ("softmax's factor", "lacks the factor y before the bracket of softmax's derivative"),
        f"has the wrong sign before {_SUM}": ("sum's sign", _ADDED),
        f"sums over the wrong axes in {_SUM}":
            ("softmax's axis", f"sums over the wrong axis {_OF_SOFTMAX}"),
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
        "misses g":
            ("one-hot missing",
             f"has only {_SUM} of log-softmax: the term g, in a loss that of the label or target, "
             "is missing"),
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
