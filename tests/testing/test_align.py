"""The line of backward is told where its values part from the right gradients of forward."""

import inspect

import numpy as np
import pytest
import torch

import lincoln_fn as lf
from lincoln_fn.testing import check_layer, from_numpy
from lincoln_fn.testing.lines import trace_of

X = lf.keys.normal(lf.Key(1), (5, 3))
W = lf.keys.normal(lf.Key(2), (3, 4))
SQUARE = lf.keys.normal(lf.Key(3), (4, 4))


def normalised(params, x):
    mu = x.mean(0)
    var = ((x - mu) ** 2).mean(0)
    return (x - mu) / torch.sqrt(var), (x, mu, var)


def twice_the_variance(params, cache, g):
    x, mu, var = cache
    centred, std = x - mu, torch.sqrt(var)
    dvar = (g * centred).sum(0) * -1 / std**3
    dx = g / std + dvar * 2 * centred / len(x)
    return dx - dx.mean(0), ()


def another_mean(params, cache, g):
    x, mu, var = cache
    std = torch.sqrt(var + 0.01)
    dvar = (g * (x - mu)).sum(0) / -2 / std**3
    dx = g / std + dvar * 2 * (x - mu) / len(x)
    return dx - dx.mean(0), ()


def of_two_lines(params, cache, g):
    x, mu, var = cache
    centred, std = x - mu, torch.sqrt(var)
    dvar = (g * centred).sum(0) / -2 / std**3
    dx = g / std + dvar * 2 * centred / len(x)
    dx = 2 * dx
    return dx, ()


def line_of(function, text):
    lines, first = inspect.getsourcelines(function)
    return first + next(n for n, line in enumerate(lines) if text in line)


@pytest.mark.parametrize(("backward", "text", "says"), [
    (twice_the_variance, "dvar =", "dvar, the gradient of var, is 2 times too large"),
    (another_mean, "std =", "std, forward's `torch.sqrt(var)`, differs slightly from it"),
])  # fmt: skip
def test_a_mistake_in_an_intermediate_is_told_by_its_line(backward, text, says):
    (mistake,) = check_layer(lf.Layer("norm()", normalised, backward), (), X, all=True).mistakes
    told = f"norm(): dx is wrong by line {line_of(backward, text)}: {says}"
    assert str(mistake).startswith(told)


@pytest.mark.full
def test_two_mistakes_in_one_gradient_are_both_told():
    layer = lf.Layer("norm()", normalised, of_two_lines)
    (mistake,) = check_layer(layer, (), X, all=True).mistakes
    first, second = (line_of(of_two_lines, text) for text in ("dx = g", "dx = 2"))
    assert str(mistake) == (
        f"norm(): dx is wrong by line {first}: dx, the gradient of x, misses the path through "
        "mean() (in `x.mean(0)`), as if it were a constant; with that right, it is 2 times too "
        f"large (line {second})"
    )


def test_two_mistakes_at_once_are_both_told():
    def affine_forward(x, w):
        z = x @ w
        return np.tanh(z), (x, w, np.tanh(z))

    def affine_backward(dout, cache):
        x, w, y = cache
        dz = dout * (1 - y)
        dx = dz @ w.T
        dw = x.T @ dz / len(x)
        return dx, dw

    mistakes = check_layer(from_numpy(affine_forward, affine_backward), (W,), X, all=True).mistakes
    told = {m.leaf: m.sentence for m in mistakes}
    says = "dz, the gradient of z, has 1 - y in place of the derivative of tanh()"
    assert f"line {line_of(affine_backward, 'dz =')}: {says}" in told["dx"]
    assert f"line {line_of(affine_backward, 'dw =')}" in told["dparams.0"]


def test_of_a_name_that_is_assigned_twice_the_line_is_told():
    def forward(w, x):
        h = x @ w
        h = torch.tanh(h)
        return h * h, (x, h)

    def backward(w, cache, g):
        x, h = cache
        dh = g * h
        dh = dh * (1 - h * h)
        return dh @ w.T, x.T @ dh

    mistakes = check_layer(lf.Layer("mine()", forward, backward), W, X, all=True).mistakes
    line, of = line_of(backward, "dh = g"), line_of(forward, "tanh")
    told = f"is wrong by line {line}: dh, the gradient of h (line {of}), is 2 times too small"
    assert [m.sentence for m in mistakes] == [f"mine(): {m.leaf} {told}" for m in mistakes]
    assert len(mistakes) == 2


def test_no_gradient_is_told_by_what_backward_calls_it():
    def forward(w, x):
        n = torch.sqrt((w**2).sum(0))
        return x @ (w / n), (x, n)

    def backward(w, cache, g):
        x, n = cache
        dw = x.T @ g
        return g @ (w / n).T, dw

    (mistake,) = check_layer(lf.Layer("mine()", forward, backward), W, X, all=True).mistakes
    told = f"dparams is the gradient of `w / n` (line {line_of(backward, 'dw =')})"
    assert str(mistake) == f"mine(): {told}"


def test_a_sum_over_another_axis_is_told_in_a_square():
    def forward(params, x):
        return x + params, None

    def backward(params, cache, g):
        db = g.sum(1)
        return g, db

    layer = lf.Layer("bias()", forward, backward)
    (mistake,) = check_layer(layer, SQUARE[0], SQUARE, all=True).mistakes
    where = f"(line {line_of(backward, 'db =')})"
    told = f"dparams is sum(g, 1); it should be sum(g, 0) {where}"
    assert str(mistake) == f"bias(): {told}"


def test_gradients_that_are_exchanged_are_told_where_an_axis_is_missing_too():
    def norm_forward(x, gamma, beta):
        return x * gamma + beta, (x, gamma)

    def norm_backward(dout, cache):
        x, gamma = cache
        return dout * gamma, dout.sum(0), (dout * x).sum(0)

    params = (SQUARE[:1], SQUARE[1:2])
    report = check_layer(from_numpy(norm_forward, norm_backward), params, SQUARE, all=True)
    told = "dparams.0 and dparams.1 are swapped: shape (4,), expected (1, 4)"
    assert [mistake.sentence[-len(told) :] for mistake in report.mistakes] == [told, told]


def test_weights_that_backward_updates_are_no_gradient_that_is_not_linear():
    def forward(w, x):
        return x @ w, x

    def backward(w, x, g):
        update = (x.mT @ g).cumsum(0)
        new = w + update
        return g @ w.mT, w - new

    (mistake,) = check_layer(lf.Layer("mine()", forward, backward), W, X, all=True).mistakes
    assert "not linear" not in str(mistake)


def test_a_helper_that_a_loop_calls_takes_no_lines_of_what_follows():
    def helper(n):
        part = torch.zeros(2)
        for _ in range(300):
            part = part + n
        return part

    def run():
        parts = [helper(n) for n in range(100)]
        total = sum(parts)
        return 2 * total

    trace = trace_of(run)
    targets = {place.target: len(values) for place, values in trace.values.items()}
    assert targets["total"] == 1


def test_the_values_of_lines_are_listed_and_replaced():
    def run():
        total = torch.zeros(2)
        for n in range(3):
            total = total + n
        return total

    trace = trace_of(run)
    found = {(p.target, p.line - line_of(run, "def run")): len(v) for p, v in trace.values.items()}
    assert found == {("total", 1): 1, ("total", 3): 3, ("", 4): 1}
    first, *_ = trace.values
    again = trace_of(run, {first: {0: torch.tensor([5.0, 7.0])}})
    assert [*again.values.values()][-1][0].tolist() == [8.0, 10.0]
