"""A patched network runs as the network would with other outputs, gradients or cache entries."""

from functools import partial

import pytest
import torch
from helpers import assert_says, begin, first_run, run, same_bits, same_number
from helpers.refusals import refusals

import lincoln_fn as lf
from lincoln_fn.inspect.patching import outputs, patched
from lincoln_fn.walk import gradients, there

X = lf.keys.normal(lf.Key(1), (5, 4), dtype=torch.float64)
G = lf.keys.normal(lf.Key(2), (5, 3), dtype=torch.float64)
NET = lf.serial(
    lf.dense(6),
    lf.residual(lf.serial(lf.layer_norm(), lf.tanh(), lf.dense(6))),
    lf.dropout(0.5),
    lf.dense(3),
)
PARAMS = NET.init(lf.Key(3), X)
DELTA = lf.keys.normal(lf.Key(4), (5, 6), dtype=torch.float64)


def after(path_index, h, params=PARAMS):
    """Run the layers behind one of the outermost."""
    return lf.serial(*NET.parts[path_index + 1 :]).predict(params[path_index + 1 :], h)


# Outputs


def test_an_output_is_replaced_or_shifted_in_predict_and_forward():
    h = NET.parts[0].predict(PARAMS[0], X)
    for patch, expected in ((DELTA, DELTA), (lambda y: y + DELTA, h + DELTA)):
        net = patched(NET, {"0": patch})
        assert same_bits(net.predict(PARAMS, X), after(0, expected))
        y, _ = lf.inference(NET).forward(PARAMS, X)
        assert same_bits(y, NET.predict(PARAMS, X))
        out, _ = net.forward(PARAMS, X)
        rest = lf.serial(*NET.parts[1:])
        assert same_bits(out, rest.forward(PARAMS[1:], expected)[0])


def test_the_output_of_a_composition_is_patched_and_its_parts_are_still_reached():
    net = patched(NET, {"1": DELTA, "1.0.1": torch.zeros_like})
    assert same_bits(net.predict(PARAMS, X), after(1, DELTA))
    assert net.composition is not None
    seen = []

    def visit(layer, path, params, x):
        y = layer.predict(params, x)
        seen.append((path, y.abs().sum() == 0))
        return y, None

    y, _ = there(visit, net, PARAMS, X)
    assert same_bits(y, net.predict(PARAMS, X))
    assert dict(seen)["1.0.1"]
    assert [path for path, _ in seen] == ["0", "1.0.0", "1.0.1", "1.0.2", "1.1", "1.2", "2", "3"]


def test_the_whole_network_and_a_single_layer_have_the_empty_path():
    assert same_bits(patched(NET, {"": -G}).predict(PARAMS, X), -G)
    tanh = patched(lf.tanh(), {"": lambda y: 2 * y}, caches={"": torch.zeros_like})
    y, cache = tanh.forward((), X)
    assert same_number((y, cache), (2 * X.tanh(), torch.zeros_like(X)))


def test_nothing_changes_but_what_is_patched():
    net = patched(NET, {"1.2": lambda y: y})
    y, cache = net.forward(PARAMS, X)
    own, own_cache = NET.forward(PARAMS, X)
    assert same_bits((y, cache), (own, own_cache))
    assert same_bits(net.backward(PARAMS, cache, G), NET.backward(PARAMS, own_cache, G))
    assert same_bits(net.init(lf.Key(3), X), PARAMS)
    assert net.name == NET.name
    mine = NET.replace(name="mine()", init=lambda key, x: "own")
    mine = patched(mine, {"": lambda y: y})
    assert (mine.name, mine.init(lf.Key(0), X)) == ("mine()", "own")
    states = [lf.tree.leaves(n.advance(PARAMS, own_cache), states=True) for n in (net, NET)]
    assert same_bits(*map(tuple, states))


def test_every_use_of_a_shared_layer_is_patched():
    net = lf.serial(lf.shared(lf.tanh()), lf.add())
    found = patched(net, {"0.0": lambda y: y + 1}).predict(((), ()), (X, 2 * X))
    assert same_number(found, (X.tanh() + 1) + ((2 * X).tanh() + 1))


def test_an_output_of_several_tensors_is_patched():
    net = lf.serial(lf.parallel(lf.tanh(), lf.relu()), lf.add())
    found = patched(net, {"0": lambda y: (y[0], -y[1])}).predict((((), ()), ()), (X, X))
    assert same_number(found, X.tanh() - X.relu())


# Gradients


def autograd_of(run, params, x):
    leaves = [leaf.clone().requires_grad_() for leaf in lf.tree.leaves(params)]
    rest = iter(leaves)
    x = x.clone().requires_grad_()
    # A patched network may be a constant, which has no graph.
    y = run(lf.tree.map(lambda _: next(rest), params), x) + 0 * x.sum()
    found = torch.autograd.grad(y, [x, *leaves], G, allow_unused=True)
    return [
        torch.zeros_like(p) if d is None else d for d, p in zip(found, [x, *leaves], strict=True)
    ]


