"""Rules that only use other matrices on the way back, against torch's autograd in float64.

`through` is the oracle: a product whose value and whose gradient of W are those of W, and whose
gradient of x is that of B.
"""

import math

import attrs
import pytest
import torch
from helpers import CASES, assert_says, begin, largest, normal, run
from helpers.cases.case import random_like
from helpers.compare import same_bits, same_number, same_statistics
from helpers.rules import WRAPPERS, with_gradients

import lincoln_fn as lf
from lincoln_fn.walk.paths import paths

X = normal(5, 2, 7, 6).double()
SEQUENCE = normal(3, 4, 2).double()


def through(product, x, w, b):
    through_b = product(x, b.detach())
    return product(x.detach(), w) + through_b - through_b.detach()


def matrices_back(name, params):
    """Compute what a wrapped layer with one matrix uses on the way back."""
    w, feedback = params.params.weight, params.feedback
    if name == "feedback_alignment":
        return feedback.matrices[0]
    if name == "kolen_pollack":
        return feedback[0]
    if name == "fixed":
        return feedback.matrices[0] * w.sign()
    if name == "uniform":
        return w.square().mean().sqrt() * w.sign()
    magnitude = lf.keys.uniform(feedback.key.fold_in(1), tuple(w.shape), dtype=w.dtype)
    return magnitude * math.sqrt(3) * feedback.scales[0] * w.sign()


@pytest.mark.parametrize("name", WRAPPERS)
def test_dense_convolutional_and_normalised_layers_by_autograd(name):
    conv, dense = lf.conv2d(3, 3, stride=2), lf.dense(4)
    net = WRAPPERS[name](lf.serial(conv, lf.batch_norm(), lf.tanh(), lf.flatten(), dense))
    params = net.init(lf.Key(3), X)
    g = normal(5, 4, seed=1).double()
    y, cache = net.forward(params, X)
    dx, dparams = net.backward(params, cache, g)

    x, ours = X.clone().requires_grad_(), with_gradients(params)
    first, norm, last = ours[0].params, ours[1], ours[4].params
    b_first, b_last = (matrices_back(name, params[i]) for i in (0, 4))
    h = through(lambda x, w: torch.conv2d(x, w, stride=2), x, first.weight, b_first)
    h = h + first.bias[:, None, None]
    h = torch.nn.functional.batch_norm(h, None, None, norm.weight, norm.bias, training=True)
    h = torch.tanh(h).flatten(1)
    expected = through(torch.matmul, h, last.weight, b_last) + last.bias
    assert same_number(y, expected)
    trained = [first.weight, first.bias, norm.weight, norm.bias, last.weight, last.bias]
    expected_dx, *gradients = torch.autograd.grad(expected, [x, *trained], g)
    assert same_number(dx, expected_dx)
    given = lf.tree.leaves((dparams[0].params, dparams[1], dparams[4].params))
    # A bias before a norm acts on nothing: its gradient cancels.
    assert same_number(given, gradients, terms=largest(g))
    assert same_bits((net.input_grad(params, cache, g), net.grads(params, cache, g)), (dx, dparams))


def affine(x, w, b, bias):
    return through(torch.matmul, x, w, b) + bias


# The three layers share their products: with B equal to W, each is held below.
def test_an_lstm_goes_back_through_time_by_b():
    net = lf.rules.feedback_alignment(lf.lstm(5))
    params = net.init(lf.Key(5), SEQUENCE)
    g = normal(3, 4, 5, seed=2).double()
    y, dx, dparams = run(net, params, SEQUENCE, g)

    x, ours = SEQUENCE.clone().requires_grad_(), with_gradients(params.params)
    cell, (b_ih, b_hh) = ours.cells[0][0], params.feedback.matrices
    h = c = torch.zeros(3, 5, dtype=torch.float64)
    outputs = []
    for t in range(4):
        a = affine(x[:, t], cell.weight_ih, b_ih, cell.bias_ih)
        a = a + affine(h, cell.weight_hh, b_hh, cell.bias_hh)
        i, f, o = (torch.sigmoid(a.chunk(4, -1)[k]) for k in (0, 1, 3))
        c = f * c + i * torch.tanh(a.chunk(4, -1)[2])
        h = o * torch.tanh(c)
        outputs.append(h)
    expected = torch.stack(outputs, 1)
    assert same_number(y, expected)
    expected_dx, *gradients = torch.autograd.grad(expected, [x, *lf.tree.leaves(ours)], g)
    assert same_number((dx, lf.tree.leaves(dparams.params)), (expected_dx, gradients))


