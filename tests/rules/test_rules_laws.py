"""A network with a rule is like any other: it trains, compiles, and its tensors have names."""

import math

import pytest
import torch
from helpers import begin, first_run, largest, normal, same_bits, same_number
from helpers.compositions import check_split
from helpers.refusals import refusals
from helpers.rules import LABELS, NET, RULES, SOFTMAX, X, ruled

import lincoln_fn as lf
from lincoln_fn import rules

every_rule = pytest.mark.parametrize("name", RULES)


def trained(step, state, target, steps=3):
    for _ in range(steps):
        state, value = step(state, (X, target))
    return state, value


def run(name):
    net, loss, target = RULES[name]
    params, y, cache = first_run(net, X, 1)
    return net, params, cache, loss.backward(loss.forward(y, target)[1])


@every_rule
def test_the_split_has_the_bits_of_backward(name):
    check_split(*run(name))


@every_rule
def test_no_dx_is_computed_that_no_trained_part_needs(name):
    def refused(params, cache, g):
        raise AssertionError("nobody needs this dx")

    net, *_ = RULES[name]
    deaf = lf.map_layers(
        lambda la: la.replace(input_grad=refused, grads=la.grads) if "conv2d" in la.name else la,
        net,
    )
    params, _, cache = first_run(deaf, X, 1)
    g = run(name)[3]
    assert same_bits(deaf.grads(params, cache, g), net.grads(params, cache, g))


@pytest.mark.full(but=("[sgd(0.1)-pepita", "0.9)-feedback"))
@every_rule
@pytest.mark.parametrize("optimizer", [lf.optim.sgd(0.1), lf.optim.sgd(0.1, momentum=0.9)], ids=str)
def test_fast_and_donated_steps_are_those_of_the_formulas(name, optimizer):
    net, loss, target = RULES[name]
    states = []
    for options in ({"fast": False}, {"fast": True}, {"donate": True}):
        step, state = begin(net, X, loss, optimizer, key=1, **options)
        states.append(trained(step, state, target)[0])
    # A bias starts at 0, and its gradient is a sum that cancels: each step of 0.1 is rounded.
    for other in states[1:]:
        assert same_number(other, states[0], terms=max(0.1, largest(states[0])))


@pytest.mark.full
@every_rule
def test_the_graph_of_a_compiled_step_computes_the_step(name, uncompiled):
    net, loss, target = RULES[name]
    optimizer = lf.optim.sgd(0.1, momentum=0.9, weight_decay=0.01)
    step, state = begin(net, X, loss, optimizer, key=1)
    compiled, eager = (trained(each, state, target) for each in (lf.compile(step), step))
    # As above: the bias in front of a norm has a gradient that cancels.
    assert same_number(compiled, eager, terms=max(0.1, largest(eager[0])))


@every_rule
def test_its_tensors_have_names_and_are_found_by_them(name):
    net, *_ = RULES[name]
    params = net.init(lf.Key(1), X)
    named = lf.interop.to_state_dict(net, params)
    assert sum(t.numel() for t in named.values()) >= sum(t.numel() for t in lf.tree.leaves(params))
    given = lf.interop.from_state_dict(net, named, like=net.init(lf.Key(2), X))
    assert same_number(lf.tree.leaves(given), lf.tree.leaves(params))


# Learning


def toy():
    """Make two classes that no linear layer tells apart: the sign of x_0 x_1, and six constants."""
    x = lf.keys.uniform(lf.Key(3), (256, 2), -1.0, 1.0)
    x = torch.cat((torch.ones(256, 2), x, x.abs()), 1)
    return x, (x[:, 2] * x[:, 3] > 0).long()


MLP = lf.serial(lf.dense(24), lf.relu(), lf.dense(20), lf.relu(), lf.dense(2))
TOY = ruled(MLP, lf.serial(*MLP.parts[:4]), 2)


@pytest.mark.full
@pytest.mark.parametrize("name", TOY)
def test_it_learns(name):
    net, loss = TOY[name]
    x, labels = toy()
    step, state = begin(net, x, loss, lf.optim.adam(0.01, weight_decay=1e-4))
    for i in range(200):
        batch = x, labels
        if name == "forward_forward":
            batch = lf.rules.true_and_false_labels(lf.Key(4).fold_in(i), x, labels, 2)
        state, _ = step(state, batch)
    accuracy = (net.predict(state.params, x).argmax(1) == labels).float().mean()
    assert accuracy > 0.85


# The angle to the true gradient, and the networks without their rules.


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
