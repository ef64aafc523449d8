"""Torch's transforms go through every layer's formula and its faster functions.

Per-example gradients and Hessian-vector products stand on this. Each transform's values are
compared with what they should be: vmap with a loop, the formula's derivative with central
differences, that of the faster functions with the formula's.
"""

import pytest
import torch
from helpers import CASES, FIRST, assert_says, cast, normal, same_number
from helpers.cases.case import random_like
from helpers.derivatives import assert_derivatives, flat, floating, slopes
from helpers.fast_layers import changed
from torch.func import jvp, vmap

import lincoln_fn as lf
from lincoln_fn.testing.check import hold_stopped

# torch's own, at the first jvp of a process.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script")

TOLERANCE = 1e-10
# The LSTM's kernel knows float32 alone.
OF_FLOAT32 = 1e-4


def functions(case):
    """Make forward and backward of a case as functions of floating tensors, in float64."""
    params, x = cast(case.params()), cast(case.x)
    xs, rebuilt = floating(x)
    y, _ = case.layer.forward(params, x)
    gs, rebuilt_g = floating(y)

    def forward(*xs):
        return floating(case.layer.forward(params, rebuilt(xs))[0])[0]

    def backward(xs, gs):
        cache = case.layer.forward(params, rebuilt(xs))[1]
        return floating(case.layer.backward(params, cache, rebuilt_g(gs)))[0]

    return forward, backward, xs, random_like(gs, 50)


@pytest.mark.parametrize("case", FIRST, ids=str)
def test_vmap(case):
    forward, backward, xs, gs = functions(case)
    stacked = tuple(torch.stack([x, x + 0.01]) for x in xs)
    one = forward(*xs), forward(*(x + 0.01 for x in xs))
    if xs:
        given = vmap(forward)(*stacked)
        assert same_number(tuple(y[0] for y in given), one[0])
        assert same_number(tuple(y[1] for y in given), one[1])
        given = vmap(backward, in_dims=(0, None))(stacked, gs)
        assert same_number(tuple(y[1] for y in given), backward(tuple(x + 0.01 for x in xs), gs))
    if gs:
        given = vmap(backward, in_dims=(None, 0))(xs, tuple(torch.stack([g, 2 * g]) for g in gs))
        assert same_number(tuple(y[0] for y in given), backward(xs, gs))
        assert same_number(tuple(y[1] for y in given), backward(xs, tuple(2 * g for g in gs)))


def every_function(layer):
    """Compute all that a layer's functions of tensors give, as a function of params, x and g."""

    def run(params, x, g):
        y, cache = layer.forward(params, x)
        return (
            y, layer.predict(params, x), layer.backward(params, cache, g),
            layer.input_grad(params, cache, g), layer.grads(params, cache, g),
            layer.advance(params, cache),
        )  # fmt: skip

    return run


def arguments(case, dtype):
    """Give a case's params and x, and a g."""
    params, x = cast(case.params(), dtype), cast(case.x, dtype)
    y = case.layer.forward(params, x)[0]

    def g_like(leaf):  # of an index it is zeros
        return normal(*leaf.shape, seed=3).mul(leaf.is_floating_point()).to(leaf.dtype)

    return params, x, lf.tree.map(g_like, y)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_function_has_its_derivative_in_params_x_and_g(case):
    layer = hold_stopped(case.layer)  # a stopped gradient is not that of a difference
    xs, formula = flat(every_function(layer), *arguments(case, torch.float64))
    along = random_like(xs, 70)
    expected = slopes(formula, xs, along)
    expected = assert_derivatives(formula, xs, along, expected, by_autograd=False)
    # Of compositions attention alone has parts that are no case.
    if changed(case.layer) and (not case.layer.parts or "attention" in case.layer.name):
        dtype = torch.float32 if "lstm" in case.layer.name else torch.float64
        xs, fast = flat(every_function(lf.fast(case.layer)), *arguments(case, dtype))
        along = tuple(t.to(dtype) for t in along)
        tolerance = TOLERANCE if dtype is torch.float64 else OF_FLOAT32
        assert_derivatives(fast, xs, along, expected, tolerance)


KERNELS = {
    "gelu": (lf.gelu(), normal(2, 3)),
    "batch_norm": (lf.batch_norm(), normal(4, 3)),
    "group_norm": (lf.group_norm(2), normal(2, 10)),  # of groups of two, dx would be 0
    "lstm": (lf.lstm(4), normal(2, 5, 3)),
    "attention_heads": (lf.multi_head_attention(2), normal(2, 5, 4)),
}


@pytest.mark.parametrize(("net", "x"), KERNELS.values(), ids=KERNELS)
def test_a_kernels_backward_has_its_derivative_in_g_alone(net, x):
    params = net.init(lf.Key(0), x)
    (y, cache), (_, exact) = lf.fast(net).forward(params, x), net.forward(params, x)
    g = (torch.cos(9 * y),)
    _, of_kernel = flat(lambda g: lf.fast(net).backward(params, cache, g), y)
    _, of_formula = flat(lambda g: net.backward(params, exact, g), y)
    assert_derivatives(of_kernel, g, (y,), jvp(of_formula, g, (y,))[1], OF_FLOAT32)


X = normal(3)


@pytest.mark.parametrize(
    "x", [(X, X[:2]), (X, X.double()), (X, (X,)), (X, 1.0), (1.0, 1.0), (None, None)]
)
def test_a_direction_that_does_not_mirror_x_is_refused_by_jvp(x):
    assert_says("jvp: expected (x, v) of floats, with v like x", lf.jvp(lf.sin()).predict, (), x)
