"""The gradient methods equal what autograd gives, and integrated gradients are complete."""

import pytest
import torch
from helpers import same_bits, same_number
from helpers.cases import CASES, activations
from helpers.refusals import refusals

import lincoln_fn as lf
from lincoln_fn import attribution, keys
from lincoln_fn.attribution import kinds
from lincoln_fn.core.signatures import unbound

X = keys.normal(lf.Key(1), (3, 2, 8, 7), dtype=torch.float64)
TARGET = torch.tensor([1, 4, 0])
NET = lf.serial(
    lf.conv2d(4, 3, padding=1), lf.batch_norm(), lf.relu(), lf.max_pool2d(2),
    lf.residual(lf.serial(lf.conv2d(4, 3, padding=1), lf.tanh())),
    lf.flatten(), lf.dense(6), lf.silu(), lf.dropout(0.5), lf.dense(5),
)  # fmt: skip


def advanced(net, x):
    params = net.init(lf.Key(2), x)
    for _ in range(2):
        params = net.advance(params, net.forward(params, x)[1])
    return params


PARAMS = advanced(NET, X)


def autograd_of(f, x):
    x = x.clone().requires_grad_()
    return torch.autograd.grad(f(x), x)[0]


def score(x, target=TARGET):
    return NET.predict(PARAMS, x)[torch.arange(len(x)), target].sum()


# The gradient, and which output it is of


def test_gradient_equals_autograds_of_predict():
    expected = autograd_of(score, X)
    assert same_number(attribution.gradient(NET, PARAMS, X, TARGET), expected)
    assert same_number(attribution.gradient_times_input(NET, PARAMS, X, TARGET), expected * X)


def test_a_target_is_a_class_for_all_or_for_each_or_weights_or_the_highest_score():
    of_two = autograd_of(lambda x: NET.predict(PARAMS, x)[:, 2].sum(), X)
    assert same_number(attribution.gradient(NET, PARAMS, X, 2), of_two)
    weights = keys.normal(lf.Key(3), (3, 5), dtype=torch.float64)
    weighted = autograd_of(lambda x: (NET.predict(PARAMS, x) * weights).sum(), X)
    assert same_number(attribution.gradient(NET, PARAMS, X, weights), weighted)
    highest = autograd_of(lambda x: NET.predict(PARAMS, x).amax(1).sum(), X)
    assert same_number(attribution.gradient(NET, PARAMS, X), highest)


def test_an_input_without_a_batch_and_classes_behind_the_batch():
    net = lf.serial(lf.dense(4), lf.tanh())
    x = keys.normal(lf.Key(4), (3,), dtype=torch.float64)
    params = net.init(lf.Key(5), x)
    assert same_number(
        attribution.gradient(net, params, x, 3), autograd_of(lambda x: net.predict(params, x)[3], x)
    )
    by_place = lf.serial(net, lf.permute(0, 2, 1))
    x = keys.normal(lf.Key(4), (2, 5, 3), dtype=torch.float64)
    params = by_place.init(lf.Key(5), x)
    target = torch.tensor([[0, 1, 2, 3, 0], [3, 2, 1, 0, 3]])
    assert same_number(
        attribution.gradient(by_place, params, x, target),
        autograd_of(lambda x: by_place.predict(params, x).gather(1, target[:, None]).sum(), x),
    )


def test_entries_without_a_gradient_have_no_attribution():
    net = lf.with_context(lf.transformer_encoder_block(2, 5), lf.select(0))
    x = keys.normal(lf.Key(4), (2, 3, 4), dtype=torch.float64), torch.ones(2, 3, dtype=torch.bool)
    params = net.init(lf.Key(5), x)
    weights = keys.normal(lf.Key(6), (2, 3, 4), dtype=torch.float64)
    found = attribution.gradient_times_input(net, params, x, weights)
    assert found[1] is None
    s = autograd_of(lambda h: (net.predict(params, (h, x[1])) * weights).sum(), x[0])
    assert same_number(found[0], s * x[0])


# Integrated gradients