@pytest.mark.parametrize("path", ["0", "1", "1.0.1", "3", "1.0"])
@pytest.mark.parametrize("is_shift", [True, False])
def test_backward_is_that_of_the_patched_network(path, is_shift):
    net = lf.inference(NET)
    like = outputs(net, PARAMS, X)[path]
    value = lf.keys.normal(lf.Key(5), tuple(like.shape), dtype=torch.float64)
    net = patched(net, {path: (lambda y: y + value) if is_shift else value})
    _, cache = net.forward(PARAMS, X)
    dx, dparams = net.backward(PARAMS, cache, G)
    expected = autograd_of(net.predict, PARAMS, X)
    assert same_number([dx, *lf.tree.leaves(dparams)], expected)
    assert same_bits((net.input_grad(PARAMS, cache, G), net.grads(PARAMS, cache, G)), (dx, dparams))


def test_a_gradient_is_replaced_or_shifted():
    _, cache = NET.forward(PARAMS, X)
    dh, dlast = lf.serial(*NET.parts[1:]).backward(PARAMS[1:], cache[1:], G)
    for patch, g in ((DELTA, DELTA), (lambda g: 2 * g, 2 * dh)):
        net = patched(NET, gradients={"0": patch})
        dx, dparams = net.backward(PARAMS, net.forward(PARAMS, X)[1], G)
        expected_dx, expected = NET.parts[0].backward(PARAMS[0], cache[0], g)
        assert same_bits((dx, dparams), (expected_dx, (expected, *dlast)))


def test_the_gradient_of_a_composition_is_patched():
    _, dx, dparams = run(patched(NET, gradients={"1": torch.zeros_like}), PARAMS, X, G)
    assert same_number(dx, torch.zeros_like(X))
    assert dparams[3].weight.abs().sum() > 0
    assert dparams[1][0][2].weight.abs().sum() == 0


def test_the_gradient_of_a_patched_output_may_be_patched_too():
    net = patched(lf.tanh(), {"": lambda y: 3 * y}, gradients={"": lambda g: 3 * g})
    y, cache = net.forward((), X)
    assert same_number(net.input_grad((), cache, y), 3 * y * (1 - X.tanh() ** 2))


UNTRAINED = lf.residual(lf.serial(lf.tanh(), lf.relu()))
LATE = lf.serial(UNTRAINED, lf.frozen(lf.dense(4)), lf.dense(3), lf.tanh())


@pytest.mark.parametrize("path", ["0", "0.0", "0.0.1", "0.1", "1", "1.0"])
@pytest.mark.parametrize("around", [lf.serial, lf.checkpointed, lambda net: lf.residual(net, net)])
def test_a_patch_of_g_before_the_first_trained_layer_is_refused_by_grads(path, around):
    net = around(LATE)
    path = f"0.{path}"
    params = net.init(lf.Key(3), X)
    both = patched(net, gradients={path: lambda g: 2 * g, "0.2": lambda g: 3 * g})
    _, cache = both.forward(params, X)
    own_dx, own = net.backward(params, net.forward(params, X)[1], G)
    dx, dparams = both.backward(params, cache, G)
    assert not same_number(dx, own_dx)
    assert same_bits(both.input_grad(params, cache, G), dx)
    for walk in (both.grads, partial(gradients, both), partial(lf.cotangents, both, dx=False)):
        assert_says(f"the patch of g at '{path}' has no effect", walk, params, cache, G)
    patched_alone = patched(net, gradients={"0.2": lambda g: 3 * g})
    assert same_bits(patched_alone.grads(params, cache, G), dparams)
    assert not same_number(lf.tree.leaves(dparams)[0], lf.tree.leaves(own)[0])


def test_a_patch_of_g_behind_the_first_trained_layer_reaches_grads():
    net = lf.serial(lf.tanh(), lf.dense(4), UNTRAINED, lf.dense(3))
    params, _, cache = first_run(net, X, 3)
    own = net.grads(params, cache, G)
    for path in ("2", "2.0", "2.0.0", "2.0.1", "2.1", "3", "1", ""):
        changed = patched(net, gradients={path: lambda g: 2 * g})
        dparams = changed.grads(params, cache, G)
        assert same_bits(changed.backward(params, cache, G)[1], dparams)
        assert not same_number(dparams[1].weight, own[1].weight), path


# Cache entries


