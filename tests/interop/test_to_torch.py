"""A layer as a torch module: gradients, modes, states, names, and a place in a model of torch's."""

import copy

import pytest
import torch
from helpers import assert_says, normal, same_bits, same_number

import lincoln_fn as lf
from lincoln_fn.interop import to_torch

IMAGES = normal(3, 2, 6, 5)


def made(layer, x, dtype=torch.float32):
    module = to_torch(layer, layer.init(lf.Key(3), x))
    return module.to(dtype)


ROW, SEQUENCE = normal(5, 3), normal(2, 3, 4)
GRADCHECKED = [
    (lf.serial(lf.conv2d(3, 3), lf.batch_norm(), lf.tanh(), lf.avg_pool2d(2), lf.flatten(),
               lf.dense(2)), (IMAGES,)),
    (lf.lstm(3), (normal(2, 4, 3), None)),
    (lf.multi_head_attention(2), (SEQUENCE, normal(2, 5, 4), normal(2, 5, 4))),
    (lf.select(0, 0, 1), (ROW, normal(2))),
    (lf.serial(lf.frozen(lf.dense(4)), lf.dense(2)), (ROW,)),
]  # fmt: skip


# What is handed over and back: states, no tensor, several of each, and none that is trained.
@pytest.mark.full(but=("lstm", "select", "frozen"))
@pytest.mark.parametrize(("layer", "x"), GRADCHECKED, ids=[str(row[0]) for row in GRADCHECKED])
def test_gradcheck(layer, x):
    module = made(layer, x[0] if len(x) == 1 else x, torch.float64)
    parameters = list(module.parameters())
    names = [name for name, _ in module.named_parameters()]
    inputs = [entry for entry in x if entry is not None]
    inputs = [entry.double().requires_grad_() for entry in inputs]

    def run(*tensors):
        given = iter(tensors[: len(inputs)])
        entries = tuple(next(given) if entry is not None else None for entry in x)
        own = dict(zip(names, tensors[len(inputs) :], strict=True))
        y = torch.func.functional_call(module, own, entries)
        return tuple(lf.tree.leaves(y)) if isinstance(y, tuple) else y

    assert torch.autograd.gradcheck(run, (*inputs, *parameters))


def test_only_what_is_asked_for_is_computed():
    asked, ones = [], torch.ones(2)

    def noted(name, result=ones):
        return lambda *given: asked.append(name) or result

    halves = {name: noted(name) for name in ("grads", "input_grad")}
    both = noted("both", (ones, ones))
    own = lf.Layer("own()", lambda params, x: (params * x, None), both, **halves)
    module = to_torch(own, ones)
    assert [name for name, _ in module.named_parameters()] == ["params"]
    module(torch.ones(2)).sum().backward()
    module(torch.ones(2, requires_grad=True)).sum().backward()
    module.requires_grad_(False)
    module(torch.ones(2, requires_grad=True)).sum().backward()
    assert asked == ["grads", "both", "input_grad"]


def test_names_are_paths_and_states_are_buffers():
    module = made(lf.serial(lf.dense(4), lf.batch_norm(), lf.dropout()), normal(5, 3))
    norm = ["1.weight", "1.bias"]
    assert [name for name, _ in module.named_parameters()] == ["0.weight", "0.bias", *norm]
    states = ["1.running.mean", "1.running.var", "1.running.num_batches", "2.key.bits"]
    assert [name for name, _ in module.named_buffers()] == states
    assert "serial(dense(4), batch_norm(), dropout())" in repr(module)
    other = made(lf.serial(lf.dense(4), lf.batch_norm(), lf.dropout()), normal(5, 3))
    other.load_state_dict(module.state_dict(), strict=True)


def test_the_modules_tensors_are_its_own():
    layer = lf.dense(4)
    params = layer.init(lf.Key(3), normal(5, 3))
    module = to_torch(layer, params)
    with torch.no_grad():
        module.bias.fill_(7)
    assert not (params.bias == 7).any()
    taken = module.as_params()
    assert type(taken) is type(params)
    assert not taken.bias.requires_grad
    with torch.no_grad():
        module.bias.fill_(8)
    assert (taken.bias == 7).all()