WITH_MATRICES = [case for case in CASES if lf.rules.has_matrices(case.layer)]


def each_feedback(f, params):
    """Apply a function to the params of each wrapped layer."""
    if isinstance(params, tuple):
        return tuple(each_feedback(f, entry) for entry in params)
    if hasattr(params, "feedback"):
        return f(params)
    if attrs.has(type(params)):  # frozen, or a composition with params of its own
        fields = {each.name: getattr(params, each.name) for each in attrs.fields(type(params))}
        return lf.evolve(params, **{name: each_feedback(f, own) for name, own in fields.items()})
    return params


def with_own_matrices(params):
    own = lf.rules.matrices.matrices(params.params)
    return lf.evolve(params, feedback=lf.evolve(params.feedback, matrices=own))


@pytest.mark.parametrize("case", WITH_MATRICES, ids=str)
@pytest.mark.parametrize("fast", [False, True])
def test_with_b_equal_to_w_it_is_backpropagation(case, fast):
    net, plain = lf.rules.feedback_alignment(case.layer), case.layer
    same = same_bits
    if fast:  # a fast pair may know the plain layer alone, and compute it in another way
        net, plain, same = lf.fast(net), lf.fast(plain), same_number
    params = each_feedback(with_own_matrices, net.init(lf.Key(11), case.x))
    own = each_feedback(lambda wrapped: wrapped.params, params)
    y, cache = net.forward(params, case.x)
    g = random_like(y)
    expected_dx, expected = plain.backward(own, plain.forward(own, case.x)[1], g)
    dx, dparams = net.backward(params, cache, g)
    assert same(dx, expected_dx)
    assert same(lf.tree.leaves(dparams), lf.tree.leaves(expected))


def test_the_weights_are_those_that_the_network_draws_itself():
    net = lf.serial(lf.dense(4), lf.relu(), lf.dense(2))
    x = normal(3, 5)
    plain, wrapped = (each.init(lf.Key(1), x) for each in (net, lf.rules.feedback_alignment(net)))
    assert same_bits(plain[0].weight, wrapped[0].params.weight)
    b = wrapped[0].feedback.matrices[0]
    assert b.shape == (5, 4)
    assert not same_bits(b, plain[0].weight)
    assert b.abs().max() <= 1 / math.sqrt(5)


def test_feedback_has_an_initializer_of_its_own():
    zero = lf.dense(4, weight_init=lf.initializers.zeros())
    drawn = lf.initializers.he_uniform()
    for rule in (lf.rules.feedback_alignment, lf.rules.kolen_pollack):
        net = rule(zero, feedback_init=drawn)
        assert net.spec["feedback_init"] is drawn
        params = net.init(lf.Key(1), normal(3, 600))
        (b,) = lf.tree.leaves(params.feedback, states=True)
        assert not params.params.weight.any()
        assert same_statistics(b.flatten(), mean=0, std=math.sqrt(2 / 600))
    kernels = lf.rules.feedback_alignment(lf.conv2d(40, 3), feedback_init=drawn)
    (b,) = kernels.init(lf.Key(1), normal(1, 20, 5, 5)).feedback.matrices
    assert same_statistics(b.flatten(), mean=0, std=math.sqrt(2 / 180))


def test_batchwise_magnitudes_are_new_in_each_step_and_have_the_scale_of_w():
    net = lf.rules.sign_symmetric(lf.dense(40), variant="batchwise")
    x, g = normal(1, 50), torch.eye(40)[:1]
    params = net.init(lf.Key(1), x)
    _, cache = net.forward(params, x)
    first = net.input_grad(params, cache, g)
    assert same_bits(net.input_grad(params, cache, g), first)
    moved = net.advance(params, cache)
    second = net.input_grad(moved, cache, g)
    assert same_bits(moved.params.weight, params.params.weight)
    assert not same_bits(second, first)
    assert same_bits(second.sign(), first.sign())
    rows = net.input_grad(params, normal(40, 50), torch.eye(40))
    scale = params.params.weight.square().mean()
    assert same_statistics(rows.flatten().square(), mean=scale)


