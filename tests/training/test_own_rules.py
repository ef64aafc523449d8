"""A training step computes what the layers' own functions say, and no product more."""

import pytest
import torch
from helpers import CE, MSE, SGD, assert_refused, assert_says, begin, normal, same_number
from torch.utils.flop_counter import FlopCounterMode

import lincoln_fn as lf

X, TARGET = normal(6, 5), torch.tensor([0, 2, 1, 1, 0, 2])


def test_a_step_makes_no_product_that_it_does_not_need():
    step, state = begin(lf.serial(lf.dense(40), lf.sigmoid(), lf.dense(3)), X)
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
            step, state = begin(net, X, CE, optimizer)
            new, _ = step(state, (X, TARGET))
            y, cache = net.forward(state.params, X)
            dy = CE.backward(CE.forward(y, TARGET)[1])
            _, dparams = net.backward(state.params, cache, dy)
            expected, _ = optimizer.update(state.params, dparams, state.opt_state)
            assert same_number(new.params, expected)


def test_a_rule_of_ones_own_for_a_composition_is_obeyed():
    x, target = normal(5, 2, 6, 6), torch.tensor([0, 1, 1, 0, 1])
    block = lf.serial(lf.conv2d(3, 3), lf.relu(), lf.max_pool2d(2))

    def ones(params, cache, g):
        return torch.zeros_like(x), lf.tree.map(torch.ones_like, params)

    net = lf.serial(block.replace(backward=ones), lf.flatten(), lf.dense(2))
    step, state = begin(net, x, CE, lf.optim.sgd(1.0))
    new, _ = step(state, (x, target))
    assert same_number(new.params[0], lf.tree.map(lambda old: old - 1, state.params[0]))


OTHERS = [((torch.zeros(2),), "(float32[2],)"), (((),), "((),)"), ((), "()"), (None, "None")]


@pytest.mark.parametrize("donate", [False, True])
@pytest.mark.parametrize(("dparams", "got"), OTHERS, ids=str)
def test_a_gradient_that_does_not_mirror_its_parameter_is_refused(dparams, got, donate):
    scale = lf.Layer(
        "scale()",
        forward=lambda params, x: (params[0] * x, x),
        backward=lambda params, x, g: (params[0] * g, dparams),
        init=lambda key, x: (torch.ones(5),),
    )
    step, state = begin(lf.serial(scale, lf.dense(3)), X, donate=donate)
    message = f"serial[0] scale(): expected dparams like params, (float32[5],), got {got}"
    assert_refused(message, step, state, (X, TARGET))
    assert same_number(state.params[0][0], torch.ones(5))


PAIR = torch.eye(2)


def own(y_and_cache, dx_and_dparams):
    """Make a layer of one's own, behind a dense one, that returns what it is given."""
    mine = lf.Layer("mine()", lambda params, x: y_and_cache, lambda *arguments: dx_and_dparams)
    net = lf.serial(lf.dense(2), mine)
    return net, (lf.dense(2).init(lf.Key(0), PAIR), ())


NO_PAIR = "serial[1] mine(): expected forward to return (y, cache), got a Tensor"


@pytest.mark.parametrize("call", ["init", "forward", "predict", "step", "clipped"])
def test_a_forward_that_returns_y_alone_is_refused_although_two_rows_look_like_a_pair(call):
    net, params = own(PAIR, (PAIR, ()))
    gradient = lf.per_example.clipped(1.0) if call == "clipped" else None
    step = lf.make_step(net, MSE, SGD, gradient=gradient)
    _, state = begin(lf.serial(lf.dense(2), lf.relu()), PAIR, gradient=gradient)
    calls = {
        "forward": lambda: net.forward(params, PAIR),
        "predict": lambda: net.predict(params, PAIR),
        "init": lambda: lf.serial(*net.parts, lf.relu()).init(lf.Key(0), PAIR),
    }
    assert_refused(NO_PAIR, calls.get(call, lambda: step(state, (PAIR, PAIR))))


def test_a_layer_of_ones_own_alone_that_returns_y_is_refused():
    mine = own(PAIR, (PAIR, ()))[0].parts[1]
    message = "^mine(): expected forward to return (y, cache), got a Tensor$"
    assert_says(message, *begin(mine, PAIR, MSE), (PAIR, PAIR[0]))  # as y's first row
    assert_says("^predict: expected forward to return (y, cache)", mine.predict, (), PAIR)


def test_a_combinator_of_ones_own_that_returns_y_is_refused():
    def there(visit, params, x):
        return visit(0, params[0], x)[0]

    net = lf.serial(lf.relu(), lf.walk.composition("mine", (lf.relu(),), there, print))
    message = "^serial[1] mine(relu()): expected forward to return (y, cache), got a Ten"
    assert_says(message, net.forward, ((), ((),)), PAIR)


BACK = {
    "dx alone": (PAIR, "backward to return (dx, dparams), got a Tensor"),
    "more than a pair": ((PAIR, (), None), "backward to return (dx, dparams), got a tuple of 3"),
    "a dx of another shape": ((torch.ones(2, 3), ()), "dx of x's shape (2, 2), got (2, 3)"),
    "a dx of another dtype": (
        (PAIR.double(), ()), "dx of x's dtype torch.float32, got torch.float64",
    ),
    "no dx": ((None, ()), "dx to be a tensor, got NoneType"),
}  # fmt: skip


@pytest.mark.parametrize(("given", "said"), BACK.values(), ids=BACK)
def test_a_wrong_gradient_names_the_layer_that_made_it(given, said):
    net, params = own((PAIR, None), given)
    message = f"serial[1] mine(): expected {said}"
    assert_refused(message, net.backward, params, net.forward(params, PAIR)[1], PAIR)
    step, state = begin(lf.serial(lf.dense(2), net), PAIR, MSE)
    assert_refused(f"serial[1] {message}", step, state, (PAIR, PAIR))


def test_a_wrong_g_of_the_callers_own_is_no_layers_mistake():
    net, params = own((PAIR, None), (PAIR, ()))
    dense = lf.serial(net.parts[0])
    cache = dense.forward(params[:1], PAIR)[1]
    message = "serial[0] dense(2): expected g of shape (2, 2), got (2, 3)"
    assert_refused(message, dense.backward, params[:1], cache, torch.ones(2, 3))
