"""Reversible blocks: the input is recomputed from the output, and memory is flat in depth."""

import pytest
import torch
from helpers.cases.case import normal
from helpers.compare import same_bits, same_number
from helpers.compositions import (
    CONTEXTS,
    check_compiled,
    check_trace,
    check_walks,
    forward_and_backward,
    peak_bytes,
    run,
)
from torch.nn.functional import linear

import lincoln_fn as lf

F = lf.serial(lf.dense(3), lf.tanh(), lf.dropout(0.4))
H = lf.serial(lf.dense(5), lf.batch_norm(), lf.tanh(), lf.dense(3))
X = normal(7, 6)
NETS = {
    "one block": (lf.reversible((F, H)), X),
    "three blocks": (lf.reversible((F, H), (H, lf.tanh()), (lf.dense(3), F)), X),
    "channels": (
        lf.reversible((lf.conv2d(2, 3, padding=1), lf.group_norm(2)), (lf.relu(), F), dim=1),
        normal(3, 4, 5, 3),
    ),
    "a pair of other sizes": (lf.reversible((lf.dense(2), lf.dense(3))), (X[:, :2], X[:, 2:5])),
}
each = pytest.mark.parametrize("name", NETS)


@each
def test_gradients_are_proven(name):
    layer, x = NETS[name]
    lf.testing.check_layer(layer, layer.init(lf.Key(1), x), x, predict_is_forward=False)


@pytest.mark.parametrize("context", CONTEXTS)
def test_gradients_are_proven_within_other_compositions(context):
    layer = CONTEXTS[context](NETS["three blocks"][0])
    lf.testing.check_layer(layer, layer.init(lf.Key(1), X), X, predict_is_forward=False)


@each
def test_walks_have_the_bits_of_backward(name):
    check_walks(*NETS[name])


def test_every_layer_is_traced():
    check_trace(*NETS["three blocks"])


def test_it_is_the_formula_of_the_paper():
    wide = lf.serial(lf.dense(4), lf.dense(3))
    net = lf.reversible((lf.dense(3), lf.tanh()), (wide, lf.dense(3)))
    params, y, cache, g = run(net, X, torch.float64)
    watched = lf.tree.map(lambda leaf: leaf.clone().requires_grad_(), params)
    x = X.double().requires_grad_()
    with torch.enable_grad():
        dense, _, (first, second), last = watched
        x1, x2 = x[:, :3], x[:, 3:]
        y1 = x1 + linear(x2, dense.weight.mT, dense.bias)
        y2 = x2 + torch.tanh(y1)
        inner = linear(linear(y2, first.weight.mT, first.bias), second.weight.mT, second.bias)
        z1 = y1 + inner
        z2 = y2 + linear(z1, last.weight.mT, last.bias)
        expected = torch.cat([z1, z2], 1)
        grads = torch.autograd.grad(expected, [x, *lf.tree.leaves(watched)], g)
    assert same_number(y, expected.detach())
    dx, dparams = net.backward(params, cache, g)
    assert same_number((dx, *lf.tree.leaves(dparams)), grads)


def test_a_tuple_and_a_tensor_give_the_same():
    net = NETS["three blocks"][0]
    params, y, _, _ = run(net, X)
    halves, _ = net.forward(params, (X[:, :3], X[:, 3:]))
    assert same_bits(torch.cat(halves, 1), y)


def test_the_cache_is_the_output_and_the_next_states():
    layer, x = NETS["three blocks"]
    params, y, cache, _ = run(layer, x)
    assert cache.arrays is y
    kept = {id(leaf) for leaf in lf.tree.leaves(cache, states=True)}
    theirs = {id(leaf) for leaf in lf.tree.leaves(params)}
    own = [leaf for leaf in lf.tree.leaves(cache, states=True) if id(leaf) not in theirs]
    assert theirs <= kept
    assert sum(leaf.numel() for leaf in own) == y.numel() + 2 * (1 + 5 + 5 + 1)


