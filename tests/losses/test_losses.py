"""Losses: gradients proven, values and gradients equal to torch's, fused equal to composed."""

import math
from itertools import product

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
BINARY = {
    "log_loss": (torch.sigmoid, F.binary_cross_entropy),
    "log_sigmoid_loss": (
        F.logsigmoid,
        lambda z, t, **how: F.binary_cross_entropy(z.exp(), t, **how),
    ),
    "sigmoid_cross_entropy": (torch.clone, F.binary_cross_entropy_with_logits),
}
CATEGORICAL = {
    "cross_entropy": (
        lambda x: torch.softmax(x, 1),
        lambda p, t, **how: F.nll_loss(p.log(), t, **how),
    ),
    "nll": (lambda x: torch.log_softmax(x, 1), F.nll_loss),
    "softmax_cross_entropy": (torch.clone, F.cross_entropy),
}
BINARY_SHAPES = [((5,), (5,)), ((5, 1), (5,)), ((5, 1), (5, 1)), ((5, 3), (5, 3)), ((1, 1), (1,))]
CATEGORICAL_SHAPES = [
    ((5, 3), (5,)),
    ((5, 3), (5, 1)),
    ((5, 3, 2), (5, 2)),
    ((4, 3, 2, 6), (4, 2, 6)),
    ((1, 3), (1,)),
    ((5, 1), (5,)),
]


def binary_labels(shape, kind):
    if kind == "soft":
        return keys.uniform(lf.Key(3), shape, dtype=torch.float64)
    return keys.bernoulli(lf.Key(3), shape, 0.5).to(kind)


def class_labels(shape, classes, dtype=torch.int64):
    return keys.uniform(lf.Key(4), shape, 0, classes).to(dtype)


def make(name, reduction="mean"):
    # Without eta, for it is not in torch's function.
    options = {"eta": 0.0} if name == "log_loss" else {}
    return getattr(losses, name)(reduction=reduction, **options)


def binary_rows():
    for name, shapes, kind in product(
        BINARY, BINARY_SHAPES, ["soft", torch.float32, torch.bool, *INTEGERS]
    ):
        shape, target_shape = shapes
        target = binary_labels(target_shape, kind)
        yield name, *BINARY[name], shape, target, target.double().view(shape), f"{shapes}-{kind}"


def categorical_rows():
    for name, shapes, dtype in product(CATEGORICAL, CATEGORICAL_SHAPES, INTEGERS):
        shape, target_shape = shapes
        target = class_labels(target_shape, shape[1], dtype)
        torchs = target.long().view(shape[0], *shape[2:])
        yield name, *CATEGORICAL[name], shape, target, torchs, f"{shapes}-{dtype}"


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(
    ("name", "predict", "torchs", "shape", "target", "torchs_target"),
    [
        pytest.param(*row, id=f"{row[0]}-{note}")
        for *row, note in (*binary_rows(), *categorical_rows())
    ],
)
def test_losses_are_proven_and_equal_torchs(
    name, predict, torchs, shape, target, torchs_target, reduction
):
    prediction, loss = predict(normal(*shape).double()), make(name, reduction)
    lf.testing.check_loss(loss, prediction, target)
    value, cache = loss.forward(prediction, target)
    watched = prediction.clone().requires_grad_()
    expected = torchs(watched, torchs_target, reduction=reduction)
    g = keys.normal(lf.Key(5), tuple(expected.shape), dtype=torch.float64)
    slopes = torch.autograd.grad(expected, watched, g)
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


FUSED = {
    "softmax_cross_entropy = log_softmax + nll": (
        losses.softmax_cross_entropy, lf.log_softmax(dim=1), losses.nll, 0,
    ),
    "softmax_cross_entropy = softmax + cross_entropy": (
        losses.softmax_cross_entropy, lf.softmax(dim=1), losses.cross_entropy, 0,
    ),
    "sigmoid_cross_entropy = log_sigmoid + log_sigmoid_loss": (
        losses.sigmoid_cross_entropy, lf.log_sigmoid(), losses.log_sigmoid_loss, 0,
    ),
    # eta moves this one by its own size, 1e-8, against probabilities of at least 0.01 here.
    "sigmoid_cross_entropy ~ sigmoid + log_loss": (
        losses.sigmoid_cross_entropy, lf.sigmoid(), losses.log_loss, 2e-6,
    ),
}  # fmt: skip


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("name", FUSED)
def test_fused_losses_equal_their_compositions(name, reduction):
    fused, layer, loss, error = FUSED[name]
    x = normal(5, 3, 2).double()
    binary = "sigmoid" in layer.name
    target = binary_labels((5, 3, 2), torch.int64) if binary else class_labels((5, 2), 3)
    value, cache = fused(reduction=reduction).forward(x, target)
    g = keys.normal(lf.Key(6), tuple(value.shape), dtype=torch.float64)
    composed = losses.through(layer, loss(reduction=reduction))
    expected, of_composed = composed.forward(x, target)
    given = value, fused(reduction=reduction).backward(cache, g)
    assert same_number(given, (expected, composed.backward(of_composed, g)), error=error)


def test_the_meta_device_and_tracing_know_a_losss_shapes():
    value, cache = losses.nll().forward(
        torch.empty(5, 3, device="meta"), torch.empty(5, device="meta", dtype=torch.int64)
    )
    assert value.shape == ()
    assert losses.nll().backward(cache).shape == (5, 3)