def test_integrated_gradients_equal_a_sum_of_autograds_gradients():
    baseline = keys.normal(lf.Key(6), (2, 1, 7), dtype=torch.float64)
    found = attribution.integrated_gradients(NET, PARAMS, X, TARGET, baseline=baseline, steps=2)
    nodes = 0.5 - 0.5 / 3**0.5, 0.5 + 0.5 / 3**0.5  # of two points, with weights 1/2
    mean = sum(autograd_of(score, baseline + t * (X - baseline)) for t in nodes) / 2
    assert same_number(found.attribution, (X - baseline) * mean)
    y, of_baseline = (NET.predict(PARAMS, x) for x in (X, baseline.expand(X.shape)))
    rows = torch.arange(3)
    change = y[rows, TARGET] - of_baseline[rows, TARGET]
    assert same_number(found.gap, found.attribution.sum((1, 2, 3)) - change)


def test_integrated_gradients_of_a_smooth_network_are_complete():
    net = lf.serial(lf.dense(6), lf.tanh(), lf.dense(4), lf.gelu(), lf.dense(3))
    x = keys.normal(lf.Key(7), (5, 4), dtype=torch.float64)
    params = net.init(lf.Key(8), x)
    found = attribution.integrated_gradients(net, params, x, 1, steps=30)
    change = net.predict(params, x)[:, 1] - net.predict(params, torch.zeros_like(x))[:, 1]
    assert same_number(found.attribution.sum(1), change)
    assert found.gap.abs().max() < 1e-9
    assert attribution.integrated_gradients(net, params, x, 1, steps=1).gap.abs().max() > 1e-4


# SmoothGrad


def test_smooth_grad_is_a_mean_of_autograds_gradients():
    found = attribution.smooth_grad(NET, PARAMS, X, TARGET, key=lf.Key(9), noise=0.2, samples=3)
    span = (X.amax((1, 2, 3)) - X.amin((1, 2, 3))).view(3, 1, 1, 1)
    noises = [keys.normal(lf.Key(9).fold_in(i), X.shape, dtype=X.dtype) for i in range(3)]
    expected = sum(autograd_of(score, X + 0.2 * span * noise) for noise in noises) / 3
    assert same_number(found, expected)


# Grad-CAM


@pytest.mark.parametrize("path", ["2", "4", "4.0.1"])
def test_grad_cam_equals_autograds(path):
    positions = [int(i) for i in path.split(".")]
    net, params, h, shortcut = NET, PARAMS, X, None
    before = lf.inference(lf.serial(*NET.parts[: positions[0] + 1]))
    behind = lf.serial(*NET.parts[positions[0] + 1 :])
    a = before.predict(PARAMS[: positions[0] + 1], X)
    if path == "4.0.1":
        h = lf.serial(*NET.parts[:4]).predict(PARAMS[:4], X)
        shortcut, a = h, a - h
    a = a.requires_grad_()
    y = behind.predict(params[positions[0] + 1 :], a if shortcut is None else a + shortcut)
    da = torch.autograd.grad(y[torch.arange(3), TARGET].sum(), a)[0]
    expected = (da.mean((2, 3), keepdim=True) * a).sum(1).relu().detach()
    assert same_number(attribution.grad_cam(net, PARAMS, X, TARGET, path=path), expected)


def test_grad_cam_through_a_checkpointed_layer_is_the_same():
    again = lf.checkpointed(lf.serial(*NET.parts))
    found = attribution.grad_cam(again, PARAMS, X, TARGET, path="0.4")
    assert same_bits(found, attribution.grad_cam(NET, PARAMS, X, TARGET, path="4"))


# Other gradients of activations


