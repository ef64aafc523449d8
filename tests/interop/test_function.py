"""A layer out of any torch function."""

import pickle

import pytest
import torch
import torchvision
from helpers import assert_says, first_run, normal, run, same_bits, same_number
from helpers.own import Cube
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

import lincoln_fn as lf
from lincoln_fn.interop import from_function, from_module, from_state_dict, to_state_dict


class InNumpy(torch.autograd.Function):
    """A function that needs numbers, which there are none of on `meta`."""

    @staticmethod
    def forward(ctx, x):
        numbers = x.detach().numpy()
        ctx.factor = torch.from_numpy(2 * numbers)
        return torch.from_numpy(numbers**2)

    @staticmethod
    def backward(ctx, g):
        return ctx.factor * g


def pooled(x):
    boxes = torch.tensor([[0.0, 0, 0, 3, 3], [1, 1, 0, 3, 2]])
    return torchvision.ops.roi_align(x.reshape(2, 1, 4, 4), boxes.to(x), 2).flatten(1)


WEIGHT = normal(3, 3, seed=2)

LAYERS = [
    (from_function(torch.erf), normal(5, 3)),
    (from_function(lambda x: F.cosine_similarity(*x)), (normal(5, 3), normal(5, 3, seed=1))),
    (from_function(lambda x: (x[0] * x[1], x[0].sin())), (normal(5, 3), normal(5, 3, seed=1))),
    (from_function(Cube.apply), normal(5, 3)),
    (from_function(InNumpy.apply), normal(5, 3)),
    (from_function(lambda x: x @ WEIGHT), normal(5, 3)),
    (from_function(lambda x: checkpoint(torch.sin, x, use_reentrant=False)), normal(5, 3)),
    (from_function(pooled), normal(2, 16)),
    (from_function(lambda params, x: F.linear(x, params["weight"], params["bias"]), init=lambda key,
        x: {"weight": normal(4, 3), "bias": normal(4)}), normal(5, 3)),
    (from_function(lambda params, x: (params[0].weight * x[0])[x[1]], init=lambda key,
        x: (lf.layers.prelu.Params(normal(3)), lf.Key(2))), (normal(5, 3),
        torch.tensor([2, 2, 0]))),
]  # fmt: skip


@pytest.mark.parametrize(("layer", "x"), LAYERS, ids=range(len(LAYERS)))
def test_a_function_is_a_layer(layer, x):
    params = layer.init(lf.Key(0), x)
    lf.testing.check_layer(layer, params, x)
    y, cache = layer.forward(params, x)
    again = lf.serial(lf.identity(), layer, lf.identity())
    params, y_again, cache_again = first_run(again, x)
    assert same_bits(y_again, y)
    g = lf.tree.map(torch.ones_like, y)
    given = layer.backward(params[1], cache, g)[0]
    assert same_bits(again.backward(params, cache_again, g)[0], given)


def test_an_entry_that_is_not_floating_and_a_state_have_no_gradient():
    layer, x = LAYERS[-1]
    params, y, cache = first_run(layer, x)
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
    message = "max(): expected g with 1 floating tensors, one for"
    assert_says(message, layer.backward, (), cache, (torch.ones(4), torch.ones(4)))
    message = "max(): expected g of shape (4,), got (3,)"
    assert_says(message, layer.backward, (), cache, (torch.ones(3), None))


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

    x, module = (normal(2, 3), normal(2, 3, seed=1)), nn.PairwiseDistance()
    assert same_bits(from_module(module)[0].predict({}, x), module(*x))
    layer, params = from_module(Named(), lambda module, x: tuple(module(*x).values()))
    lf.testing.check_layer(layer, params, x)
    layer, params = from_module(Named())
    message = "from_module(Named): expected y to be a tensor ... got dict; give call, as in call="
    assert_says(message, layer.forward, params, x)
    assert_says("from_module: expected module to be ... , got the Layer", from_module, lf.relu())


def test_a_layer_of_a_module_is_pickled():
    layer, params = from_module(nn.Linear(3, 2))
    again = pickle.loads(pickle.dumps(layer))
    assert same_bits(again.predict(params, torch.ones(3)), layer.predict(params, torch.ones(3)))


def test_its_cache_is_x():
    _, cache = from_function(torch.erf).forward((), torch.zeros(2))
    assert repr(cache) == "Cache(x=float32[2])"


def test_errors_name_it():
    layer = from_function(torch.erf)
    assert lf.serial(lf.dense(4), layer).name == "serial(dense(4), from_function(erf))"
    zeros = torch.zeros(2)
    assert_says("from_function(erf): expected params (), got", layer.forward, (zeros,), zeros)
    assert_says("from_function(erf): expected the cache of", layer.backward, (), zeros, zeros)


class WithConstants(nn.Module):
    """A module with a buffer, a parameter that is not trained, and a tensor of its own."""

    def __init__(self):
        super().__init__()
        self.linear, self.norm = nn.Linear(4, 3), nn.BatchNorm1d(3)
        self.linear.bias.requires_grad_(False)
        self.offset = torch.arange(3.0)

    def forward(self, x):
        return self.norm(self.linear(x)) + self.offset


def assert_in_a_network(module, x):
    layer, _ = from_module(module)
    net = lf.serial(lf.identity(), layer, lf.dense(2))
    params = net.init(lf.Key(0), x)
    expected = module.eval()(x)
    assert same_number(net.predict(params, x), lf.dense(2).predict(params[2], expected))
    _, dx, dparams = run(net, params, x, torch.ones_like)
    x = x.clone().requires_grad_()
    with torch.enable_grad():
        (module(x) @ params[2].weight).sum().backward()
    assert same_number(dx, x.grad)
    for name, p in module.named_parameters():
        if p.requires_grad:
            grad = torch.zeros_like(p) if p.grad is None else p.grad  # of a part that is not used
            assert same_number(dparams[1][name], grad), name


def test_a_module_with_constants_is_a_part_of_a_network():
    assert_in_a_network(WithConstants(), normal(5, 4))


@pytest.mark.full
@pytest.mark.parametrize("name", ["densenet121", "googlenet", "mobilenet_v3_small"])
def test_a_classifier_of_torchvision_is_a_part_of_a_network(name):
    options = {"init_weights": False} if name == "googlenet" else {}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = getattr(torchvision.models, name)(weights=None, num_classes=5, **options)
    assert_in_a_network(module, normal(2, 3, 64, 64))


def test_derivatives_of_the_backward_are_partial():
    """x depends on the weight here, and dx and dparams each hold the other one fixed."""
    layer = from_function(lambda w, x: w**2 * x**3, init=lambda key, x: normal(3))
    w = normal(3).requires_grad_()
    x = w.sin()
    cache = layer.forward(w, x)[1]
    dx, dw = layer.backward(w, cache, torch.ones(3))
    assert same_number((dx, dw), (3 * w**2 * x**2, 2 * w * x**3))
    (second,) = torch.autograd.grad(dw.sum(), w)
    assert same_number(second, 2 * x**3 + 6 * w * x**2 * w.cos())


def test_a_tensor_that_the_function_reads_gets_no_gradient():
    weight = normal(3).requires_grad_()
    layer = from_function(lambda x: x * weight)
    cache = layer.forward((), normal(5, 3))[1]
    dx, _ = layer.backward((), cache, torch.ones(5, 3))
    assert same_bits(dx, weight.detach().expand(5, 3))
    assert weight.grad is None
    assert not dx.requires_grad