def test_a_cache_entry_is_replaced():
    net = patched(NET, caches={"1.0.0.x_hat": torch.zeros_like, "0": 2 * X})
    y, cache = net.forward(PARAMS, X)
    own, own_cache = NET.forward(PARAMS, X)
    assert same_bits((y, cache[0]), (own, 2 * X))
    assert not cache[1][0][0].x_hat.any()
    assert same_bits((cache[1][0][0].rstd, cache[2:]), (own_cache[1][0][0].rstd, own_cache[2:]))
    _, dparams = net.backward(PARAMS, cache, G)
    assert not dparams[1][0][0].weight.any()


def test_a_patched_network_trains_with_the_functions_of_a_step():
    net = patched(NET, gradients={"3": lambda g: g * 0}, outputs={"1.0.1": torch.zeros_like})
    x, target = X.float(), G.float()
    step, first = begin(net, x, lf.losses.mse())
    state, record = next(iter(lf.train(step, first, [(x, target)])))
    assert same_bits(lf.tree.leaves(state.params), lf.tree.leaves(first.params))
    assert record.loss > 0


def test_lf_fast_keeps_the_patches():
    net = patched(lf.serial(*NET.parts[:2], NET.parts[3]), {"1": DELTA.float(), "2": lambda y: -y})
    x, params = X.float(), lf.tree.map(lambda p: p.float(), (*PARAMS[:2], PARAMS[3]))
    assert same_number(lf.fast(net).predict(params, x), net.predict(params, x))
    expected = -(DELTA.float() @ params[2].weight + params[2].bias)
    assert same_number(lf.fast(net).predict(params, x), expected)


# What is refused


def run_patched(**patches):
    net = patched(NET, **patches)
    net.backward(PARAMS, net.forward(PARAMS, X)[1], G)


test_a_patch_that_touches_nothing_or_does_not_fit_is_refused = refusals("""
run_patched(outputs={}) -> patched: expected at least one patch, got none
run_patched(outputs={'1.4': G}) -> expected the path of a layer, got '1.4'; near it are ... '1.2'
run_patched(outputs={'dense': G}) -> the path of a layer, got 'dense'; there are '', '0', '1'
run_patched(gradients={'4': G}) -> expected the path of a layer, got '4'
run_patched(caches={'1': G}) -> expected the path of a layer, got '1'
run_patched(caches={2: G}) -> expected a key of caches to be a str, got 2
run_patched(outputs={'0': G}) -> serial[0] dense(6): expected a new y like the old, float64[5, 6],
    got float64[5, 3]
run_patched(outputs={'0': lambda y: y.float()}) -> got float32[5, 6]
run_patched(outputs={'1': (G, G)}) -> expected a new y like the old
run_patched(outputs={'1': 0.0}) -> got 0.0
run_patched(caches={'1.0.0.hat': X}) -> expected an entry of the cache, 'x_hat', 'rstd', got 'hat'
run_patched(caches={'3.x': X}) -> expected an entry of the cache, '', got 'x'
run_patched(gradients={'1': X}) -> expected a new g like the old, float64[5, 6], got
""")


# All outputs


def test_outputs_are_those_of_predict_at_every_path():
    found = outputs(NET, PARAMS, X)
    expected = ["0", "1.0.0", "1.0.1", "1.0.2", "1.0", "1.1", "1.2", "1", "2", "3", ""]
    assert list(found) == expected
    assert same_bits((found[""], found["1"]), (NET.predict(PARAMS, X), found["2"]))
    assert same_number(found["1.0.1"], found["1.0.0"].tanh())
    for path, y in found.items():
        again = patched(NET, {path: y}).predict(PARAMS, X)
        assert same_bits(again, found[""]), path


def test_each_use_of_a_shared_layer_has_its_output():
    net = lf.serial(lf.shared(lf.residual(lf.tanh())), lf.add())
    found = outputs(net, (((), ()), ()), (X, 2 * X))
    assert same_number((found["0.0.0"], found["0.0.0, use 2"]), (X.tanh(), (2 * X).tanh()))
    assert same_number(found["0.0, use 2"], (2 * X).tanh() + 2 * X)


def test_a_composition_with_its_own_loop_of_predict_keeps_it():
    net = lf.rules.local_losses(lf.serial(lf.dense(5), lf.tanh(), lf.dense(3)), 3)
    x = lf.keys.normal(lf.Key(5), (4, 2))
    params = net.init(lf.Key(0), x)
    y = net.predict(params, x)
    assert y.shape == (4, 3)
    shifted = patched(net, {"0": lambda h: h + 1})
    assert shifted.predict(params, x).shape == (4, 3)
    assert not same_number(shifted.predict(params, x), y)
    whole = patched(net, {"": lambda given: lf.tree.map(lambda leaf: 2 * leaf, given)})
    assert same_number(whole.predict(params, x), 2 * y)
    head, twice = net.forward(params, x)[0], whole.forward(params, x)[0]
    assert same_number(twice, lf.tree.map(lambda leaf: 2 * leaf, head))
