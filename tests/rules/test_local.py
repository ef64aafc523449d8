"""Local losses and Forward-Forward, against few lines of torch in float64."""

import pytest
import torch
from helpers import assert_says, first_run, largest, normal, same_bits, same_number
from helpers.rules import with_gradients
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

import lincoln_fn as lf
from lincoln_fn import rules

ROWS = normal(6, 5).double()
IMAGES = normal(6, 2, 7, 5).double()
LABELS = torch.tensor([0, 2, 1, 1, 0, 2])
BODY = lf.serial(
    lf.conv2d(4, 3), lf.relu(), lf.flatten(), lf.dense(7), lf.batch_norm(), lf.tanh(), lf.dense(3)
)

# The rules add 1e-8 to the norms by which they divide; what is written out here does not.
ADDED = 1e-7


def similarities(z):
    z = z - z.mean(1, keepdim=True)
    z = z / (1e-8 + z.square().sum(1, keepdim=True).sqrt())
    return z @ z.mT


def similarity_loss(z, labels, n_classes):
    if z.ndim > 2:
        z = z.flatten(2).std(2)
    one_hot = torch.nn.functional.one_hot(labels, n_classes).to(z.dtype)
    return (similarities(z) - similarities(one_hot)).square().mean()


@pytest.mark.parametrize("shape", [(6, 4), (6, 4, 3), (6, 4, 3, 5)])
def test_similarity_matching_by_autograd(shape):
    z = normal(*shape, seed=4).double().requires_grad_()
    loss = rules.similarity_matching(3)
    value, cache = loss.forward(z.detach(), LABELS)
    expected = similarity_loss(z, LABELS, 3)
    assert same_number(value, expected, error=ADDED)
    gradient = torch.autograd.grad(expected, z)[0]
    assert same_number(loss.backward(cache), gradient, error=ADDED)
    assert same_number(loss.backward(cache, torch.tensor(3.0).double()), 3 * gradient, error=ADDED)


def test_similarity_matching_at_its_edges():
    loss = rules.similarity_matching(3)
    dead = torch.zeros(6, 4, 3, 5)
    for z in (dead, dead.flatten(1), 1e4 * normal(6, 4)):
        value, cache = loss.forward(z, LABELS)
        assert value.isfinite()
        assert loss.backward(cache).isfinite().all()
    assert_says("expected prediction of shape", loss.forward, torch.zeros(6), LABELS)
    assert_says("labels", loss.forward, torch.zeros(6, 4), LABELS + 1)
    assert_says("n_classes", rules.similarity_matching, 1)


@pytest.mark.parametrize("kind", ["prediction", "similarity", "both"])
def test_local_losses_by_autograd(kind):
    net, loss = rules.local_losses(BODY, 3, kind=kind), rules.local_loss(3, kind=kind, beta=0.75)
    params = lf.tree.map(
        lambda leaf: normal(*leaf.shape, seed=leaf.numel()).double(), net.init(lf.Key(2), IMAGES)
    )
    prediction, cache = net.forward(params, IMAGES)
    value, loss_cache = loss.forward(prediction, LABELS)
    dx, dparams = net.backward(params, cache, loss.backward(loss_cache))

    x, ours = IMAGES.clone().requires_grad_(), with_gradients(params)
    conv, hidden, norm, last, heads = ours[0], ours[3], ours[4], ours[6], ours[7:]
    h1 = torch.conv2d(x, conv.weight, conv.bias).relu().flatten(1)
    z = h1.detach() @ hidden.weight + hidden.bias
    z = torch.nn.functional.batch_norm(z, None, None, norm.weight, norm.bias, training=True)
    h2 = torch.tanh(z)
    y = h2.detach() @ last.weight + last.bias
    share, total = (0.25, 0.25) if kind == "both" else (1, 1)
    total = total * cross_entropy(y, LABELS)
    for h, head in zip((h1, h2), heads, strict=True):
        label, match = head if kind == "both" else (head, head)
        if kind != "similarity":
            logits = h @ label[1].weight + label[1].bias
            total = total + share * cross_entropy(logits, LABELS)
        if kind != "prediction":
            features = h @ match.weight if match.weight.ndim == 2 else h
            total = total + (0.75 if kind == "both" else 1) * similarity_loss(features, LABELS, 3)
    assert same_number(value, total, error=ADDED)
    expected = torch.autograd.grad(total, [x, *lf.tree.leaves(ours)])
    # A bias before a norm acts on nothing: its gradient cancels.
    given, terms = lf.tree.leaves((dx, dparams)), largest(expected)
    assert same_number(given, list(expected), terms=terms, error=ADDED)
    assert same_number(net.grads(params, cache, loss.backward(loss_cache)), dparams)
    assert same_number(net.predict(params, IMAGES), BODY.predict(params[:7], IMAGES))