def test_states_advance_as_in_the_parts_alone():
    net = lf.reversible((F, H))
    params, _, cache, _ = run(net, X)
    f_of_x2, of_f = F.forward(params[0], X[:, 3:])
    _, of_h = H.forward(params[1], X[:, :3] + f_of_x2)
    expected = (F.advance(params[0], of_f), H.advance(params[1], of_h))
    assert same_bits(net.advance(params, cache), expected)
    trained = lf.tree.map(lambda leaf: leaf + 1, params)
    assert same_bits(lf.tree.leaves(net.advance(trained, cache)), lf.tree.leaves(trained))


def test_parts_that_are_not_trained_get_no_dx():
    def refuse(*arguments):
        raise AssertionError("nobody needs this dx")

    still = lf.tanh().replace(input_grad=refuse)
    net = lf.reversible((still, lf.frozen(lf.dense(3))), (lf.dense(3), lf.dense(3)))
    params, _, cache, g = run(net, X)
    expected = lf.map_layers(lambda part: lf.tanh() if part is still else part, net)
    assert same_bits(net.grads(params, cache, g), expected.backward(params, cache, g)[1])


def peak_of_step(net, x):
    """Measure forward and backward, without the gradients of the parameters."""
    params, _, _, g = run(net, x)
    peak = peak_bytes(forward_and_backward, net, params, x, g)
    return peak - sum(leaf.nbytes for leaf in lf.tree.leaves(params))


def test_memory_does_not_grow_with_depth():
    x = normal(256, 40)
    block = (lf.serial(lf.dense(20), lf.tanh()), lf.serial(lf.dense(20), lf.tanh()))
    peaks = {depth: peak_of_step(lf.reversible(*[block] * depth), x) for depth in (4, 64)}
    assert peaks[64] == peaks[4]
    plain = lf.repeat(16, lf.residual(lf.serial(lf.dense(40), lf.tanh())))
    assert peak_of_step(plain, x) > 3 * peaks[64]


@pytest.mark.usefixtures("uncompiled")
def test_a_compiled_step_gives_the_same():
    check_compiled(lf.reversible((F, H), (lf.dense(3), F)), X)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: lf.reversible(), "at least one of blocks"),
        (lambda: lf.reversible(lf.tanh(), lf.tanh()), r"expected blocks\[0\] to be"),
        (lambda: lf.reversible((lf.tanh(), 3)), r"expected blocks\[0\]\[1\] to be a Layer"),
        (lambda: run(lf.reversible((F, H)), X[:, :5]), "an even number of features in axis -1"),
        (lambda: run(lf.reversible((F, H), dim=2), X), "an axis dim=2"),
        (lambda: run(lf.reversible((F, H)), (X,)), "a tensor or a tuple of two"),
        (
            lambda: run(lf.serial(lf.reversible((F, lf.dense(2)))), X),
            r"serial\[0\] reversible\[1\] dense\(2\): expected its output to have the shape",
        ),
    ],
)
def test_what_does_not_fit_is_refused(make, message):
    with pytest.raises(lf.LayerError, match=message):
        make()


def test_a_cache_of_another_layer_is_refused():
    net = lf.reversible((F, H))
    params, _, _, g = run(net, X)
    with pytest.raises(lf.LayerError, match="reversible: expected the cache of its own forward"):
        net.backward(params, (g,), g)


def test_the_name_is_the_code_that_makes_it():
    block = (lf.dense(3), lf.tanh())
    assert lf.reversible(block).name == "reversible((dense(3), tanh()))"
    assert lf.reversible(*[block] * 3).name == "reversible(*[(dense(3), tanh())] * 3)"
    assert lf.reversible(block, block[::-1], dim=1).name == (
        "reversible((dense(3), tanh()), (tanh(), dense(3)), dim=1)"
    )