def test_fixed_magnitudes_are_drawn_as_the_weights_and_are_not_negative():
    net = lf.rules.sign_symmetric(lf.dense(40), variant="fixed")
    params = net.init(lf.Key(1), normal(1, 50))
    (magnitudes,) = params.feedback.matrices
    assert magnitudes.min() >= 0
    weight = params.params.weight
    assert same_statistics(magnitudes.flatten().square(), mean=weight.square().mean())
    assert not same_bits(magnitudes, weight.abs())


def test_kolen_pollack_brings_b_to_w_by_weight_decay():
    net = lf.rules.kolen_pollack(lf.serial(lf.dense(4), lf.tanh(), lf.dense(3)))
    x, target = normal(6, 5), normal(6, 3, seed=1)
    step, state = begin(net, x, lf.losses.mse(), lf.optim.sgd(0.1, weight_decay=0.5))
    before = [p.params.weight - p.feedback[0] for p in (state.params[0], state.params[2])]
    for _ in range(3):
        state, _ = step(state, (x, target))
    for first, p in zip(before, (state.params[0], state.params[2]), strict=True):
        assert same_number(p.params.weight - p.feedback[0], 0.95**3 * first)


def test_straight_through_passes_g_and_keeps_the_layers_own_gradients():
    net, x, g = lf.rules.straight_through(lf.prelu()), normal(3, 4), normal(3, 4, seed=1)
    params = net.init(lf.Key(0), x)
    _, dx, dparams = run(net, params, x, g)
    assert same_bits(dx, g)
    assert same_number(dparams.weight, (g * x.clamp(max=0)).sum()[None])
    steps = lf.Layer("round()", lambda p, x: (x.round(), x), lambda p, c, g: (0 * g, ()))
    learned = lf.serial(lf.dense(3), lf.rules.straight_through(steps))
    params = learned.init(lf.Key(0), x)
    dparams = learned.grads(params, learned.forward(params, x)[1], normal(3, 3))
    assert lf.tree.leaves(dparams)[0].abs().sum() > 0


def test_only_the_layers_that_a_user_names_get_feedback():
    net = lf.serial(lf.conv1d(2, 3), lf.flatten(), lf.dense(3))

    def is_dense(layer):
        return layer.name == "dense(3)"

    made = lf.rules.feedback_alignment(net, layers=is_dense)
    assert made.name == "serial(conv1d(2, 3), flatten(), feedback_alignment(dense(3)))"
    assert made.parts[2].spec["layers"] is is_dense
    with pytest.raises(lf.LayerError, match="feedback_alignment: expected a layer with matrices"):
        lf.rules.feedback_alignment(lf.serial(lf.relu(), lf.batch_norm()))
    assert_says("sign_symmetric: expected variant", lf.rules.sign_symmetric, net, variant="other")


def test_an_error_names_its_place():
    net = lf.rules.feedback_alignment(lf.serial(lf.relu(), lf.dense(4)))
    params = net.init(lf.Key(0), normal(2, 5))
    where = r"serial\[1\] feedback_alignment\[0\] dense\(4\): expected x of shape \(..., 5\)"
    with pytest.raises(lf.LayerError, match=where):
        net.forward(params, normal(2, 6))
    with pytest.raises(lf.LayerError, match=r"serial\[1\] feedback_alignment.*FeedbackParams"):
        net.forward(((), params[1].params), normal(2, 5))


# Feedback reaches the projections inside attention, against torch's autograd in float64.


HEADS = 2
TOKENS = normal(3, 5, 6).double()


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
    params = net.init(lf.Key(3), TOKENS)
    weights = lf.rules.matrices.matrices(params.params)
    bs = net.parts[1].predict(params.feedback, weights)
    assert len(bs) == 4
    assert not any(map(same_bits, bs, weights))
    g = normal(3, 5, 6, seed=1).double()
    y, cache = net.forward(params, TOKENS)
    dx, dparams = net.backward(params, cache, g)

    x = TOKENS.clone().requires_grad_()
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
