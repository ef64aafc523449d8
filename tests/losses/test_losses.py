"""Losses of classes: labels and their weights, the order of logits, and probabilities of 0."""

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from helpers import normal, same_number

import lincoln_fn as lf
from lincoln_fn import keys, losses

INTEGERS = (torch.int64, torch.int32, torch.uint8)


# By loss: what it predicts, made of logits.
LOSSES = {
    "log_loss": torch.sigmoid, "log_sigmoid_loss": F.logsigmoid,
    "sigmoid_cross_entropy": torch.clone, "softmax_cross_entropy": torch.clone,
    "cross_entropy": partial(F.softmax, dim=1), "nll": partial(F.log_softmax, dim=1),
}  # fmt: skip
# The shapes of predictions, and of labels that are read as in the first column.
OF_TWO_CLASSES = [((5,), (5,)), ((5, 1), (5,)), ((5, 1), (5, 1)), ((1, 1), (1,))]
OF_CLASSES = [((5, 2), (5,)), ((5, 3), (5, 1)), ((4, 3, 2, 6), (4, 2, 6)), ((5, 1), (5,))]


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name", LOSSES)
def test_labels_may_have_any_of_their_shapes_and_dtypes(name, reduction):
    """Values and gradients are the table's; here, each way to write labels means the same ones."""
    loss, is_binary = getattr(losses, name)(reduction=reduction), "log_" in name or "sigm" in name
    for shape, target_shape in OF_TWO_CLASSES if is_binary else OF_CLASSES:
        prediction = LOSSES[name](normal(*shape).double())
        classes = 2 if is_binary else shape[1]
        target = keys.uniform(lf.Key(4), target_shape, 0, classes).floor()
        plain = target.double().view(shape) if is_binary else target.view(shape[0], *shape[2:])
        expected, of_plain = loss.forward(prediction, plain if is_binary else plain.long())
        g = keys.normal(lf.Key(5), tuple(expected.shape), dtype=torch.float64)
        dtypes = (*INTEGERS, *((torch.float32,) if is_binary else ()))
        for dtype in (*dtypes, *((torch.bool,) if classes <= 2 else ())):
            value, cache = loss.forward(prediction, target.to(dtype))
            given = value, loss.backward(cache, g)
            assert same_number(given, (expected, loss.backward(of_plain, g)))


def test_eta_is_added_to_both_probabilities():
    loss = losses.log_loss(reduction="none", eta=0.25)
    p, target = torch.tensor([0.0, 1.0, 0.5]), torch.tensor([1, 0, 1])
    value, cache = loss.forward(p, target)
    assert same_number(value, -torch.tensor([0.25, 0.25, 0.75]).log())
    gradient = loss.backward(cache, torch.ones(3))
    assert same_number(gradient, torch.tensor([-4.0, 4.0, -4 / 3]))


@pytest.mark.parametrize(("name", "least"), [("log_loss", 1e-8), ("cross_entropy", 2**-126)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_a_probability_of_0_costs_a_finite_loss_in_every_dtype(name, least, dtype):
    """It costs what the least one does, or float16's own smallest normal number, 2^-14."""
    loss = getattr(losses, name)(reduction="none")
    p = torch.tensor([[0.0, 1.0]], dtype=dtype)
    target = torch.tensor([[1, 1]]) if name == "log_loss" else torch.tensor([0])
    value, cache = loss.forward(p, target)
    gradient = loss.backward(cache, torch.ones_like(value))
    assert torch.isfinite(value).all()
    assert torch.isfinite(gradient).all()
    assert gradient[0, 0] < 0
    assert same_number(value.flatten()[0], -math.log(max(least, torch.finfo(dtype).tiny)))


X = keys.normal(lf.Key(0), (2, 5, 3, 4)).double()
BY_ROWS = X.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
LABELS = (torch.arange(24) % 5).view(2, 3, 4)
SOME_IGNORED = torch.where(LABELS == 2, -100, LABELS)
PROBABILITIES = torch.softmax(keys.normal(lf.Key(1), (2, 5, 3, 4)).double(), 1)
WEIGHT = torch.tensor([1.0, 2.0, 0.5, 3.0, 0.1]).double()


@pytest.mark.parametrize("form", [{}, {"weight": WEIGHT}, {"label_smoothing": 0.1}], ids=str)
@pytest.mark.parametrize(
    "target", [LABELS, SOME_IGNORED, PROBABILITIES], ids=["labels", "ignored", "mixture"]
)
def test_value_and_gradient_do_not_depend_on_the_order_in_memory(form, target):
    loss = losses.softmax_cross_entropy(**form, reduction="none")
    (value, cache), (expected, plain) = (loss.forward(x, target) for x in (BY_ROWS, X))
    assert same_number(value, expected)
    g = keys.normal(lf.Key(2), tuple(value.shape)).double()
    dx = loss.backward(cache, g)
    assert same_number(dx, loss.backward(plain, g))
    assert dx.stride() == BY_ROWS.stride()
