"""The checker's negative controls: wrong gradients, each caught and named."""

import re

import pytest
import torch

import lincoln_fn as lf
from lincoln_fn.layers import dense
from lincoln_fn.testing import GradientError, check_layer

X = lf.keys.normal(lf.Key(1), (5, 3))
MIXED = lf.keys.normal(lf.Key(3), (3, 3), dtype=torch.float64)


def wrong_dense(change):
    """Give dense(4) a backward that changes (dx, dparams) afterwards."""

    def backward(params, cache, g):
        return change(*dense.backward(params, cache, g), g)

    return lf.dense(4).replace(backward=backward)


def input_of_dense(change):
    return wrong_dense(lambda dx, d, g: (change(dx), d))


def wrong_tanh(change):
    """Give tanh a backward that changes its dx afterwards."""
    return lf.tanh().replace(backward=lambda params, y, g: (change(g * (1 - y**2)), ()))


def single(forward, dx):
    return lf.Layer(
        "mine()", lambda params, x: forward(x), lambda params, cache, g: (dx(cache, g), ())
    )


def with_nan(dx):
    return torch.cat([dx[:-1], torch.full_like(dx[-1:], torch.nan)])


def dead(params, x):
    w, b = params
    return (x @ w + b).relu(), x


def without_mask(params, x, g):
    return g @ params[0].mT, (x.mT @ g, g.sum(0))


def met(x):
    return (1 - x).clamp(min=0), None


def gate(a, x):
    return a * torch.tanh(x), torch.tanh(x)


def scaled(sign):
    return lf.Layer(
        "scaled()",
        lambda w, x: (x * w, x),
        lambda w, x, g: (g * w * torch.tensor([1, 1, sign]), (g * x).sum(0)),
    )


def with_bias(bias):
    """Make a linear layer whose bias is the last weight."""

    def forward(w, x):
        return torch.cat([x, torch.ones_like(x[:, :1])], 1) @ w, x

    def backward(w, x, g):
        return g[:, None] * w[:-1], torch.cat([x.mT @ g, bias(g)[None]])

    return lf.Layer("linear()", forward, backward)


