"""What is not trained costs nothing: a training step keeps only the caches that it reads."""

import pytest
import torch
from helpers import normal
from helpers.compositions import check_step
from helpers.stateful import STATEFUL

import lincoln_fn as lf

IMAGES = normal(2, 3, 8, 8)


def kept_bytes(net, params, x):
    """Count the bytes that the cache of a training step holds, without those of params and x."""
    _, cache = lf.walk.forward_to_train(net, params, x)
    storages = {
        leaf.untyped_storage().data_ptr(): leaf.untyped_storage().nbytes()
        for leaf in lf.tree.leaves(cache, states=True)
        if isinstance(leaf, torch.Tensor)
    }
    for leaf in lf.tree.leaves((params, x), states=True):
        storages.pop(leaf.untyped_storage().data_ptr(), None)
    return sum(storages.values())


def test_a_frozen_backbone_keeps_nothing():
    backbone = lf.serial(lf.conv2d(16, 3), lf.relu(), lf.conv2d(8, 3), lf.tanh(), lf.flatten())
    net = lf.serial(lf.frozen(backbone), lf.dense(10))
    params = net.init(lf.Key(0), IMAGES)
    assert kept_bytes(net, params, IMAGES) == 2 * 8 * 4 * 4 * 4  # the head's x
    assert lf.walk.forward_to_train(net, params, IMAGES)[1][0] is None
    check_step(net, IMAGES)


@pytest.mark.parametrize("frozen", [lf.dense(3), lf.serial(lf.dense(3), lf.tanh(), lf.dense(2))])
def test_a_network_that_is_frozen_as_a_whole_keeps_nothing(frozen):
    net, x = lf.frozen(frozen), normal(5, 4)
    params = net.init(lf.Key(0), x)
    y, cache = lf.walk.forward_to_train(net, params, x)
    assert lf.tree.leaves(cache, states=True) == []
    assert lf.walk.gradients(net, params, cache, y) is params
    check_step(net, x)


def test_the_states_of_a_frozen_backbone_advance():
    backbone = lf.serial(lf.dense(6), lf.batch_norm(), lf.residual(lf.dropout(0.5)))
    params, *_ = check_step(lf.serial(lf.frozen(backbone), lf.dense(2)), normal(5, 4))
    net = lf.serial(lf.frozen(backbone), lf.dense(2))
    # The mean and the variance of the batch, and three stand-ins.
    assert kept_bytes(net, params, normal(5, 4)) == 5 * 6 * 4 + 2 * 6 * 4 + 4 + 4 + 1


LINEAR = {
    "dense": (lf.dense(5), normal(7, 5)),
    "conv2d": (lf.conv2d(3, 3, padding=1), IMAGES),
    "conv2d, padded first": (lf.conv2d(3, 3, padding=1, padding_mode="circular"), IMAGES),
    "conv_transpose2d": (lf.conv_transpose2d(3, 3, padding=1), IMAGES),
    "attention's projections": (lf.multi_head_attention(1), normal(2, 3, 4)),
}


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("name", LINEAR)
def test_a_linear_layer_that_is_frozen_keeps_no_x(name, fast):
    layer, x = LINEAR[name]
    given = []

    def forward(params, x):
        given.append(x * 1)
        return given[-1], None

    spy = lf.Layer("spy()", forward, lambda params, cache, g: (g, ()))
    for part, is_kept in ((layer, True), (lf.frozen(layer), False)):
        net = lf.serial(lf.prelu(), spy, part)
        net = lf.fast(net) if fast else net
        params = net.init(lf.Key(3), x)
        _, cache = lf.walk.forward_to_train(net, params, x)
        leaves = lf.tree.leaves(cache[2], states=True)
        if "attention" in name:  # whose heads keep q, k and v
            shares = given[-1].untyped_storage().data_ptr()
            assert (shares in {leaf.untyped_storage().data_ptr() for leaf in leaves}) == is_kept
        else:
            assert (sum(leaf.untyped_storage().nbytes() for leaf in leaves) > 8) == is_kept
        check_step(net, x)


@pytest.mark.parametrize(("layer", "x"), STATEFUL.values(), ids=STATEFUL)
def test_a_frozen_composition_with_states_steps_as_it_is_differentiated(layer, x):
    if isinstance(x, torch.Tensor) and x.is_floating_point():
        check_step(lf.serial(lf.prelu(), lf.frozen(layer), lf.identity()), x)
    check_step(lf.serial(lf.frozen(layer), lf.identity()), x)


def test_a_frozen_embedding_is_scored_by_without_its_input():
    x = torch.tensor([[1, 2, 0]])
    body = lf.serial(lf.dense(4), lf.tanh())
    for embedding, scored in ((lf.embedding(9, 4), 0), (lf.frozen(lf.embedding(9, 4)), 4)):
        net = lf.tied(embedding, body)
        params, *_ = check_step(net, x)
        _, cache = lf.walk.forward_to_train(net, params, x)
        assert cache[2].untyped_storage().nbytes() == (scored or 3 * 4 * 4)
