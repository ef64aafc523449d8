"""Mistakes in code of numpy are told, since torch's copy of numpy follows a forward."""

import inspect

import numpy as np
import pytest
import torch
from helpers import assert_says

import lincoln_fn as lf
from lincoln_fn.testing import GradientError, check_layer


def normal(*shape, seed=0):
    return lf.keys.normal(lf.Key(40 + seed), shape, dtype=torch.float64)


def numpy_layer(forward, backward):
    """Make a layer of functions of arrays: (params, x) -> (y, cache), and (cache, g) -> all."""

    def run(params, x):
        y, cache = forward(*(p.numpy() for p in params), x.detach().numpy())
        return torch.as_tensor(y), cache

    def run_back(params, cache, g):
        *dparams, dx = map(torch.as_tensor, backward(cache, g.numpy()))
        return dx, tuple(dparams)

    return lf.Layer("mine()", run, run_back)


def affine(w, b, x):
    return x.reshape(len(x), -1) @ w + b, (w, x)


def affine_back(cache, g):
    w, x = cache
    return x.reshape(len(x), -1).T @ g / len(x), g.sum(0), (g @ w.T).reshape(x.shape)


def right_affine_back(cache, g):
    w, x = cache
    return x.reshape(len(x), -1).T @ g, g.sum(0), (g @ w.T).reshape(x.shape)


def test_a_reference_gives_what_autograd_cannot():
    params, x = (normal(3, 4), normal(4)), normal(5, 3)
    layer = numpy_layer(affine, affine_back)
    reference = lf.Layer("right()", lambda p, x: (x @ p[0] + p[1], None), lambda p, c, g: (g, p))
    report = check_layer(layer, params, x, reference=reference, all=True)
    assert [(f.leaf, f.name) for f in report.mistakes] == [("dparams.0", "averaged")]
    right = numpy_layer(affine, right_affine_back)
    assert check_layer(right, params, x, reference=reference, all=True).is_right


def test_a_forward_unlike_the_reference_is_told_and_its_gradients_are_held_against_it():
    params, x = (normal(3, 4), normal(4)), normal(5, 3)
    doubled = lf.Layer("right()", lambda p, x: (2 * x @ p[0] + p[1], None), lambda p, c, g: (g, p))
    layer = numpy_layer(affine, right_affine_back)
    report = check_layer(layer, params, x, reference=doubled, all=True)
    found = [(f.leaf, f.verdict) for f in report.findings]
    assert found == [
        ("y", "wrong"), ("dparams.0", "wrong"), ("dparams.1", "right"), ("dx", "wrong"),
    ]  # fmt: skip
    with pytest.raises(GradientError, match="forward does not compute y"):
        check_layer(layer, params, x, reference=doubled)


def test_a_gradient_made_in_place_is_right_and_told_so():
    def relu_back(x, g):
        g[x <= 0] = 0
        return (g,)

    layer = numpy_layer(lambda x: (np.maximum(x, 0), x), relu_back)
    report = check_layer(layer, (), normal(4, 3), all=True)
    assert [(f.leaf, f.verdict, f.name) for f in report.findings] == [
        ("dx", "right", ""),
        ("backward", "wrong", "in place"),
    ]
    assert_says("GradientError: backward changed g in place", check_layer, layer, (), normal(4, 3))


def classifier(decay):
    """Make a loss of a linear classifier's weights, and its gradient with a weight decay."""
    data, labels = normal(6, 4, seed=1).numpy(), np.array([0, 2, 1, 1, 0, 2])

    def loss(w):
        e = np.exp(data @ w)
        p = e / e.sum(1, keepdims=True)
        return -np.log(p[range(6), labels]).mean() + 0.1 * (w * w).sum(), (w, p)

    def back(cache, g):
        w, p = cache
        return (g * (data.T @ (p - np.eye(3)[labels]) / 6 + decay * w),)

    return numpy_layer(loss, back)


def test_data_and_labels_of_a_loss_are_found_in_its_scope():
    report = check_layer(classifier(0.1), (), normal(4, 3), all=True)
    assert report.mistakes[0].name == "factor"
    # The first weights may be zero.
    zeros = torch.zeros(4, 3, dtype=torch.float64)
    assert check_layer(classifier(0.2), (), zeros, all=True).is_right


