"""Losses of classes: gradients proven, values and gradients equal to torch's."""

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from helpers.cases.case import normal
from helpers.compare import same_bits, same_number

import lincoln_fn as lf
from lincoln_fn import keys, losses

REDUCTIONS = ("mean", "sum", "none")
INTEGERS = (torch.int64, torch.int32, torch.uint8)


# By loss: what it predicts, made of logits, and torch's answer to (prediction, target, reduction).
LOSSES = {
    "log_loss": (torch.sigmoid, F.binary_cross_entropy),
    "log_sigmoid_loss": (
        F.logsigmoid, lambda z, t, **how: F.binary_cross_entropy(z.exp(), t, **how),
    ),
    "sigmoid_cross_entropy": (torch.clone, F.binary_cross_entropy_with_logits),
    "cross_entropy": (
        partial(F.softmax, dim=1), lambda p, t, **how: F.nll_loss(p.log(), t, **how),
    ),
    "nll": (partial(F.log_softmax, dim=1), F.nll_loss),
    "softmax_cross_entropy": (torch.clone, F.cross_entropy),
}  # fmt: skip
# The shapes of predictions, and of their labels.
OF_TWO_CLASSES = [((5,), (5,)), ((5, 1), (5,)), ((5, 1), (5, 1)), ((5, 3), (5, 3)), ((1, 1), (1,))]
OF_CLASSES = [
    ((5, 3), (5,)), ((5, 3), (5, 1)), ((5, 3, 2), (5, 2)), ((4, 3, 2, 6), (4, 2, 6)),
    ((1, 3), (1,)), ((5, 1), (5,)),
]  # fmt: skip


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_proven_and_equal_torchs_for_labels_of_any_shape_and_dtype(name, reduction):
    predict, torchs = LOSSES[name]
    is_binary = "log_" in name or "sigmoid" in name
    # Without eta, for it is not in torch's function.
    options = {"eta": 0.0} if name == "log_loss" else {}
    loss = getattr(losses, name)(**options, reduction=reduction)
    for shape, target_shape in OF_TWO_CLASSES if is_binary else OF_CLASSES:
        prediction, classes = predict(normal(*shape).double()), 2 if is_binary else shape[1]
        target = keys.uniform(lf.Key(4), target_shape, 0, classes).floor()
        lf.testing.check_loss(loss, prediction, target.long())
        watched, of_places = prediction.clone().requires_grad_(), (shape[0], *shape[2:])
        torchs_target = target.double().view(shape) if is_binary else target.long().view(of_places)
        expected = torchs(watched, torchs_target, reduction=reduction)
        g = keys.normal(lf.Key(5), tuple(expected.shape), dtype=torch.float64)
        slopes = torch.autograd.grad(expected, watched, g)
        for dtype in (*INTEGERS, *((torch.float32, torch.bool) if is_binary else ())):
            value, cache = loss.forward(prediction, target.to(dtype))
            assert same_number((value, loss.backward(cache, g)), (expected.detach(), *slopes))


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_bool_labels_are_classes_0_and_1(reduction):
    prediction, labels = torch.log_softmax(normal(5, 2), 1), torch.tensor([1, 0, 0, 1, 1])
    loss = losses.nll(reduction=reduction)
    value, cache = loss.forward(prediction, labels.bool())
    expected, expected_cache = loss.forward(prediction, labels)
    assert same_bits(value, expected)
    g = torch.ones_like(value)
    assert same_bits(loss.backward(cache, g), loss.backward(expected_cache, g))


def test_eta_is_added_to_both_probabilities():
    loss = losses.log_loss(reduction="none", eta=0.25)
    p, target = torch.tensor([0.0, 1.0, 0.5]), torch.tensor([1, 0, 1])
    value, cache = loss.forward(p, target)
    assert same_number(value, -torch.tensor([0.25, 0.25, 0.75]).log())
    gradient = loss.backward(cache, torch.ones(3))
    assert same_number(gradient, torch.tensor([-4.0, 4.0, -4 / 3]))


@pytest.mark.parametrize(
    ("name", "dtype", "cost"),
    [
        ("log_loss", torch.float32, -math.log(1e-8)),
        ("log_loss", torch.float64, -math.log(1e-8)),
        ("log_loss", torch.bfloat16, -math.log(1e-8)),
        ("log_loss", torch.float16, -math.log(2**-14)),
        ("cross_entropy", torch.float32, -math.log(2**-126)),
        ("cross_entropy", torch.float64, -math.log(2**-126)),
        ("cross_entropy", torch.bfloat16, -math.log(2**-126)),
        # Of float16's own smallest normal number, 2^-14.
        ("cross_entropy", torch.float16, -math.log(2**-14)),
    ],
)
def test_a_probability_of_0_costs_a_finite_loss_in_every_dtype(name, dtype, cost):
    loss = getattr(losses, name)(reduction="none")
    p = torch.tensor([[0.0, 1.0]], dtype=dtype)
    target = torch.tensor([[1, 1]]) if name == "log_loss" else torch.tensor([0])
    value, cache = loss.forward(p, target)
    gradient = loss.backward(cache, torch.ones_like(value))
    assert torch.isfinite(value).all()
    assert torch.isfinite(gradient).all()
    assert gradient[0, 0] < 0
    assert same_number(value.flatten()[0], cost)


def test_the_meta_device_and_tracing_know_a_losss_shapes():
    value, cache = losses.nll().forward(
        torch.empty(5, 3, device="meta"), torch.empty(5, device="meta", dtype=torch.int64)
    )
    assert value.shape == ()
    assert losses.nll().backward(cache).shape == (5, 3)
