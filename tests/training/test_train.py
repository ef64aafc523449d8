"""Steps and the training loop: pure, resumable, and equal to torch's autograd and SGD."""

import re

import pytest
import torch
from helpers import SGD, begin, normal, same_bits, same_number
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx

import lincoln_fn as lf
from lincoln_fn import keys, losses
from lincoln_fn.training.data import batches

NET = lf.serial(lf.dense(4), lf.tanh(), lf.dense(3), lf.log_softmax())
X, T = normal(13, 5), keys.uniform(lf.Key(1), (13,), 0, 3).long()
STEP, STATE = begin(NET, X, losses.nll())


def test_200_steps_equal_torchs_autograd_and_sgd():
    x = normal(64, 50).double()
    target = x[:, :10].argmax(1)
    step, state = begin(lf.serial(lf.dense(30), lf.relu(), lf.dense(10)), x)
    module = nn.Sequential(nn.Linear(50, 30), nn.ReLU(), nn.Linear(30, 10)).double()
    pairs = [(module[i].weight, module[i].bias) for i in (0, 2)]
    with torch.no_grad():
        for (weight, bias), params in zip(pairs, state.params[::2], strict=True):
            weight.copy_(params.weight.mT)
            bias.copy_(params.bias)
    sgd = torch.optim.SGD(module.parameters(), lr=0.1)
    source = batches((x, target), 12, key=lf.Key(2), epochs=34)
    training = lf.train(step, state, source)
    for i in range(200):
        state, record = next(training)
        value = nn.functional.cross_entropy(module(source.at(i)[0]), source.at(i)[1])
        sgd.zero_grad()
        value.backward()
        sgd.step()
        assert same_number(record.loss, value.item())
    assert int(state.step) == 200
    for (weight, bias), params in zip(pairs, state.params[::2], strict=True):
        assert same_number((params.weight, params.bias), (weight.mT, bias), error=1e-10)


def test_a_step_is_forward_loss_backward_and_update():
    state, value = STEP(STATE, (X, T))
    prediction, cache = NET.forward(STATE.params, X)
    expected, loss_cache = losses.nll().forward(prediction, T)
    _, dparams = NET.backward(STATE.params, cache, losses.nll().backward(loss_cache))
    assert same_number(value, expected)
    moved = SGD.update(STATE.params, dparams, ())[0]
    # The step adds each gradient's product to the weight itself, which some processors round once.
    assert same_number(state.params, moved)
    assert state.key is STATE.key
    assert (int(STATE.step), int(state.step)) == (0, 1)


def test_a_step_advances_what_the_update_made():
    counting = lf.tanh().replace(
        init=lambda key, x: key,
        forward=lambda params, x: lf.tanh().forward((), x),
        backward=lambda params, cache, g: (lf.tanh().backward((), cache, g)[0], params),
        advance=lambda params, cache: params.fold_in(1),
    )
    net = lf.serial(lf.dense(3), counting, lf.log_softmax())
    step, state = begin(net, X, losses.nll())
    new, _ = step(state, (X, T))
    assert int(new.params[1].bits) == int(state.params[1].fold_in(1).bits)
    assert not same_bits(new.params[0].weight, state.params[0].weight)


def test_a_step_takes_a_list_as_a_data_loader_gives_it():
    assert same_bits(STEP(STATE, [X, T]), STEP(STATE, (X, T)))


def test_a_step_says_what_it_is_made_of():
    assert repr(STEP) == f"make_step({NET}, nll(), sgd(0.1))"


@pytest.mark.parametrize(
    "loss", [losses.log_sigmoid_loss(), losses.sigmoid_cross_entropy(), losses.log_loss()], ids=str
)
def test_a_traced_binary_loss_is_not_bound_to_its_example(loss):
    def value_and_gradient(prediction, target):
        value, cache = loss.forward(prediction, target)
        return value, loss.backward(cache)

    predictions = [torch.sigmoid(normal(6, seed=seed)) for seed in (2, 3)]
    if loss.name != "log_loss()":
        predictions = [p.log() for p in predictions]
    targets = torch.tensor([0, 0, 0, 0, 0, 0]), torch.tensor([0, 1, 0, 1, 1, 1])
    traced = make_fx(value_and_gradient)(predictions[0], targets[0])
    for batch in zip(predictions, targets, strict=True):
        assert same_number(traced(*batch), value_and_gradient(*batch))


def test_init_state_draws_parameters_and_the_runs_key_from_two_keys():
    state = lf.init_state(NET, SGD, lf.Key(7), X)
    for_params, run = lf.Key(7).fold_in(0), lf.Key(7).fold_in(1)
    assert same_bits(state.params, NET.init(for_params, X))
    assert same_bits(state.key.bits, run.bits)
    assert state.opt_state == ()
    assert (state.step.dtype, int(state.step)) == (torch.int64, 0)


def test_train_yields_each_state_and_its_loss():
    source = list(batches((X, T), 4))
    states = [STATE]
    for state, record in lf.train(STEP, STATE, source):
        expected, value = STEP(states[-1], source[len(states) - 1])
        assert same_bits(state, expected)
        assert record.loss == value.item()
        assert record.step == len(states) == int(state.step)
        states.append(state)
    assert len(states) == 5


def test_train_takes_no_step_before_it_is_asked():
    source = iter([(X, T), (X, T)])
    training = lf.train(STEP, STATE, source)
    assert next(training)[1].step == 1
    assert len(list(source)) == 1
    assert list(training) == []


def test_a_step_records_repr_is_readable():
    (_, record), *_ = lf.train(STEP, STATE, [(X, T)])
    assert re.match(r"^StepRecord\(step=1, loss=\d\.\d+, examples=13, scores=\{\}\)$", repr(record))
    assert repr(STATE).startswith("TrainState(params=(Params(weight=float32[5, 4]")
