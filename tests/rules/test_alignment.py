"""The angle to the true gradient, and the networks without their rules."""

import math

import pytest
import torch
from helpers import first_run, normal, same_bits, same_number
from helpers.refusals import refusals
from helpers.rules import LABELS, NET, RULES, SOFTMAX, X

import lincoln_fn as lf
from lincoln_fn import rules

SHAPED = {name: RULES[name] for name in RULES if name != "forward_forward"}


def angle(given, expected):
    one, other = (
        torch.cat([leaf.flatten() for leaf in lf.tree.leaves(t)]) for t in (given, expected)
    )
    cosine = (one @ other) / (one.norm() * other.norm())
    return math.degrees(torch.acos(cosine.clamp(max=1)).item())  # rounding may put it above 1


def test_it_is_the_angle_between_the_gradients_of_each_layer():
    x, params = X.double(), None
    for name in ("feedback_alignment", "fixed", "direct_feedback_alignment", "pepita"):
        net, _, _ = RULES[name]
        params = net.init(lf.Key(1), x)
        wrapped = name in ("feedback_alignment", "fixed")
        own = tuple(getattr(entry, "params", entry) for entry in params[: len(NET.parts)])
        y, cache = NET.forward(own, x)
        g = SOFTMAX.backward(SOFTMAX.forward(y, LABELS)[1])
        expected = NET.grads(own, cache, g)
        given = net.grads(params, net.forward(params, x)[1], g)
        angles = rules.alignment(net, params, x, SOFTMAX, LABELS)
        assert list(angles) == ["0.0", "1", "5.0", "8.0"] if wrapped else ["0", "1", "5", "8"]
        for path, value in angles.items():
            i = int(path[0])
            mine = getattr(given[i], "params", given[i])
            assert same_number(value, angle(mine, expected[i]), terms=1.0, error=0.0001)
        assert angles["0.0" if wrapped else "0"] > 10
        assert angles["8.0" if wrapped else "8"] < (5 if name == "pepita" else 1e-3)


@pytest.mark.parametrize("name", SHAPED)
def test_backpropagation_takes_the_rules_out(name):
    net, loss, target = RULES[name]
    params = net.init(lf.Key(1), X)
    true = rules.backpropagation(net)
    assert str(true) == str(net)
    prediction, cache = net.forward(params, X)
    assert same_bits(true.forward(params, X)[0], prediction)
    g = loss.backward(loss.forward(prediction, target)[1])
    dx, dparams = true.backward(params, cache, g)
    own = tuple(getattr(entry, "params", entry) for entry in params[: len(NET.parts)])
    y, own_cache = NET.forward(own, X)
    own_g = SOFTMAX.backward(SOFTMAX.forward(y, LABELS)[1]) * (0.01 if name == "both" else 1)
    expected_dx, expected = NET.backward(own, own_cache, own_g)
    assert same_number(dx, expected_dx)
    mine = lf.tree.leaves([getattr(entry, "params", entry) for entry in dparams[: len(NET.parts)]])
    assert same_number(mine, lf.tree.leaves(expected))
    assert same_bits(true.grads(params, cache, g), dparams)


def test_a_layer_used_twice_has_the_angle_between_the_sums():
    net = rules.feedback_alignment(lf.serial(lf.shared(lf.dense(3)), lf.add(), lf.dense(2)))
    x = normal(4, 3), normal(4, 3, seed=1)
    params, y, cache = first_run(net, x)
    loss, target = lf.losses.mse(), normal(4, 2, seed=2)
    g = loss.backward(loss.forward(y, target)[1])
    given = net.grads(params, cache, g)[0].params
    true = rules.backpropagation(net).grads(params, cache, g)[0].params
    angles = rules.alignment(net, params, x, loss, target)
    assert list(angles) == ["0.0.0", "2.0"]
    assert same_number(angles["0.0.0"], angle(given, true), terms=1.0, error=0.01)


def test_a_gradient_of_zero_has_no_angle_and_a_frozen_layer_none():
    net = rules.feedback_alignment(lf.serial(lf.frozen(lf.dense(3)), lf.dense(4), lf.dense(2)))
    x = normal(4, 3)
    params = net.init(lf.Key(0), x)
    zero = net.predict(params, x)
    angles = rules.alignment(net, params, x, lf.losses.mse(), zero)
    assert list(angles) == ["1.0", "2.0"]
    assert all(map(math.isnan, angles.values()))


EACH, LOCAL = lf.losses.softmax_cross_entropy(reduction="none"), RULES["forward_forward"]
test_what_cannot_be_aligned_is_refused = refusals("""
rules.alignment(LOCAL[0], LOCAL[0].init(Key(0), X), X, *LOCAL[1:]) -> forward_forward, whose loss is
    local
rules.alignment(NET, NET.init(Key(0), X), X, EACH, LABELS) -> expected one number
rules.alignment(None, (), X, SOFTMAX, LABELS) -> expected net to be a Layer
""")