class GuidedReLU(torch.autograd.Function):
    """ReLU with another backward, through which autograd goes."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx, g):
        return g.clamp(min=0) * (ctx.saved_tensors[0] > 0)


class DeconvolvedReLU(GuidedReLU):
    """ReLU whose backward does not look at x."""

    @staticmethod
    def backward(ctx, g):
        return g.clamp(min=0)


@pytest.mark.parametrize(("method", "relu"), [
    (attribution.guided_backpropagation, GuidedReLU),
    (attribution.deconvolution, DeconvolvedReLU),
])  # fmt: skip
def test_guided_gradients_equal_autograds_through_such_relus(method, relu):
    net = lf.serial(lf.conv2d(3, 3), lf.relu(), lf.flatten(), lf.dense(7), lf.relu(), lf.dense(5))
    params = net.init(lf.Key(2), X)

    def run(x):
        h = relu.apply(torch.nn.functional.conv2d(x, params[0].weight, params[0].bias)).flatten(1)
        h = relu.apply(h @ params[3].weight + params[3].bias)
        return (h @ params[5].weight + params[5].bias)[torch.arange(3), TARGET].sum()

    assert same_number(method(net, params, X, TARGET), autograd_of(run, X))


def test_guided_backpropagation_sends_both_signs_through_a_fixed_factor():
    x, g = torch.tensor([[1.0, -1.0]]), torch.tensor([[1.0, -3.0]])
    sent = attribution.guided_backpropagation(lf.scale(2.0), (), x, g)
    assert same_bits(sent, torch.tensor([[2.0, -6.0]]))


EMBEDDING, TOKENS = lf.embedding(5, 3), torch.tensor([[1, 2]])
TWICE = lf.serial(lf.shared(lf.conv1d(3, 2)), lf.add(), lf.flatten())
PAIR = torch.ones(2, 4, 5), torch.zeros(2, 4, 5)
test_what_does_not_fit_is_refused = refusals("""
attribution.gradient(NET, PARAMS, X, 5) -> gradient: expected classes from 0 to 4, got 5 to 5
attribution.gradient(NET, PARAMS, X, torch.tensor([0, 1])) -> expected target to be a class, or
    integer classes of shape (3,)
attribution.gradient(NET, PARAMS, X, torch.zeros(3, 4)) -> gradient: expected weights of shape (3,
    5), got (3, 4)
attribution.gradient(NET, PARAMS, X, 'cat') -> expected target to be a class
attribution.gradient(EMBEDDING, EMBEDDING.init(Key(0), TOKENS), TOKENS, 0) -> expected a floating x,
    got int64[1, 2]; explain
attribution.gradient(parallel(tanh(), relu()), ((), ()), PAIR, 0) -> expected a network with one
    output
attribution.integrated_gradients(NET, PARAMS, X, 0, steps=0) -> expected steps of at least 1, got 0
attribution.integrated_gradients(NET, PARAMS, X, 0, baseline=torch.zeros(3)) -> a baseline that
    broadcasts to (3, 2, 8, 7), got
attribution.smooth_grad(NET, PARAMS, X, TARGET, key=Key(9), noise=-1) -> expected noise of at least
    0, got -1
attribution.grad_cam(NET, PARAMS, X, TARGET, path='6') -> expected feature maps of shape (batch,
    channels, *positions) at '6', got float64[3, 6
attribution.grad_cam(NET, PARAMS, X, TARGET, path='4.3') -> expected the path of a layer, got '4.3';
    near it
attribution.grad_cam(TWICE, TWICE.init(Key(0), PAIR), PAIR, 0, path='0.0') -> used once, got '0.0',
    which is used 2 times; take
""")


def file_of(layer):
    return unbound(layer.forward).__module__.rpartition(".")[2]


def test_the_activations_are_those_of_the_table_of_cases():
    names = {file_of(case.layer) for case in activations.CASES}
    singles = [case.layer for case in CASES if not case.layer.parts]
    found = {file_of(layer) for layer in singles if kinds.belongs(layer, kinds.ACTIVATION)}
    names -= {"glu", "log_softmax", "scale", "softmax", "softmin"}
    assert found == names | {"stop_gradient"}
    for case in activations.CASES:
        if kinds.kind_of(case.layer) in kinds.ACTIVATION:
            assert kinds.kind_of(lf.inference(case.layer)) in kinds.ACTIVATION
