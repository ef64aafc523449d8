"""A step whose gradient is an argument: `make_step(..., gradient=...)`."""

from __future__ import annotations

import pytest
import torch
from helpers import MSE, SGD, assert_same_steps, assert_says, begin, copied, taken
from helpers.compare import same_bits, same_number

import lincoln_fn as lf
from lincoln_fn.training.protocols import Gradient

X = lf.keys.normal(lf.Key(1), (5, 3))
TARGET = lf.keys.normal(lf.Key(2), (5, 2))
NET = lf.serial(lf.dense(4), lf.tanh(), lf.dense(2))
BATCH = X, TARGET


@lf.record
class Mean:
    """A running mean of the gradients."""

    of: object


def _plain(net, params, cache, g, state, key):
    return net.grads(params, cache, g), state


def _noisy(net, params, cache, g, state, key):
    """Add the first number that the step's key draws."""
    noise = lf.keys.normal(key, (1,))
    return lf.tree.map(lambda dp: dp + noise, net.grads(params, cache, g)), state


def _averaged(net, params, cache, g, state, key):
    mean = lf.tree.map(lambda m, dp: (m + dp) / 2, state.of, net.grads(params, cache, g))
    return mean, Mean(mean)


def _zeros(net, params):
    return Mean(lf.tree.map(torch.zeros_like, params))


PLAIN = Gradient("plain()", _plain)
NOISY = Gradient("noisy()", _noisy)
AVERAGED = Gradient("averaged()", _averaged, _zeros)


def _begin(optimizer: lf.Optimizer, gradient: Gradient | None, **options):
    return begin(NET, X, MSE, optimizer, gradient=gradient, **options)


def _dparams(params):
    y, cache = NET.forward(params, X)
    return NET.grads(params, cache, MSE.backward(MSE.forward(y, TARGET)[1]))


@pytest.mark.parametrize("optimizer", [lf.optim.sgd(0.1), lf.optim.adam(0.1)], ids=str)
@pytest.mark.parametrize("donate", [False, True])
def test_backpropagation_as_an_argument_changes_nothing(optimizer, donate):
    (made, state), (plain, _) = _begin(optimizer, PLAIN, donate=donate), _begin(optimizer, None)
    assert_same_steps(made, plain, state, *[BATCH] * 3)


def test_each_step_has_a_key_of_its_own_and_a_run_repeats():
    step, begun = _begin(lf.optim.sgd(1.0), NOISY, fast=False)
    state, noises = begun, []
    for n in range(2):
        new, _ = step(state, BATCH)
        dparams = _dparams(state.params)
        noise = (state.params[0].bias - new.params[0].bias - dparams[0].bias)[0]
        expected = lf.keys.normal(state.key.fold_in(-1).fold_in(n), (1,))[0]
        assert same_number(noise, expected)
        noises.append(noise)
        state = new
    assert not same_number(*noises)
    assert same_bits(state, taken(step, begun, BATCH, BATCH)[0])


@pytest.mark.parametrize("donate", [False, True])
def test_a_gradient_keeps_a_state(donate):
    step, state = _begin(lf.optim.sgd(0.5), AVERAGED, donate=donate, fast=False)
    params, mean = copied((state.params, state.gradient_state.of))
    got, _ = taken(step, state, BATCH, BATCH)
    for _ in range(2):
        mean = lf.tree.map(lambda m, dp: (m + dp) / 2, mean, _dparams(params))
        params = lf.tree.map(lambda p, m: p - 0.5 * m, params, mean)
    assert same_number((got.params, got.gradient_state.of), (params, mean))


@pytest.mark.full(but=("averaged",))
@pytest.mark.parametrize("gradient", [NOISY, AVERAGED], ids=str)
def test_a_compiled_step_agrees(gradient, uncompiled):
    step, state = _begin(lf.optim.sgd(0.1, momentum=0.9), gradient)
    assert_same_steps(lf.compile(step), step, state, *[BATCH] * 3)


def test_fit_takes_a_gradient():
    options = {"key": lf.Key(0), "batch_size": 5, "progress": False}
    fitted = [
        lf.fit(NET, MSE, lf.optim.adam(0.1), BATCH, gradient=gradient, **options)[0]
        for gradient in (AVERAGED, None)
    ]
    dparams = _dparams(begin(NET, X)[1].params)
    assert same_number(fitted[0].gradient_state.of[0].bias, 0.5 * dparams[0].bias)
    assert fitted[1].gradient_state == ()


def test_a_wrong_kind_is_refused_and_a_step_names_its_gradient():
    message, kind = "expected gradient to be a Gradient", {"gradient": _plain}
    assert_says(f"make_step: {message}", lf.make_step, NET, MSE, SGD, **kind)
    assert_says(f"init_state: {message}", lf.init_state, NET, SGD, lf.Key(0), X, **kind)
    assert repr(lf.make_step(lf.relu(), MSE, SGD, gradient=PLAIN)) == (
        "make_step(relu(), mse(), sgd(0.1), gradient=plain())"
    )
