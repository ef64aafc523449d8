"""A network with a rule is like any other: it trains, compiles, and its tensors have names."""

import pytest
import torch
from helpers import begin, first_run, largest, same_bits, same_number
from helpers.compositions import check_split
from helpers.rules import RULES, X, ruled

import lincoln_fn as lf

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