def test_a_gradient_of_another_shape_is_compared_in_its_numbers():
    def forward(x, w, b):
        return x @ w + b, (x, w)

    def back(g, cache):
        x, w = cache
        return g @ w.T, x.T @ g, g.mean(0)

    w, b, x = normal(4, 3), normal(1, 3, seed=1), normal(5, 4, seed=2)
    layer = lf.testing.from_numpy(forward, back)
    report = check_layer(layer, (w, b), x, all=True)
    assert [(f.leaf, f.name) for f in report.mistakes] == [("dparams.1", "averaged")]
    said = "is 5 times too small: averaged where it should be summed?"
    assert f"{said} Also: shape (3,), expected (1, 3)" in report.mistakes[0].sentence


def test_what_numpy_has_removed_is_no_mistake_of_the_student():
    layer = numpy_layer(lambda x: (np.lib.pad(x, 1), x), lambda x, g: (g[1:-1, 1:-1],))
    report = check_layer(layer, (), normal(3, 4), all=True)
    assert [(f.leaf, f.verdict, f.name) for f in report.findings] == [
        ("forward", "not judged", "numpy")
    ]


def test_a_label_is_known_where_no_class_is_in_the_margin():
    labels = np.array([0, 2, 1, 1, 3])
    scores = normal(5, 4, seed=9)
    scores[1, 2] = 9.0  # so far above that no class is in the margin

    def loss(x, y):
        rows = np.arange(len(x))
        margins = np.maximum(x - x[rows, y][:, None] + 1, 0)
        mask = (margins > 0).astype(float)  # the label's own margin is 1
        mask[rows, y] = -mask.sum(1)
        return (margins.sum() - len(x)) / len(x), mask / len(x)

    layer = lf.testing.from_numpy(loss, y=labels)
    report = check_layer(layer, (), scores, all=True)
    (mistake,) = report.mistakes
    assert mistake.sentence.startswith("loss(): dx is its gradient - 1/5 onehot (line")


def test_integers_that_are_no_labels_are_no_labels():
    data, counts = normal(6, 4, seed=1).numpy(), np.array([0, 100, 200, 3, 1, 2])

    def squares(w):
        error = (data @ w).sum(1) - counts
        return (error * error).sum(), error

    layer = numpy_layer(squares, lambda e, g: (2 * g * np.outer(data.T @ e, np.ones(3)),))
    assert check_layer(layer, (), normal(4, 3), all=True).is_right


class SoftmaxLoss:
    """Compute the loss of a linear classifier and its gradients, in one call."""

    def __init__(self, scale):
        self.scale = scale

    def __call__(self, x, w, y):
        scores, rows = x @ w, np.arange(len(y))
        p = np.exp(scores - scores.max(1, keepdims=True))
        p = p / p.sum(1, keepdims=True)
        loss = -np.log(p[rows, y]).mean()
        dscores = p.copy()
        dscores[rows, y] -= self.scale
        dscores = dscores / len(y)
        dw = x.T @ dscores
        return loss, dscores @ w.T, dw


class Unscaled(SoftmaxLoss):
    """Calls what it inherits."""


class Averaged(SoftmaxLoss):
    def __call__(self, x, w, y):
        loss, dx, dw = super().__call__(x, w, y)
        dx = dx / len(y)
        return loss, dx, dw


NO_LABELS = "{} is wrong by line {}: dscores, the gradient of scores, is its gradient + 1/5 onehot"
AVERAGED = "{} is 5 times too small: averaged where it should be summed? (line {})"
# By the line that is wrong: the loss, and what is said of which gradients.
IN_ONE_CALL = {
    "dscores / len": (Unscaled(0), NO_LABELS, {"dx", "dparams.0"}),
    "dx / len": (Averaged(1), AVERAGED, {"dx"}),
}


@pytest.mark.parametrize("text", IN_ONE_CALL)
def test_of_a_loss_that_returns_its_gradients_a_line_is_told(text):
    loss, says, leaves = IN_ONE_CALL[text]
    layer = lf.testing.from_numpy(loss, y=np.array([0, 3, 1, 1, 2]))
    report = check_layer(layer, (normal(3, 4),), normal(5, 3), all=True)
    lines, first = inspect.getsourcelines(type(loss).__call__)
    line = first + next(n for n, each in enumerate(lines) if text in each)
    told = {mistake.leaf: mistake.sentence for mistake in report.mistakes}
    assert told == {leaf: f"{layer.name}: {says.format(leaf, line)}" for leaf in leaves}


def test_a_right_loss_that_returns_its_gradients_is_right():
    layer = lf.testing.from_numpy(SoftmaxLoss(1), y=np.array([0, 3, 1, 1, 2]))
    assert layer.name == "SoftmaxLoss()"
    assert check_layer(layer, (normal(3, 4),), normal(5, 3), all=True).is_right