def test_the_head_of_images_is_a_convolution():
    net = rules.local_losses(lf.serial(lf.conv2d(4, 3), lf.relu(), lf.flatten(), lf.dense(3)), 3)
    assert net.init(lf.Key(0), IMAGES)[-1][1].weight.shape == (60, 60)
    nested = lf.serial(lf.serial(lf.conv2d(4, 3), lf.relu()), lf.serial(lf.flatten(), lf.dense(3)))
    net, loss = rules.local_losses(nested, 3), rules.local_loss(3)
    params = net.init(lf.Key(0), IMAGES)
    logits, match = params[-1]
    assert match.weight.shape == (4, 4, 3, 3)
    assert not logits[1].weight.any()
    prediction, cache = net.forward(params, IMAGES)
    _, loss_cache = loss.forward(prediction, LABELS)
    dmatch = net.grads(params, cache, loss.backward(loss_cache))[-1][1]
    h = nested.parts[0].predict(params[0], IMAGES)
    weight = match.weight.clone().requires_grad_()
    of_match = 0.99 * similarity_loss(torch.conv2d(h, weight, padding=1), LABELS, 3)
    assert same_number(dmatch.weight, *torch.autograd.grad(of_match, weight), error=ADDED)


def test_the_local_loss_refuses_what_is_not_a_tuple():
    with pytest.raises(lf.LayerError, match="expected prediction to be a tuple"):
        rules.local_loss(3).forward(torch.zeros(6, 3), LABELS)
    assert str(rules.local_loss(3)) == "local_loss(3)"
    assert str(rules.local_loss(3, kind="prediction")) == "local_loss(3, kind='prediction')"


FF = lf.serial(
    lf.rms_norm(elementwise_affine=False), lf.dense(7), lf.relu(), lf.dense(4), lf.relu()
)


def test_forward_forward_by_autograd():
    net, loss = rules.forward_forward(FF, 3, threshold=0.5), rules.forward_forward_loss()
    params, target = net.init(lf.Key(2), ROWS), torch.tensor([1.0, 1, 0, 1, 0, 0]).double()
    goodness, cache = net.forward(params, ROWS)
    value, loss_cache = loss.forward(goodness, target)
    dx, dparams = net.backward(params, cache, loss.backward(loss_cache))

    x, ours = ROWS.clone().requires_grad_(), with_gradients(params)
    h1 = torch.relu(torch.nn.functional.rms_norm(x, (5,)) @ ours[1].weight + ours[1].bias)
    h2 = (h1 / h1.square().mean(1, keepdim=True).sqrt()).detach() @ ours[3].weight + ours[3].bias
    sums = torch.stack([h1.square().sum(1) - 3.5, h2.relu().square().sum(1) - 2], 1)
    assert same_number(goodness, sums, error=ADDED)
    expected = 2 * binary_cross_entropy_with_logits(sums, target[:, None].expand(6, 2))
    assert same_number(value, expected, error=ADDED)
    gradients = torch.autograd.grad(expected, [x, *lf.tree.leaves(ours)])
    assert same_number(lf.tree.leaves((dx, dparams)), list(gradients), error=ADDED)
    assert same_number(net.grads(params, cache, loss.backward(loss_cache)), dparams)

    each = torch.stack(
        [net.forward(params, rules.with_label(ROWS, torch.full((6,), c), 3))[0] for c in range(3)]
    )
    assert same_number(net.predict(params, ROWS), each[:, :, 1].mT)
    alone = rules.forward_forward(lf.serial(*FF.parts[:3]), 3)
    assert alone.predict(params[:3], ROWS).shape == (6, 3)


def test_forward_forward_normalises_images():
    net = rules.forward_forward(lf.serial(lf.conv2d(4, 3), lf.relu(), lf.conv2d(2, 3)), 3)
    params, goodness, cache = first_run(net, IMAGES, 2)
    assert same_number(goodness[:, 0], cache.outputs[0].square().sum((1, 2, 3)) - 60)
    of_second = cache.caches[2].x.square().mean((1, 2, 3))
    assert same_number(of_second, torch.ones(6).double(), error=ADDED)
    assert net.predict(params, IMAGES).shape == (6, 3)


def test_batches_have_each_example_with_a_true_and_a_false_label():
    x, labels = normal(900, 2, 3), torch.arange(900) % 4
    given, target = rules.true_and_false_labels(lf.Key(0), x, labels, 4)
    assert same_bits(target, torch.cat((torch.ones(900), torch.zeros(900))))
    flat = given.flatten(1)
    assert same_bits(flat[:, 4:], x.flatten(1)[:, 4:].repeat(2, 1))
    assert same_number(flat[:, :4].sum(1), torch.ones(1800))
    true, false = flat[:900, :4].argmax(1), flat[900:, :4].argmax(1)
    assert same_bits(true, labels)
    offsets = ((false - labels) % 4).bincount(minlength=4)
    assert offsets[0] == 0
    assert offsets[1:].min() > 250
    again, _ = rules.true_and_false_labels(lf.Key(0), x, labels, 4)
    assert same_bits(again, given)
    other, _ = rules.true_and_false_labels(lf.Key(1), x, labels, 4)
    assert not same_bits(other, given)
    assert_says("with at least 7 numbers an example", rules.with_label, x, labels, 7)
