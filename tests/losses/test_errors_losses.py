"""What a loss is wrongly given: one message with the loss, what it expected and what it got."""

import pytest
import torch
from helpers import assert_refused

from lincoln_fn import losses

P = torch.full((4, 3), 0.5)
COLUMN = P[:, :1]
CLASSES = torch.tensor([0, 1, 2, 0])
BINARY = ("log_loss", "log_sigmoid_loss", "sigmoid_cross_entropy")
CATEGORICAL = ("cross_entropy", "nll", "softmax_cross_entropy")
LOGARITHMS = ("log_sigmoid_loss", "nll")
BETWEEN = "expected labels 0 or 1, or between them, got"

CLASS_LABELS = {
    "a class too high": (P, CLASSES + 1, "expected labels from 0 to 2, got 3"),
    "a class below 0": (P, CLASSES - 1, "expected labels from 0 to 2, got -1"),
    "floating": (P, CLASSES.float(),
        "expected target of class indices, got torch.float32; convert it by .long()"),
    "no axis of classes": (
        P[0], CLASSES, "expected prediction of shape (N, C) or (N, C, ...), got (3,)"),
    "a column for an image": (torch.zeros(4, 3, 5), CLASSES.view(4, 1),
        "expected target of shape (4, 5) for prediction (4, 3, 5), got (4, 1)"),
}  # fmt: skip

BINARY_LABELS = {
    "above 1": (COLUMN, torch.tensor([0, 1, 2, 1]), f"{BETWEEN} 2"),
    "nan": (COLUMN, torch.tensor([0, 1, torch.nan, 1]), f"{BETWEEN} nan"),
    "too few": (COLUMN, torch.zeros(3),
        "expected target of shape (4,) or (4, 1) for prediction (4, 1), got (3,)"),
}  # fmt: skip

ANY_LOSS = {
    "no example": (
        P[:0], CLASSES[:0], "expected at least one example, got prediction of shape (0, 3)"),
    "no label": (P, CLASSES[:0], "expected at least one example, got target of shape (0,)"),
    "integers": (P.long(), CLASSES, "expected prediction of a floating dtype, got torch.int64"),
    "a list of labels": (
        P, [0, 1, 2, 0], "expected target to be a tensor, got list; convert it by torch.tensor"),
    "a number": (
        0.5, CLASSES, "expected prediction to be a tensor, got float; convert it by torch.tensor"),
    "labels elsewhere": (P, CLASSES.to("meta"), "expected target on cpu, got meta"),
}  # fmt: skip

LOSSES = [
    *((name, *row) for name in CATEGORICAL for row in CLASS_LABELS.items()),
    *((name, *row) for name in BINARY for row in BINARY_LABELS.items()),
    *((name, *row) for name in (*CATEGORICAL, *BINARY) for row in ANY_LOSS.items()),
]


@pytest.mark.parametrize(
    ("name", "case", "given"), [pytest.param(*row, id="-".join(row[:2])) for row in LOSSES]
)
def test_losses_say_what_is_wrong_with_a_prediction_or_its_labels(name, case, given):
    prediction, target, problem = given
    assert_refused(f"{name}: {problem}", getattr(losses, name)().forward, prediction, target)


@pytest.mark.parametrize("name", [*BINARY, *CATEGORICAL])
def test_losses_say_what_is_wrong_with_a_cache_a_g_or_a_reduction(name):
    make = getattr(losses, name)
    message = f"{name}: expected the cache of its own forward, got float32[4, 3]"
    assert_refused(message, make().backward, P)
    target = CLASSES if name in CATEGORICAL else P
    prediction = P.log() if name in LOGARITHMS else P
    for reduction, g, expected in (("mean", P, "()"), ("none", P[0, 0], None)):
        value, cache = make(reduction=reduction).forward(prediction, target)
        shapes = f"{expected or tuple(value.shape)}, got {tuple(g.shape)}"
        message = f"{name}: expected g of shape {shapes}"
        assert_refused(message, make(reduction=reduction).backward, cache, g)
    with pytest.raises(
        ValueError, match=rf"^{name}: expected reduction to be 'mean', 'sum' or 'none', got 'x'"
    ):
        make(reduction="x")


@pytest.mark.parametrize("name", CATEGORICAL)
def test_the_first_and_the_last_class_are_labels(name):
    for label in (0, 2):
        prediction = P.log() if name in LOGARITHMS else P
        value, _ = getattr(losses, name)().forward(prediction, torch.full((4,), label))
        assert torch.isfinite(value)
