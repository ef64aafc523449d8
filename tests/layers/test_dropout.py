"""Dropout: keys and masks."""

import pytest
import torch
from helpers import assert_refused, same_bits, same_number, same_statistics
from torch.fx.experimental.proxy_tensor import make_fx

import lincoln_fn as lf
from lincoln_fn.layers import alpha_dropout, dropout

LAYERS = [
    lf.dropout(), lf.dropout1d(), lf.dropout2d(), lf.dropout3d(), lf.alpha_dropout(),
    lf.feature_alpha_dropout(),
]  # fmt: skip


def example(layer):
    axes = {"dropout1d": 3, "dropout2d": 4}.get(layer.name[:9], 5)
    return lf.keys.normal(lf.Key(1), (6, 7, 4, 5, 3)[:axes], dtype=torch.float64)


@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_the_next_key_is_folded_from_the_last_and_predict_gives_x(layer):
    x = example(layer)
    params = layer.init(lf.Key(0), x)
    assert layer.predict(params, x) is x
    advanced = layer.advance(params, layer.forward(params, x)[1])
    assert same_bits(advanced.key.bits, params.key.fold_in(0).bits)
    assert lf.tree.paths(advanced, states=True) == ["key.bits"]


def test_two_layers_of_a_serial_draw_different_masks():
    net = lf.serial(lf.dropout(), lf.tanh(), lf.dropout(), lf.serial(lf.dropout()))
    x = torch.ones(200)
    params = net.init(lf.Key(0), x)
    for _ in range(3):
        _, cache = net.forward(params, x)
        masks = [cache[0].mask, cache[2].mask, cache[3][0].mask]
        for i, one in enumerate(masks):
            for other in masks[i + 1 :]:
                # Half of the places agree by chance, 100 of 200 give or take 7.
                assert 65 < (one == other).sum() < 135
        params = net.advance(params, cache)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.8])
def test_a_mask_drops_with_probability_p(p):
    n = 40_000
    x = lf.keys.uniform(lf.Key(1), (n,), 1, 2)
    params = dropout.Params(lf.Key(0))
    y, cache = dropout.forward(params, x, p=p)
    assert same_statistics(cache.mask, mean=1 - p)
    assert same_statistics(y - x, mean=0)
    assert same_bits(y.ne(0), cache.mask)
    # Neighbours are independent of each other, and so are the masks of two steps.
    later = dropout.forward(dropout.advance(params, cache), x, p=p)[1].mask
    for pair in (cache.mask[:-1] & cache.mask[1:], cache.mask & later):
        assert same_statistics(pair, mean=(1 - p) ** 2)


@pytest.mark.parametrize("spatial", [1, 2, 3])
@pytest.mark.parametrize("batched", [True, False])
def test_channels_are_kept_or_dropped_whole(spatial, batched):
    x = torch.ones(*([6] if batched else []), 50, *(4, 3, 2)[:spatial])
    layer = (lf.dropout1d, lf.dropout2d, lf.dropout3d)[spatial - 1](0.4)
    y, cache = layer.forward(layer.init(lf.Key(0), x), x)
    assert y.shape == cache.mask.shape == x.shape
    channels = y.flatten(-spatial)
    assert channels.eq(channels[..., :1]).all()
    # Each channel of each example by a draw of its own.
    kept = channels[..., 0] > 0
    assert same_statistics(kept.flatten(), mean=0.6)
    if batched:
        assert not kept.eq(kept[:1]).all()


@pytest.mark.parametrize("p", [0.05, 0.3, 0.7])
@pytest.mark.parametrize("features", [False, True])
def test_alpha_dropout_keeps_mean_and_variance(p, features):
    x = lf.keys.normal(lf.Key(1), (100, 800))
    y, cache = alpha_dropout.forward(dropout.Params(lf.Key(0)), x, p=p, features=features)
    assert same_statistics(y.mean(0) if features else y.flatten(), mean=0)
    assert same_statistics(y.square().mean(0) if features else y.flatten().square(), mean=1)
    dropped = y[~cache.mask]
    assert dropped.eq(dropped[0]).all()


def test_selu_tends_to_what_alpha_dropout_puts_in():
    assert same_number(torch.nn.functional.selu(torch.tensor(-1e3)), alpha_dropout.DROPPED)


def test_the_key_stays_where_it_is():
    x = torch.empty(6, 7, device="meta")
    params = lf.dropout().init(lf.Key(0), x)
    assert params.key.bits.device.type == "cpu"
    assert lf.dropout().predict(params, x) is x


def test_a_traced_step_draws_from_the_key_that_it_is_given():
    layer = lf.dropout()
    x = torch.ones(20)
    first = layer.init(lf.Key(0), x)
    traced = make_fx(lambda params, x: layer.forward(params, x)[0])(first, x)
    for params in (first, layer.advance(first, None)):
        assert same_bits(traced(params, x), layer.forward(params, x)[0])


@pytest.mark.parametrize(("layer", "shape", "message"), [
    (lf.dropout1d(), (5,), "dropout1d: expected x of shape (N, C, L1) or (C, L1), got (5,)"),
    (lf.dropout1d(), (5, 4, 3, 2),
        "dropout1d: expected x of shape (N, C, L1) or (C, L1), got (5, 4, 3, 2)"),
    (lf.dropout2d(), (5, 4),
        "dropout2d: expected x of shape (N, C, L1, L2) or (C, L1, L2), got (5, 4)"),
    (lf.feature_alpha_dropout(), (5,),
        "feature_alpha_dropout: expected x of shape (N, C, ...), got (5,)"),
], ids=str)  # fmt: skip
def test_wrong_shapes_are_named(layer, shape, message):
    params = dropout.Params(lf.Key(0))
    for function in (layer.forward, layer.predict):
        assert_refused(message, function, params, torch.empty(shape))