def test_training_moves_states_on_and_evaluation_does_not():
    layer = lf.serial(lf.batch_norm(), lf.dropout())
    x = normal(5, 3)
    params = layer.init(lf.Key(3), x)
    module = to_torch(layer, params)
    for _ in range(2):
        y, cache = layer.forward(params, x)
        params = layer.advance(params, cache)
        assert same_bits(module(x), y)
    now = lf.tree.leaves(module.as_params(), states=True)
    assert same_bits(now, lf.tree.leaves(params, states=True))
    module.eval()
    assert same_bits(module(x), layer.predict(params, x))
    assert same_bits(module(x), layer.predict(params, x))


def test_two_calls_before_their_backward():
    x = normal(5, 3).requires_grad_()
    layer = lf.serial(lf.dense(4), lf.batch_norm(), lf.dropout())
    module = made(layer, x)
    params = module.as_params()
    (module(x).sum() + module(x).square().sum()).backward()
    dx = torch.zeros(5, 3)
    for g_of in (torch.ones_like, lambda y: 2 * y):
        y, cache = layer.forward(params, x.detach())
        dx = dx + layer.backward(params, cache, g_of(y))[0]
        params = layer.advance(params, cache)
    assert same_number(x.grad, dx)


def test_indices_have_no_gradient():
    module = made(lf.serial(lf.embedding(7, 3), lf.dense(2)), torch.tensor([[1, 2]]))
    module(torch.tensor([[1, 6]])).sum().backward()
    assert module.get_parameter("0.weight").grad.abs().sum(1).nonzero().flatten().tolist() == [1, 6]


def test_an_output_that_is_not_floating_has_no_gradient():
    given_back = []

    def backward(params, cache, g):
        given_back.append(g)
        return (g[1], None), ()

    module = to_torch(lf.Layer("swap()", lambda params, x: (x[::-1], None), backward), ())
    x, mask = normal(3).requires_grad_(), torch.tensor([True, False, True])
    given, y = module(x, mask)
    assert same_bits(given, mask)
    assert not given.requires_grad
    y.sum().backward()
    assert same_number(x.grad, torch.ones(3))
    assert given_back[0][0] is None


def test_there_is_no_backward_after_eval():
    module = made(lf.serial(lf.dense(4), lf.dropout()), normal(5, 3)).eval()
    problem = "after eval() it runs predict, which has no backward; call train()"
    message = f"RuntimeError: ^serial(dense(4), dropout()): {problem}$"
    assert_says(message, module(normal(5, 3)).sum().backward)
    with torch.no_grad():
        assert not module(normal(5, 3)).requires_grad


def test_there_is_no_second_derivative():
    module, x = made(lf.dense(4), normal(5, 3)), normal(5, 3).requires_grad_()
    (dx,) = torch.autograd.grad(module(x).square().sum(), x, create_graph=True)
    assert_says("RuntimeError: differentiate twice ... @once_differentiable", dx.sum().backward)


def test_a_parameter_changed_before_backward_is_noticed():
    module = made(lf.dense(4), normal(5, 3))
    y = module(normal(5, 3).requires_grad_())
    with torch.no_grad():
        module.weight.mul_(2)
    assert_says("RuntimeError: modified by an inplace operation", y.sum().backward)


def test_a_layers_own_error_comes_through():
    message = "dense(4): expected x of shape (..., 3)"
    assert_says(message, made(lf.dense(4), normal(5, 3)), normal(5, 2))


def test_a_copy_is_independent():
    module = made(lf.serial(lf.dense(4), lf.dropout()), normal(5, 3))
    twin, x = copy.deepcopy(module), normal(5, 3)
    assert same_bits(twin(x), module(x))
    module(x)
    assert not same_bits(twin(x), module(x))
