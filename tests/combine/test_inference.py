"""A part that runs as after training: forward is predict, its gradient is right, nothing moves."""

from functools import partial

import pytest
import torch
from helpers import CASES, FIRST, begin, first_run, normal, same_bits, same_number

import lincoln_fn as lf


def trained(layer, x):
    """Make params whose statistics are not those of the start."""
    params = layer.init(lf.Key(3), x)
    for scale in (2.0, 3.0):
        _, cache = layer.forward(params, scale * x + 1)
        params = layer.advance(params, cache)
    return params


# A layer whose predict is its forward stays as it is, in each configuration.
@pytest.mark.parametrize(
    "case", [case for case in CASES if case in FIRST or case.predict_is_forward is False], ids=str
)
def test_forward_is_predict_and_no_state_moves(case):
    _, cache = case.layer.forward(case.params(), case.x)
    params, layer = case.layer.advance(case.params(), cache), lf.inference(case.layer)
    y, cache = layer.forward(params, case.x)
    assert same_bits((y, layer.predict(params, case.x)), (case.layer.predict(params, case.x), y))
    assert layer.advance(params, cache) is params or same_bits(layer.advance(params, cache), params)
    again = lf.inference(layer)
    assert again.name == layer.name
    assert same_bits(again.predict(params, case.x), y)


def test_a_step_trains_an_inference_part_and_leaves_its_statistics():
    x, target = normal(8, 3), normal(8, 2, seed=1)
    net = lf.serial(lf.inference(lf.serial(lf.batch_norm(), lf.dropout(0.5))), lf.dense(2))
    step, state = begin(net, x, lf.losses.mse())
    new, _ = step(state, (x, target))
    norm, before = new.params[0][0], state.params[0][0]
    assert same_bits((norm.running, new.params[0][1]), (before.running, state.params[0][1]))
    assert not same_bits(norm.weight, before.weight)


def test_frozen_statistics_move_unless_they_are_to_be_still():
    x = normal(8, 3)
    layer = lf.serial(lf.batch_norm(), lf.dropout(0.5))
    moving, still = lf.frozen(layer), lf.frozen(layer, statistics="still")
    assert str(still) == "frozen(serial(inference(batch_norm()), dropout()))"
    params = moving.init(lf.Key(0), x)
    for net, moves in ((moving, True), (still, False)):
        _, cache = net.forward(params, x)
        norm, drop = net.advance(params, cache).params
        assert bool(same_bits(norm, params.params[0])) is not moves
        assert not same_bits(drop, params.params[1])  # dropout draws anew in both


def test_a_layer_of_ones_own_with_its_own_predict_is_replaced():
    noisy = lf.Layer(
        "noisy()",
        lambda params, x: (x + 1, None),
        lambda params, cache, g: (g, ()),
        predict=lambda params, x: x,
    )
    mended = lf.map_layers(
        lambda part: lf.identity() if part.name == "noisy()" else part, lf.serial(noisy)
    )
    assert str(lf.inference(mended)) == "serial(identity())"


def test_a_network_of_fast_functions_runs_as_after_training():
    net, x = lf.fast(lf.serial(lf.dense(3), lf.batch_norm(), lf.dropout())), normal(5, 4)
    params = trained(net, x)
    y, cache = lf.inference(net).forward(params, x)
    assert same_number(y, net.predict(params, x))
    g = normal(5, 3, seed=1)
    plain = lf.inference(lf.serial(lf.dense(3), lf.batch_norm(), lf.dropout()))
    expected = plain.input_grad(params, plain.forward(params, x)[1], g)
    assert same_number(lf.inference(net).input_grad(params, cache, g), expected)


def test_a_layer_of_ones_own_declares_the_gradient_of_its_predict():
    def predict(params, x, *, factor):
        return factor * x

    def at_inference(params, x, *, factor):
        return predict(params, x, factor=factor), factor

    lf.declare(predict, at_inference=(at_inference, lambda params, factor, g: (factor * g, ())))
    scaled = lf.Layer(
        "scaled()",
        lambda params, x: (x, None),
        lambda params, cache, g: (g, ()),
        predict=partial(predict, factor=3.0),
    )
    net = lf.inference(lf.serial(scaled, lf.dropout()))
    x = torch.ones(2, 3)
    params, y, cache = first_run(net, x)
    assert same_bits((y, net.predict(params, x)), (3 * x, 3 * x))
    assert same_bits(net.input_grad(params, cache, x), 3 * x)


def test_a_layer_of_ones_own_that_only_advances_stays_as_it_is():
    counted = lf.Layer(
        "counted()",
        lambda params, x: (x + params, None),
        lambda params, cache, g: (g, torch.zeros(())),
        advance=lambda params, cache: params + 1,
    )
    layer = lf.inference(counted)
    assert str(layer) == "inference(counted())"
    assert layer.forward(torch.tensor(2.0), torch.ones(1))[0] == 3
    assert layer.advance(torch.tensor(2.0), None) == 2


def test_attention_at_inference_is_the_same_after_fast():
    x = normal(2, 5, 4)
    net = lf.inference(lf.transformer_encoder_block(2, dim_feedforward=6, dropout=0.5))
    params = net.init(lf.Key(0), x)
    y = lf.fast(net).forward(params, x)[0]
    assert same_number(y, net.predict(params, x))
