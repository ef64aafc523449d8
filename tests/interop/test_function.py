"""A layer out of any torch function."""

import pickle

import pytest
import torch
from helpers.cases.case import normal
from helpers.compare import same_bits, same_number
from torch import nn
from torch.nn import functional as F

import lincoln_fn as lf
from lincoln_fn.interop import from_function, from_module, from_state_dict, to_state_dict, to_torch


def cosine(x):
    return F.cosine_similarity(*x)


def both(x):
    return x[0] * x[1], x[0].sin()


LAYERS = [
    (from_function(torch.erf), normal(5, 3)),
    (from_function(cosine), (normal(5, 3), normal(5, 3, seed=1))),
    (from_function(both), (normal(5, 3), normal(5, 3, seed=1))),
    (
        from_function(
            lambda params, x: F.linear(x, params["weight"], params["bias"]),
            init=lambda key, x: {"weight": normal(4, 3), "bias": normal(4)},
        ),
        normal(5, 3),
    ),
    (
        from_function(
            lambda params, x: (params[0].weight * x[0])[x[1]],
            init=lambda key, x: (lf.layers.prelu.Params(normal(3)), lf.Key(2)),
        ),
        (normal(5, 3), torch.tensor([2, 2, 0])),
    ),
]


@pytest.mark.parametrize(("layer", "x"), LAYERS, ids=range(len(LAYERS)))
def test_a_function_is_a_layer(layer, x):
    lf.testing.check_layer(layer, layer.init(lf.Key(0), x), x)


def test_an_entry_that_is_not_floating_and_a_state_have_no_gradient():
    layer, x = LAYERS[-1]
    params = layer.init(lf.Key(0), x)
    y, cache = layer.forward(params, x)
    with torch.no_grad():
        dx, dparams = layer.backward(params, cache, torch.ones_like(y))
    assert dx[1] is None
    assert dparams[1] is params[1]
    assert same_number(dx[0], torch.tensor([1.0, 0, 2, 0, 0])[:, None] * params[0].weight)


def test_an_output_that_is_not_floating_has_no_gradient():
    layer, x = from_function(lambda x: tuple(x.max(1)), name="max()"), normal(4, 3)
    y, cache = layer.forward((), x)
    dx, _ = layer.backward((), cache, (2 * torch.ones(4), None))
    assert same_bits(dx, 2 * (x == y[0][:, None]).float())
    with pytest.raises(
        lf.LayerError, match=r"max\(\): expected g with 1 floating tensors, one for"
    ):
        layer.backward((), cache, (torch.ones(4), torch.ones(4)))
    with pytest.raises(lf.LayerError, match=r"max\(\): expected g of shape \(4,\), got \(3,\)"):
        layer.backward((), cache, (torch.ones(3), None))


def test_it_composes_and_trains():
    net = lf.serial(lf.dense(4), from_function(torch.erf), lf.dense(1))
    x = normal(16, 3)
    optimizer = lf.optim.sgd(0.1)
    state = lf.init_state(net, optimizer, lf.Key(0), x)
    step = lf.make_step(net, lf.losses.mse(), optimizer)
    values = []
    for _ in range(20):
        state, value = step(state, (x, x.sum(1, keepdim=True)))
        values.append(value)
    assert values[-1] < 0.5 * values[0]
    assert net.name == "serial(dense(4), from_function(erf), dense(1))"


def test_a_module_without_counterpart_is_one_layer():
    module = nn.GRUCell(3, 4)
    layer, params = from_module(module)
    x = normal(5, 3)
    lf.testing.check_layer(layer, params, x)
    assert same_bits(layer.init(lf.Key(3), x), params)
    named = to_state_dict(lf.serial(layer), (params,))
    assert set(named) == {f"0.{name}" for name in module.state_dict()}
    back = from_state_dict(lf.serial(layer), named, (params,))
    assert same_bits(back[0]["weight_hh"], params["weight_hh"])


def test_a_module_of_its_own_stays_as_it_is():
    """Dropout is off and statistics are constants, also in `forward`; frozen parameters, too."""
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(), nn.Linear(4, 4))
    module[3].weight = module[3].weight.requires_grad_(False)
    layer, params = from_module(module)
    assert list(params) == ["0.weight", "0.bias", "1.weight", "1.bias", "3.bias"]
    x = normal(5, 3)
    y, cache = layer.forward(params, x)
    assert same_bits(y, layer.predict(params, x))
    assert module.training
    module.requires_grad_(False)
    assert same_number(y, module.eval()(x))
    # What is done to the module later does not matter.
    module[1].running_mean += 1
    module[3].weight *= 2
    assert same_bits(layer.predict(params, x), y)
    before = [leaf.clone() for leaf in params.values()]
    layer.backward(params, cache, torch.ones_like(y))
    assert same_bits(list(params.values()), before)


def test_a_module_that_writes_over_its_input_leaves_ours_as_it_is():
    layer, params = from_module(nn.Sequential(nn.ELU(inplace=True), nn.Linear(3, 2)))
    x = normal(5, 3)
    before = x.clone()
    layer.forward(params, x)
    assert same_bits(x, before)
    lf.testing.check_layer(layer, params, x)


def test_a_module_of_several_inputs_and_one_with_named_outputs():
    class Named(nn.Module):
        def forward(self, a, b):
            return {"sum": a + b, "product": a * b}

    class Sum(nn.Module):
        def forward(self, a, b):
            return a + b

    x = (normal(2, 3), normal(2, 3, seed=1))
    assert same_bits(from_module(Sum())[0].predict({}, x), x[0] + x[1])
    layer, params = from_module(Named(), lambda module, x: tuple(module(*x).values()))
    lf.testing.check_layer(layer, params, x)
    layer, params = from_module(Named())
    message = r"from_module\(Named\): expected y to be a tensor .* got dict; give call, as in call="
    with pytest.raises(lf.LayerError, match=message):
        layer.forward(params, x)
    with pytest.raises(
        lf.LayerError, match=r"from_module: expected module to be .*, got the Layer"
    ):
        from_module(lf.relu())


def test_a_layer_of_a_module_is_pickled():
    layer, params = from_module(nn.Linear(3, 2))
    again = pickle.loads(pickle.dumps(layer))
    assert same_bits(again.predict(params, torch.ones(3)), layer.predict(params, torch.ones(3)))


def test_it_goes_back_to_torch():
    module = to_torch(from_function(both), ()).double()
    x = [normal(2, 3).double().requires_grad_(), normal(2, 3, seed=1).double().requires_grad_()]
    assert torch.autograd.gradcheck(module, x)


def test_its_cache_is_x():
    _, cache = from_function(torch.erf).forward((), torch.zeros(2))
    assert repr(cache) == "Given(x=float32[2])"


def test_errors_name_it():
    layer = from_function(torch.erf)
    with pytest.raises(lf.LayerError, match=r"from_function\(erf\): expected params \(\), got"):
        layer.forward((torch.zeros(2),), torch.zeros(2))
    with pytest.raises(lf.LayerError, match=r"from_function\(erf\): expected the cache of its own"):
        layer.backward((), torch.zeros(2), torch.zeros(2))
