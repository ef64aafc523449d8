"""Mistakes in code of numpy are told, since torch's copy of numpy follows a forward."""

import numpy as np
import pytest
import torch

import lincoln_fn as lf
from lincoln_fn import keys
from lincoln_fn.testing import GradientError, check_layer


def normal(*shape, seed=0):
    return keys.normal(lf.Key(40 + seed), shape, dtype=torch.float64)


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
    with pytest.raises(GradientError, match="backward changed g in place"):
        check_layer(layer, (), normal(4, 3))


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


@pytest.mark.parametrize("what", ["", "x_hat", "std"])
def test_an_eps_that_is_left_out_is_found_where_it_counts(what):
    def back(cache, g):
        x, x_hat, std = cache
        without = x.std(0)
        x_hat = (x - x.mean(0)) / without if what == "x_hat" else x_hat
        std = without if what == "std" else std
        return ((g - g.mean(0) - x_hat * (g * x_hat).mean(0)) / std,)

    def forward(x):
        std = np.sqrt(x.var(0) + 1e-6)
        return (x - x.mean(0)) / std, (x, (x - x.mean(0)) / std, std)

    report = check_layer(numpy_layer(forward, back), (), normal(6, 3), all=True)
    told = [(f.name, "line 1" in f.sentence, "without" in f.sentence) for f in report.mistakes]
    assert told == [("eps missing", True, True)] * bool(what)


def convolution_without_padding(crop):
    def forward(x):
        return x[:, :, 1:-1] * 2.0, x.shape

    def back(shape, g):
        dx = np.zeros(shape)
        dx[:, :, 1:-1] = 2 * g
        return (crop(dx),)

    return numpy_layer(forward, back)


@pytest.mark.parametrize(
    ("crop", "name"),
    {
        "empty": (lambda dx: dx[:, :, 0:-0], "empty slice"),
        "too much": (lambda dx: dx[:, :, 1:-1], "cut"),
    }.values(),
)
def test_a_slice_that_cuts_too_much_has_a_name(crop, name):
    report = check_layer(convolution_without_padding(crop), (), normal(2, 2, 5), all=True)
    assert [f.name for f in report.mistakes] == [name]


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
    assert [f.sentence for f in report.mistakes] == ["loss(): dx is its gradient - 1/5 onehot"]


def sine(w, x):
    z = np.sin(x @ w)
    return np.sin(3 * z), (w, x, 3 * np.cos(3 * z) * np.cos(x @ w))


def sine_back(cache, g):
    w, x, slope = cache
    return x.T @ (g * slope), (g * slope) @ w.T


def turned(w, x):
    return 2 * x * w.T, (w, x)


def turned_back(cache, g):
    w, x = cache
    return 2 * (g * x).T, 2 * g * w.T


def twice_the_bias(w, b, x):
    return x @ w + 2 * b, (w, x)


def twice_the_bias_back(cache, g):
    w, x = cache
    return x.T @ g, 2 * g.sum(0), g @ w.T


def product(w, x):
    return 3 * np.asarray(x * w), (w, x)


def product_back(cache, g):
    w, x = cache
    return 3 * g * x, 3 * g * w


CELL = normal(4, 3, seed=5).numpy()


def lstm_step(h, wx, wh, b, x):
    i, f, o, c = np.split(x @ wx + h @ wh + b, 4, 1)
    i, f, o = (1 / (1 + np.exp(-gate)) for gate in (i, f, o))
    c = np.tanh(c)
    new = np.tanh(f * CELL + i * c)
    return o * new, (h, wx, wh, x, i, f, o, c, new)


def lstm_step_back(cache, g):
    h, wx, wh, x, i, f, o, c, new = cache
    dc = g * o * (1 - new**2)
    gates = dc * c * i * (1 - i), dc * CELL * f * (1 - f), g * new * o * (1 - o)
    d = np.hstack([*gates, dc * i * (1 - c**2)])
    return d @ wh.T, x.T @ d, h.T @ d, d.sum(0), d @ wx.T


RIGHT = {
    "a square matrix that is no scale": (sine, sine_back, (normal(3, 3),), normal(5, 3)),
    "a scale of another shape": (turned, turned_back, (normal(3, 5),), normal(5, 3)),
    "a bias of 0, used twice": (twice_the_bias, twice_the_bias_back,
        (normal(3, 4), torch.zeros(4, dtype=torch.float64)), normal(5, 3)),
    "two numbers": (product, product_back, (normal(),), normal(seed=1)),
    "an LSTM's step with a fixed cell": (lstm_step, lstm_step_back,
        (normal(4, 3), normal(5, 12), normal(3, 12, seed=1), normal(12)), normal(4, 5)),
}  # fmt: skip


@pytest.mark.parametrize("case", RIGHT)
def test_right_numpy_like_no_known_function_is_right(case):
    forward, backward, params, x = RIGHT[case]
    assert check_layer(numpy_layer(forward, backward), params, x, all=True).is_right


def test_integers_that_are_no_labels_are_no_labels():
    data, counts = normal(6, 4, seed=1).numpy(), np.array([0, 100, 200, 3, 1, 2])

    def squares(w):
        error = (data @ w).sum(1) - counts
        return (error * error).sum(), error

    layer = numpy_layer(squares, lambda e, g: (2 * g * np.outer(data.T @ e, np.ones(3)),))
    assert check_layer(layer, (), normal(4, 3), all=True).is_right
