"""Feedback reaches the projections inside attention, against torch's autograd in float64."""

import pytest
import torch
from helpers import begin, largest, normal, same_bits, same_number
from helpers.rules import WRAPPERS

import lincoln_fn as lf
from lincoln_fn.walk.paths import paths

HEADS = 2
X = normal(3, 5, 6).double()


def projected(x, params, b):
    """Compute x W + b, with B in place of W in the gradient of x."""
    through_b = x @ b
    return x.detach() @ params.weight + through_b - through_b.detach() + params.bias


def attention(x, params, bs):
    def heads(h):
        return h.unflatten(-1, (HEADS, -1)).transpose(1, 2)

    projections = (params.query, params.key, params.value)
    q, k, v = (heads(projected(x, p, b)) for p, b in zip(projections, bs[:3], strict=True))
    y = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    return projected(y.transpose(1, 2).flatten(2), params.output, bs[3])


@pytest.mark.parametrize("name", WRAPPERS)
@pytest.mark.parametrize("fast", [False, True])
def test_each_projection_has_a_matrix_of_its_own(name, fast):
    net = WRAPPERS[name](lf.multi_head_attention(HEADS))
    net = lf.fast(net) if fast else net
    params = net.init(lf.Key(3), X)
    weights = lf.rules.matrices.matrices(params.params)
    bs = net.parts[1].predict(params.feedback, weights)
    assert len(bs) == 4
    assert not any(map(same_bits, bs, weights))
    g = normal(3, 5, 6, seed=1).double()
    y, cache = net.forward(params, X)
    dx, dparams = net.backward(params, cache, g)

    x = X.clone().requires_grad_()
    ours = lf.tree.map(lambda leaf: leaf.clone().requires_grad_(), params.params)
    expected = attention(x, ours, bs)
    assert same_number(y, expected)
    leaves = lf.tree.leaves(ours)
    expected_dx, *gradients = torch.autograd.grad(expected, [x, *leaves], g)
    assert same_number(dx, expected_dx)
    # A bias of the keys moves all scores of a query alike: its gradient cancels.
    assert same_number(lf.tree.leaves(dparams.params), gradients, terms=largest(g))
    assert same_bits(net.grads(params, cache, g), dparams)  # fmt: skip


def test_a_transformer_trains_and_every_projection_has_an_angle():
    block = lf.transformer_encoder_block(HEADS, dim_feedforward=7, norm_first=True)
    net = lf.serial(lf.embedding(9, 6), block, lf.masked_mean(), lf.dense(3))
    net = lf.rules.feedback_alignment(net)
    x, target = torch.arange(20).reshape(4, 5) % 9, torch.tensor([0, 2, 1, 1])
    loss = lf.losses.softmax_cross_entropy()
    step, state = begin(net, x, loss)
    first = state.params
    for _ in range(2):
        state, _ = step(state, (x, target))
    angles = lf.inspect.alignment(net, state.params, x, loss, target)
    (within,) = [path for path, la in paths(net) if la.name.startswith("multi_head")]
    of_projections = [angles[f"{within}.{i}"] for i in (0, 1, 2, 4)]
    assert all(0 < angle < 180 for angle in of_projections)
    assert str(net.parts[1].parts[2]).count("(dense(") == 2  # both of the feed-forward network
    for before, after in zip(*map(lf.rules.matrices.matrices, (first, state.params)), strict=True):
        assert not same_bits(before, after)


def test_a_block_begins_with_attention():
    net = lf.serial(lf.embedding(9, 6), lf.multi_head_attention(HEADS), lf.tanh(), lf.dense(3))
    x = torch.arange(20).reshape(4, 5) % 9
    direct = lf.rules.direct_feedback_alignment(net)
    params = direct.init(lf.Key(0), x)
    (b,) = params[-1].matrices
    g = normal(4, 5, 3)
    _, cache = direct.forward(params, x)
    dparams = direct.grads(params, cache, g)
    tail = lf.serial(*net.parts[1:3])
    expected_dx, expected = tail.backward(params[1:3], cache[1:3], g @ b)
    assert same_number(dparams[1:3], expected)
    first = net.parts[0].grads(params[0], cache[0], expected_dx)
    assert same_number(dparams[0].weight, first.weight)
