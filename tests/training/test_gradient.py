"""A step whose gradient is an argument: `make_step(..., gradient=...)`."""

from __future__ import annotations

import pytest
import torch
from helpers.compare import same_bits, same_number

import lincoln_fn as lf
from lincoln_fn.training.protocols import Gradient

X = lf.keys.normal(lf.Key(1), (5, 3))
TARGET = lf.keys.normal(lf.Key(2), (5, 2))
NET = lf.serial(lf.dense(4), lf.tanh(), lf.dense(2))
LOSS = lf.losses.mse()


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


def _run(step, state, n: int):
    for _ in range(n):
        state, _ = step(state, (X, TARGET))
    return state


def _begin(optimizer: lf.Optimizer, gradient: Gradient | None) -> lf.TrainState:
    return lf.init_state(NET, optimizer, lf.Key(0), X, gradient=gradient)


@pytest.mark.parametrize("optimizer", [lf.optim.sgd(0.1), lf.optim.adam(0.1)], ids=str)
@pytest.mark.parametrize("donate", [False, True])
def test_backpropagation_as_an_argument_changes_nothing(optimizer, donate):
    made = lf.make_step(NET, LOSS, optimizer, gradient=PLAIN, donate=donate)
    plain = lf.make_step(NET, LOSS, optimizer)
    got = _run(made, _begin(optimizer, PLAIN), 3)
    wanted = _run(plain, _begin(optimizer, None), 3)
    assert same_number(got, wanted)


def test_each_step_has_a_key_of_its_own_and_a_run_repeats():
    optimizer = lf.optim.sgd(1.0)
    step = lf.make_step(NET, LOSS, optimizer, gradient=NOISY, fast=False)
    state = _begin(optimizer, NOISY)
    noises = []
    for n in range(2):
        y, cache = NET.forward(state.params, X)
        dparams = NET.grads(state.params, cache, LOSS.backward(LOSS.forward(y, TARGET)[1]))
        new, _ = step(state, (X, TARGET))
        noise = (state.params[0].bias - new.params[0].bias - dparams[0].bias)[0]
        expected = lf.keys.normal(state.key.fold_in(-1).fold_in(n), (1,))[0]
        assert same_number(noise, expected)
        noises.append(noise)
        state = new
    assert not same_number(*noises)
    assert same_bits(state, _run(step, _begin(optimizer, NOISY), 2))


@pytest.mark.parametrize("donate", [False, True])
def test_a_gradient_keeps_a_state(donate):
    optimizer = lf.optim.sgd(0.5)
    step = lf.make_step(NET, LOSS, optimizer, gradient=AVERAGED, donate=donate, fast=False)
    got = _run(step, _begin(optimizer, AVERAGED), 2)
    params, mean = _begin(optimizer, None).params, _zeros(NET, _begin(optimizer, None).params).of
    for _ in range(2):
        y, cache = NET.forward(params, X)
        dparams = NET.grads(params, cache, LOSS.backward(LOSS.forward(y, TARGET)[1]))
        mean = lf.tree.map(lambda m, dp: (m + dp) / 2, mean, dparams)
        params = lf.tree.map(lambda p, m: p - 0.5 * m, params, mean)
    assert same_number((got.params, got.gradient_state.of), (params, mean))


@pytest.mark.full(but=("averaged",))
@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize("gradient", [NOISY, AVERAGED], ids=str)
def test_a_compiled_step_agrees(gradient):
    optimizer = lf.optim.sgd(0.1, momentum=0.9)
    step = lf.make_step(NET, LOSS, optimizer, gradient=gradient)
    got = _run(lf.compile(step), _begin(optimizer, gradient), 3)
    wanted = _run(step, _begin(optimizer, gradient), 3)
    assert same_number(got, wanted)


def test_fit_takes_a_gradient():
    options = {"key": lf.Key(0), "batch_size": 5, "progress": False}
    fitted = [
        lf.fit(NET, LOSS, lf.optim.adam(0.1), (X, TARGET), gradient=gradient, **options)[0]
        for gradient in (AVERAGED, None)
    ]
    params = lf.init_state(NET, lf.optim.adam(0.1), lf.Key(0), X[:1]).params
    y, cache = NET.forward(params, X)
    dparams = NET.grads(params, cache, LOSS.backward(LOSS.forward(y, TARGET)[1]))
    assert same_number(fitted[0].gradient_state.of[0].bias, 0.5 * dparams[0].bias)
    assert fitted[1].gradient_state == ()


def test_a_wrong_kind_is_refused_and_a_step_names_its_gradient():
    with pytest.raises(lf.LayerError, match="make_step: expected gradient to be a Gradient"):
        lf.make_step(NET, LOSS, lf.optim.sgd(0.1), gradient=_plain)
    with pytest.raises(lf.LayerError, match="init_state: expected gradient to be a Gradient"):
        lf.init_state(NET, lf.optim.sgd(0.1), lf.Key(0), X, gradient=_plain)
    assert repr(lf.make_step(lf.relu(), LOSS, lf.optim.sgd(0.1), gradient=PLAIN)) == (
        "make_step(relu(), mse(), sgd(0.1), gradient=plain())"
    )
