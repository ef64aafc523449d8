"""Rules that treat a network as blocks, against few lines of torch in float64."""

import math

import pytest
import torch
from helpers import assert_says, largest, normal, same_bits, same_number
from helpers.rules import with_gradients

import lincoln_fn as lf
from lincoln_fn.rules import matrices

X = normal(5, 2, 7, 6).double()
ROWS = normal(6, 5).double()
CONV = lf.serial(
    lf.conv2d(3, 3), lf.batch_norm(), lf.relu(), lf.max_pool2d(2), lf.flatten(),
    lf.dense(4), lf.tanh(), lf.dense(3), lf.log_softmax(),
)  # fmt: skip
MLP = lf.serial(lf.dense(7), lf.relu(), lf.dense(4), lf.tanh(), lf.dense(3))


def run(net, x, seed=3):
    params = net.init(lf.Key(seed), x)
    y, cache = net.forward(params, x)
    return params, y, cache, normal(*y.shape, seed=1).double()


def test_direct_feedback_alignment_by_autograd():
    net = lf.rules.direct_feedback_alignment(CONV)
    params, y, cache, g = run(net, X)
    dx, dparams = net.backward(params, cache, g)
    first_b, second_b = params[-1].matrices
    assert (first_b.shape, second_b.shape) == ((3, 3 * 2 * 2), (3, 4))

    x, ours = X.clone().requires_grad_(), with_gradients(params)
    conv, norm, hidden, last = ours[0], ours[1], ours[5], ours[7]
    h = torch.conv2d(x, conv.weight, conv.bias)
    h = torch.nn.functional.batch_norm(h, None, None, norm.weight, norm.bias, training=True)
    h1 = torch.nn.functional.max_pool2d(h.relu(), 2).flatten(1)
    h2 = torch.tanh(h1.detach() @ hidden.weight + hidden.bias)
    logits = h2.detach() @ last.weight + last.bias
    expected = logits.log_softmax(1)
    assert same_number(y, expected)
    (e,) = torch.autograd.grad(expected, logits, g, retain_graph=True)
    sent = [(h1, e @ first_b), (h2, e @ second_b), (logits, e)]
    blocks = [
        [x, *lf.tree.leaves(conv), *lf.tree.leaves(norm)],
        lf.tree.leaves(hidden),
        lf.tree.leaves(last),
    ]
    gradients = [
        gradient
        for (h, dh), inputs in zip(sent, blocks, strict=True)
        for gradient in torch.autograd.grad(h, inputs, dh)
    ]
    # A bias before a norm acts on nothing: its gradient cancels.
    assert same_number(lf.tree.leaves((dx, dparams)), gradients, terms=largest(gradients))
    assert same_number(net.grads(params, cache, g), dparams)


def test_the_error_of_each_entry_of_a_sequence_goes_to_the_same_entry():
    net = lf.rules.direct_feedback_alignment(
        lf.serial(lf.lstm(5), lf.dense(4), lf.relu(), lf.dense(3))
    )
    x = normal(2, 6, 4).double()
    params, _, cache, g = run(net, x)
    assert [b.shape for b in params[-1].matrices] == [(3, 5), (3, 4)]
    lstm = net.parts[0]
    expected = lstm.grads(params[0], cache[0], g @ params[-1].matrices[0])
    assert same_number(net.grads(params, cache, g)[0], expected)
    own = lf.rules.direct_feedback_alignment(lf.serial(lf.lstm(5), lf.last_state(), lf.dense(3)))
    params, _, cache, g = run(own, x)
    dh = own.parts[1].input_grad((), cache[1], g @ params[-1].matrices[0])
    assert same_number(own.grads(params, cache, g)[0], lstm.grads(params[0], cache[0], dh))


