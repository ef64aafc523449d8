"""Outputs from inside a network, and gradients that are stopped."""

import pytest
import torch
from helpers import begin, first_run, normal, same_bits, same_number

import lincoln_fn as lf

INNER = lf.serial(lf.dense(6), lf.tanh(), lf.dense(4))
NET = lf.serial(lf.dense(4), lf.checkpointed(INNER), lf.residual(lf.tanh()), lf.dense(2))
X = normal(5, 3)
PARAMS = NET.init(lf.Key(0), X)
MSE = lf.losses.mse()


def test_outputs_come_in_the_order_of_the_paths_and_of_a_pattern():
    net = lf.tapped(NET, "2", "*.0.1", "0")
    y, outputs = net.predict(PARAMS, X)
    h = NET.parts[0].predict(PARAMS[0], X)
    inner = INNER.parts[1].predict((), INNER.parts[0].predict(PARAMS[1][0], h))
    after = NET.parts[2].predict(PARAMS[2], NET.parts[1].predict(PARAMS[1], h))
    assert same_bits((y, outputs), (NET.predict(PARAMS, X), (after, inner, h)))
    assert net.name == f"tapped({NET.name}, '2', '*.0.1', '0')"
    assert same_bits(net.init(lf.Key(0), X), PARAMS)
    again = lf.map_layers(lambda layer: layer, net)
    assert same_bits(again.init(lf.Key(0), X), PARAMS)


def test_a_step_adds_the_gradient_of_an_inner_loss():
    net = lf.tapped(NET, "1.0.1")
    inner = lf.losses.through(lf.select(0), MSE)
    loss = lf.losses.weighted({"y": (1.0, MSE), "inner": (0.3, inner)})
    target = normal(5, 2, seed=1), torch.zeros(5, 6)
    step, state = begin(net, X, loss, lf.optim.sgd(1.0))
    new, value = step(state, (X, target))
    watched = lf.tree.map(lambda leaf: leaf.clone().requires_grad_(), state.params)
    first, (second, _, third), _, last = watched
    a = torch.tanh((X @ first.weight + first.bias) @ second.weight + second.bias)
    h = a @ third.weight + third.bias
    y = (h + torch.tanh(h)) @ last.weight + last.bias
    expected = (y - target[0]).square().mean() + 0.3 * a.square().mean()
    slopes = torch.autograd.grad(expected, lf.tree.leaves(watched))
    assert same_number(value, expected.detach())
    moved = lf.tree.leaves(lf.tree.map(torch.sub, state.params, new.params))
    assert same_number(moved, list(slopes), terms=1.0)  # the size of params


def test_an_output_of_a_frozen_part_is_there_though_its_cache_is_dropped():
    net = lf.tapped(lf.serial(lf.frozen(INNER), lf.dense(2)), "0.0.1")
    params = net.init(lf.Key(0), X)
    (_, outputs), cache = lf.walk.forward_to_train(net, params, X)
    assert same_bits(outputs, net.predict(params, X)[1])
    assert cache[0] is None


def test_a_part_of_an_own_combinator_that_runs_twice_is_refused():
    def there(visit, params, x):
        x, first = visit(0, params, x)
        x, second = visit(0, params, x)
        return x, (first, second)

    twice = lf.walk.composition(
        "twice", (lf.dense(3),), there, None, init=lambda parts, key, x: parts[0].init(key, x)
    )
    net = lf.tapped(twice, "0")
    with pytest.raises(lf.LayerError, match=r"expected a part that runs once, got twice\[0\]"):
        net.predict(net.init(lf.Key(0), X), X)


def test_the_true_gradient_of_a_rule_goes_through_an_output():
    net = lf.tapped(lf.rules.straight_through(INNER), "0.1")
    params, y, cache = first_run(net, normal(5, 4))
    true, plain = lf.rules.backpropagation(net), lf.tapped(lf.serial(INNER), "0.1")
    g = lf.tree.map(torch.ones_like, y)
    assert same_bits(net.input_grad(params, cache, g), g[0])
    expected = plain.input_grad((params,), plain.forward((params,), normal(5, 4))[1], g)
    assert same_bits(true.input_grad(params, cache, g), expected)


def test_a_constant_keeps_nothing_in_a_step_and_runs_as_after_training():
    teacher = lf.serial(lf.dense(7), lf.batch_norm(), lf.dropout(0.5))
    net = lf.serial(lf.dense(3), lf.branch(lf.dense(7), lf.constant(teacher)))
    params = net.init(lf.Key(0), X)
    y, cache = lf.walk.forward_to_train(net, params, X)
    assert same_bits(y, net.predict(params, X))
    assert cache[1][1].untyped_storage().nbytes() == X.element_size()
    assert same_bits(net.advance(params, cache), params)


def test_a_stopped_gradient_is_checked_and_one_of_zero_elsewhere_is_still_wrong():
    tanh = lf.tanh().replace(backward=lambda params, y, g: (0 * g, ()))
    with pytest.raises(lf.testing.GradientError, match=r"1 tanh.*dx is zero"):
        lf.testing.check_layer(lf.branch(lf.stop_gradient(), tanh), ((), ()), X)
    pair = lf.parallel(lf.stop_gradient(), lf.identity())
    loss = lf.losses.weighted(
        {"code": (1.0, lf.losses.through(lf.serial(pair, lf.subtract()), MSE)), "x": (0.5, MSE)}
    )
    prediction, target = ((X, normal(5, 3, seed=1)), X), (normal(5, 3, seed=2), torch.zeros(5, 3))
    lf.testing.check_loss(loss, prediction, target)
    (dx, dq), _ = loss.backward(loss.forward(prediction, target)[1])
    assert same_bits(dx, torch.zeros(5, 3))
    assert same_number(dq, 2 * (prediction[0][1] - X + target[0]) / 15)
