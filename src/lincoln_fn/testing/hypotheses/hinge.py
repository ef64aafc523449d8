"""The multi-class hinge loss: its gradient by the scores, as a formula."""

from __future__ import annotations

import torch
from torch import Tensor

from lincoln_fn.testing.hypotheses.algebra import Factor, Formula, Term, Use
from lincoln_fn.testing.hypotheses.uses import find_uses_of_gradient


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