def test_feedback_is_drawn_by_its_initializer():
    wide = lf.initializers.uniform(3.0, 4.0)
    net = lf.rules.direct_feedback_alignment(MLP, feedback_init=wide)
    for b in net.init(lf.Key(0), ROWS)[-1].matrices:
        assert 3 <= b.min() < b.max() <= 4
    default = lf.rules.direct_feedback_alignment(MLP).init(lf.Key(0), ROWS)[-1].matrices
    assert [b.abs().max() < math.sqrt(6 / (3 + n)) for b, n in zip(default, (7, 4), strict=True)]
    assert not same_bits(default[0][:, :4], default[1])
    images = lf.rules.direct_feedback_alignment(lf.serial(lf.conv2d(2, 3), lf.conv2d(4, 3)))
    assert_says("expected an error of shape (batch, n)", images.init, lf.Key(0), X)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_pepita_by_a_second_pass(reduction):
    net = lf.rules.pepita(MLP, reduction=reduction)
    params, _, cache, g = run(net, ROWS)
    dx, dparams = net.backward(params, cache, g)
    (f,) = params[-1].matrices
    assert f.shape == (3, 5)
    assert f.abs().max() <= 0.05 * math.sqrt(6 / 5)

    def forward(x):
        a1 = (x @ params[0].weight + params[0].bias).relu()
        a2 = torch.tanh(a1 @ params[2].weight + params[2].bias)
        return a1, a2

    n = len(ROWS) if reduction == "mean" else 1
    changed = ROWS + n * g @ f
    (a1, a2), (b1, b2) = forward(ROWS), forward(changed)
    d1, d2 = (a1 - b1) / n, (a2 - b2) / n
    expected = [changed.mT @ d1, d1.sum(0), b1.mT @ d2, d2.sum(0), b2.mT @ g, g.sum(0)]
    assert same_number(lf.tree.leaves((dx, dparams)), [(ROWS - changed) / n, *expected])
    assert same_number(net.grads(params, cache, g), dparams)


def test_pepita_of_convolutions_takes_the_activity_before_pooling():
    net = lf.rules.pepita(lf.serial(*CONV.parts[:1], *CONV.parts[2:]))
    params, _, cache, g = run(net, X)
    dparams = net.grads(params, cache, g)
    conv, hidden, last = params[0], params[4], params[6]
    e = net.parts[7].input_grad((), cache.caches[7], g)
    changed = X + 5 * (e @ params[-1].matrices[0].flatten(1)).view(X.shape)

    def forward(x):
        before = torch.conv2d(x, conv.weight, conv.bias).relu()
        flat = torch.nn.functional.max_pool2d(before, 2).flatten(1)
        return before, flat, torch.tanh(flat @ hidden.weight + hidden.bias)

    (a1, _, a3), (b1, b2, b3) = forward(X), forward(changed)
    d1, d3 = (a1 - b1) / 5, (a3 - b3) / 5
    weight = torch.nn.grad.conv2d_weight(changed, conv.weight.shape, d1)
    expected = [weight, d1.sum((0, 2, 3)), b2.mT @ d3, d3.sum(0), b3.mT @ e, e.sum(0)]
    assert same_number(lf.tree.leaves(dparams), expected)
    assert last.weight.shape == (4, 3)


def test_pepita_drops_the_same_units_in_both_passes():
    net = lf.rules.pepita(lf.serial(lf.dense(50), lf.dropout(0.5), lf.dense(3)))
    params, _, cache, g = run(net, ROWS)
    dweight = net.grads(params, cache, g)[2].weight
    dropped = ~cache.caches[1].mask
    assert dropped[0].any()
    assert not dweight[dropped.all(0)].any()
    moved = net.advance(params, cache)
    assert not same_bits(moved[1].key.bits, params[1].key.bits)


def is_relu(layer):
    return "relu" in layer.name


def test_a_block_begins_with_each_layer_that_has_matrices():
    nested = lf.serial(lf.serial(lf.dense(4), lf.relu()), lf.serial(lf.dropout(), lf.dense(2)))
    assert matrices.blocks_of("rule", CONV, lf.rules.has_matrices) == (0, 5, 7)
    assert matrices.blocks_of("rule", nested, lf.rules.has_matrices) == (0, 1)
    for rule in (lf.rules.direct_feedback_alignment, lf.rules.pepita):
        assert_says("expected net to be made by serial, got dense", rule, lf.dense(2))
        assert_says("expected a layer with matrices", rule, lf.serial(lf.relu()))
        named = rule(lf.serial(lf.relu(), lf.dense(2)), layers=is_relu)
        assert len(named.parts) == 3
        assert named.spec["layers"] is is_relu
    assert_says("expected reduction", lf.rules.pepita, MLP, reduction="none")


def test_an_error_names_its_place():
    for rule in (lf.rules.direct_feedback_alignment, lf.rules.pepita):
        net = rule(MLP)
        params = net.init(lf.Key(0), ROWS)
        with pytest.raises(lf.LayerError, match=rf"^{rule.__name__}\[2\] dense\(4\): expected x"):
            net.forward((*params[:2], params[4], *params[3:]), ROWS)
        assert_says("expected params with 6 entries", net.forward, params[:5], ROWS)
