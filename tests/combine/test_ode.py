"""Neural ODEs: the exact gradient of the steps, and the continuous adjoint with flat memory."""

import math
from itertools import pairwise

import pytest
import torch
from helpers import normal, same_bits, same_number
from helpers.compositions import cast, forward_and_backward, peak_bytes, run
from helpers.loops import FIELD, IN_TIME
from helpers.loops import ROWS as X

import lincoln_fn as lf


def orders(errors):
    """Measure by which power of h an error falls, from errors at h and h / 2."""
    return [math.log2(coarse / fine) for coarse, fine in pairwise(errors)]


@pytest.mark.parametrize(("method", "order"), [("euler", 1), ("midpoint", 2), ("rk4", 4)])
def test_the_error_falls_by_the_order_of_the_method(method, order):
    # dz/dt = z M has z(t) = z(0) exp(t M); its gradient is g exp(t M)^T.
    matrix = 0.8 * normal(3, 3, seed=5).double()
    params = lf.layers.dense.Params(matrix, None)
    flow = torch.linalg.matrix_exp(0.9 * matrix)
    x, g = X.double(), normal(5, 3, seed=9).double()
    errors, of_gradient, of_continuous = [], [], []
    for steps in (8, 16, 32):
        for adjoint in ("discrete", "continuous"):
            net = lf.ode(
                lf.dense(3, bias=False), (0, 0.9), method=method, steps=steps, adjoint=adjoint
            )
            z, cache = net.forward(params, x)
            error = (net.input_grad(params, cache, g) - g @ flow.mT).norm().item()
            (of_gradient if adjoint == "discrete" else of_continuous).append(error)
        errors.append((z - x @ flow).norm().item())
    for measured in (errors, of_gradient, of_continuous):
        assert same_number(orders(measured), [order] * 2, terms=1.0, error=0.35)


@pytest.mark.full(but=("euler-1", "midpoint-2"))
@pytest.mark.parametrize(("method", "order"), [("euler", 1), ("midpoint", 2), ("rk4", 4)])
def test_the_continuous_gradient_comes_closer_to_the_discrete_by_the_order(method, order):
    field = lf.serial(lf.concatenate(), lf.dense(4), lf.tanh(), lf.dense(3))
    errors = []
    for steps in (8, 16, 32, 64):
        discrete, continuous = (
            lf.ode(field, (0.2, 1.4), method=method, steps=steps, adjoint=adjoint, time_dim=-1)
            for adjoint in ("discrete", "continuous")
        )
        params, y, cache, g = run(discrete, X, torch.float64)
        own_y, kept = continuous.forward(params, X.double())
        assert same_bits(own_y, y)
        pairs = zip(
            lf.tree.leaves(continuous.backward(params, kept, g)),
            lf.tree.leaves(discrete.backward(params, cache, g)),
            strict=True,
        )
        errors.append(max(((a - b).norm() / b.norm()).item() for a, b in pairs))
    # At least, for some errors cancel.
    assert math.log2(errors[0] / errors[-1]) / 3 > order - 0.4
    assert errors[-1] < 10 * (1.2 / 64) ** order


def test_one_step_is_the_formula():
    net = lf.ode(IN_TIME, (0.5, 0.9), steps=1, time_dim=-1)
    params, y, _, _ = run(net, X, torch.float64)
    x, h = X.double(), 0.4

    def f(t, z):
        return IN_TIME.predict(params, (z, torch.full((5, 1), t, dtype=torch.float64)))

    k1 = f(0.5, x)
    k2 = f(0.7, x + h / 2 * k1)
    k3 = f(0.7, x + h / 2 * k2)
    k4 = f(0.9, x + h * k3)
    assert same_number(y, x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4))
    middle = lf.ode(IN_TIME, (0.5, 0.9), method="midpoint", steps=1, time_dim=-1)
    assert same_number(middle.predict(params, x), x + h * k2)


def test_memory_of_the_continuous_adjoint_does_not_grow_with_the_steps():
    # Once with large activations, once with a large matrix.
    for x, width in ((normal(200, 10), 40), (normal(1, 10), 500)):
        peaks = {}
        for adjoint, steps in (("continuous", 4), ("continuous", 12), ("discrete", 12)):
            net = lf.ode(
                lf.serial(lf.dense(width), lf.tanh(), lf.dense(10)), steps=steps, adjoint=adjoint
            )
            params, _, _, g = run(net, x)
            peaks[adjoint, steps] = peak_bytes(forward_and_backward, net, params, x, g)
        assert peaks["continuous", 4] == peaks["continuous", 12]
        assert peaks["discrete", 12] > peaks["continuous", 12]
        if width == 500:
            assert peaks["discrete", 12] < 6 * params[0].weight.nbytes + 64 * 4 * 2000


@pytest.mark.parametrize("adjoint", ["discrete", "continuous"])
def test_one_mask_is_drawn_on_the_way_and_states_advance_once(adjoint):
    net = lf.ode(FIELD, steps=2, method="euler", adjoint=adjoint)
    params, y, cache, _ = run(net, X)
    k, _ = FIELD.forward(params, X)
    z = X + k / 2
    k, of_last = FIELD.forward(params, z)
    assert same_number(y, z + k / 2)
    assert same_bits(net.advance(params, cache), FIELD.advance(params, of_last))


def test_float32_keeps_its_dtype():
    net = lf.ode(IN_TIME, time_dim=-1, adjoint="continuous")
    params, y, cache, g = run(net, X)
    exact, kept = net.forward(cast(params), X.double())
    assert same_number(y, exact, dtype=torch.float32)
    assert y.dtype is net.input_grad(params, cache, g).dtype is torch.float32
    assert kept.arrays.dtype is torch.float64
