"""A training step computes what the layers' own functions say, and no product more."""

import pytest
import torch
from helpers.cases.case import normal
from helpers.compare import same_bits, same_number
from torch.utils.flop_counter import FlopCounterMode

import lincoln_fn as lf

X, TARGET = normal(6, 5), torch.tensor([0, 2, 1, 1, 0, 2])


def test_a_step_makes_no_product_that_it_does_not_need():
    net, optimizer = lf.serial(lf.dense(40), lf.sigmoid(), lf.dense(3)), lf.optim.sgd(0.1)
    state = lf.init_state(net, optimizer, lf.Key(0), X)
    step = lf.make_step(net, lf.losses.softmax_cross_entropy(), optimizer)
    with FlopCounterMode(display=False) as counter:
        step(state, (X, TARGET))
    # Forward and dW of both layers, and dx of the second alone.
    assert counter.get_total_flops() == 2 * 6 * (2 * 5 * 40 + 3 * 40 * 3)


@pytest.mark.parametrize("half", ["backward", "grads", "input_grad"])
def test_a_rule_of_ones_own_is_obeyed_wherever_it_stands(half):
    dense = lf.dense(3)

    def doubled(params, cache, g):
        return lf.tree.map(lambda leaf: 2 * leaf, getattr(dense, half)(params, cache, g))

    own = dense.replace(**{half: doubled})
    for optimizer in (lf.optim.sgd(0.1), lf.optim.sgd(0.1, momentum=0.9), lf.optim.adam(0.1)):
        for net in (lf.serial(lf.dense(4), own), lf.serial(lf.dense(4), lf.serial(own))):
            state = lf.init_state(net, optimizer, lf.Key(0), X)
            step = lf.make_step(net, lf.losses.softmax_cross_entropy(), optimizer)
            new, _ = step(state, (X, TARGET))
            y, cache = net.forward(state.params, X)
            g = lf.losses.softmax_cross_entropy()
            dy = g.backward(g.forward(y, TARGET)[1])
            _, dparams = net.backward(state.params, cache, dy)
            expected, _ = optimizer.update(state.params, dparams, state.opt_state)
            assert same_number(new.params, expected)


def test_a_rule_of_ones_own_for_a_composition_is_obeyed():
    x, target = normal(5, 2, 6, 6), torch.tensor([0, 1, 1, 0, 1])
    block = lf.serial(lf.conv2d(3, 3), lf.relu(), lf.max_pool2d(2))
    still = block.replace(
        backward=lambda params, cache, g: (
            torch.zeros_like(x),
            lf.tree.map(torch.ones_like, params),
        )
    )
    net, optimizer = lf.serial(still, lf.flatten(), lf.dense(2)), lf.optim.sgd(1.0)
    state = lf.init_state(net, optimizer, lf.Key(0), x)
    new, _ = lf.make_step(net, lf.losses.softmax_cross_entropy(), optimizer)(state, (x, target))
    for old, moved in zip(
        lf.tree.leaves(state.params[0]), lf.tree.leaves(new.params[0]), strict=True
    ):
        assert same_number(moved, old - 1)


@pytest.mark.parametrize("donate", [False, True])
@pytest.mark.parametrize(
    ("dparams", "message"),
    [
        (
            (torch.zeros(2),),
            "sgd: expected a gradient of its parameter's shape (5,) at 0.0, got (2,)",
        ),
        (((),), "sgd: expected a gradient of its parameter's shape (5,) at 0.0, got tuple"),
        ((), "sgd: expected gradients of the parameters' structure; "),
    ],
)
def test_a_gradient_that_does_not_mirror_its_parameter_is_refused(dparams, message, donate):
    scale = lf.Layer(
        "scale()",
        forward=lambda params, x: (params[0] * x, x),
        backward=lambda params, x, g: (params[0] * g, dparams),
        init=lambda key, x: (torch.ones(5),),
    )
    net, optimizer = lf.serial(scale, lf.dense(3)), lf.optim.sgd(0.1)
    state = lf.init_state(net, optimizer, lf.Key(0), X)
    step = lf.make_step(net, lf.losses.softmax_cross_entropy(), optimizer, donate=donate)
    with pytest.raises(lf.LayerError) as caught:
        step(state, (X, TARGET))
    assert str(caught.value).startswith(message)
    assert same_number(state.params[0][0], torch.ones(5))


def test_the_first_layer_makes_no_dx_even_if_it_cannot_descend():
    def refused(params, cache, g):
        raise AssertionError("nobody needs this dx")

    dense = lf.dense(4)
    first = dense.replace(backward=refused, grads=dense.grads)
    net, optimizer = lf.serial(first, lf.dense(3)), lf.optim.sgd(0.1)
    state = lf.init_state(net, optimizer, lf.Key(0), X)
    step = lf.make_step(net, lf.losses.softmax_cross_entropy(), optimizer)
    moved = step(state, (X, TARGET))[0].params[0].weight
    assert not same_bits(moved, state.params[0].weight)