NEGATIVE = -0.1 - X.abs()
SCALES, INCOMES = torch.tensor([1e6, 1.0, 0.5]), 1e6 * lf.keys.uniform(lf.Key(5), (4, 1))
OF_INCOMES = torch.tensor([0.3, -0.7])
# Of each the layer, its params (None: those of init), x, and what is said after its name.
WRONG_GRADIENTS = {
    "linear, and nothing known": (wrong_tanh(lambda dx: dx @ MIXED), (), X,
        r"dx is wrong in \d+ of 15 places, most at \[\d, \d\]: a term is missing or wrong "
        r"\(line \d+\)$"),
    "nan": (wrong_tanh(with_nan), (), X, "dx holds 3 values that are not finite"),
    "structure of dx": (input_of_dense(lambda dx: (dx,)), None, X,
        r"expected gradients dparams\.weight, dparams\.bias, dx; got .*dx\.0"),
    "no dx": (input_of_dense(lambda dx: None), None, X,
        r"expected gradients .*dx; got dparams\.weight, dparams\.bias$"),
    "structure of dparams": (wrong_dense(lambda dx, d, g: (dx, ())), None, X,
        r"expected gradients dparams\.weight, dparams\.bias, dx; got dx"),
    "dtype": (input_of_dense(torch.Tensor.int), None, X,
        r"dx: expected dtype torch\.float64, got torch\.int32$"),
    "a factor of zero, which is no polynomial": (
        lf.Layer("gate()", gate, lambda a, t, g: (g * (1 - t * t), (g * t).sum())),
        torch.tensor(0.0), X, "dx lacks the factor a in the path"),
    "numbers of mean square 1, which are no norm": (
        single(lambda x: (x + torch.tanh(0.9 * x), x),
               lambda x, g: g + g * (1 - torch.tanh(0.9 * x) ** 2)),
        (), torch.tensor([1.2, -1.0, 1.0]),  # their mean square is 1.15, and 0.93 times 0.9
        r"dx counts the path .* \(in `0\.9 \* x`\) 10/9 times"),
    # Where forward is flat, a mistake keeps its name.
    "a mask of a ReLU": (single(lambda x: (x.relu(), x), lambda x, g: g), (), NEGATIVE,
        r"dx lacks the derivative of relu\(\) \(in `x.relu\(\)`\)$"),
    "biases before a dead ReLU": (lf.Layer("mine()", dead, without_mask),
        (lf.keys.normal(lf.Key(6), (3, 4)), torch.full((4,), -100.0)), X,
        r"dparams\.0 lacks the derivative of relu\(\)"),
    "a hinge that is met": (single(met, lambda cache, g: -g), (), 2 - NEGATIVE,
        r"dx lacks the derivative of clamp\(\)"),
    "nothing known": (single(lambda x: (x.relu(), x), lambda x, g: g @ MIXED), (), NEGATIVE,
        "dx should be zero here: forward does not change near x$"),
    "what forward leaves out": (
        lf.Layer("mine()", lambda b, x: (2 * x, ()), lambda b, cache, g: (2 * g, g.sum(0))),
        torch.ones(3), X, "dparams should be zero: forward does not depend on it$"),
    # A small entry beside a large one is judged.
    "a column": (scaled(-1), SCALES, X, r"dx is wrong in 5 of 15 places, most at \[\d, 2\]"),
    "a bias that is averaged": (with_bias(torch.mean), OF_INCOMES, INCOMES,
        r"dparams is wrong in 1 of 2 places, most at \[1\]"),
    "a bias of zero": (with_bias(lambda g: 0 * g.sum()), OF_INCOMES, INCOMES,
        r"dparams is wrong in 1 of 2 places, most at \[1\]"),
    # A gradient is judged however small it is.
    **{f"{name} at {size}": (single(forward, dx), (), size * torch.tensor([1.0, 2, 3]), said)
        for size in (1e6, 1e10, 1e13) for name, forward, dx, said in (
            ("the sign of log", lambda x: (x.log(), x), lambda x, g: -g / x,
                "dx has the wrong sign$"),
            ("no gradient of log", lambda x: (x.log(), x), lambda x, g: 0 * g, "dx is zero$"),
            ("the sign of 1/x", lambda x: (1 / x, x), lambda x, g: g / x**2,
                "dx has the wrong sign$"))},
}  # fmt: skip


@pytest.mark.whole
@pytest.mark.parametrize(
    ("layer", "params", "x", "message"), WRONG_GRADIENTS.values(), ids=WRONG_GRADIENTS
)
def test_wrong_gradients_are_caught_and_named(layer, params, x, message):
    params = layer.init(lf.Key(0), x) if params is None else params
    with pytest.raises(GradientError, match=f"^{re.escape(layer.name)}: {message}"):
        check_layer(layer, params, x)


def test_right_entries_of_two_scales_are_right():
    for layer, params, x in (
        (scaled(1), SCALES, X), (with_bias(torch.sum), OF_INCOMES, INCOMES)
    ):  # fmt: skip
        report = check_layer(layer, params, x, all=True)
        assert (report.is_right, report.remarks) == (True, ())


@pytest.mark.parametrize("shift", [0.0, 1e5])
def test_a_gradient_of_rounding_errors_alone_is_right(shift):
    """Batch norm subtracts a bias before it, whose gradient is 0 but for rounding."""
    net = lf.serial(lf.dense(4), lf.batch_norm())
    params = net.init(lf.Key(0), X)
    first = lf.evolve(params[0], bias=params[0].bias + shift)
    report = check_layer(net, (first, params[1]), X, all=True)
    assert [finding.verdict for finding in report.findings] == ["right"] * 5
