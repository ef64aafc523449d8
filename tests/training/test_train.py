"""Steps and the training loop: pure, resumable, and equal to torch's autograd and SGD."""

import re

import pytest
import torch
from helpers.cases.case import normal
from helpers.compare import same_bits, same_number
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx

import lincoln_fn as lf
from lincoln_fn import keys, losses
from lincoln_fn.training.data import batches

SGD = lf.optim.sgd(0.1)
NET = lf.serial(lf.dense(4), lf.tanh(), lf.dense(3), lf.log_softmax())
X, T = normal(13, 5), keys.uniform(lf.Key(1), (13,), 0, 3).long()
STATE = lf.init_state(NET, SGD, lf.Key(0), X)
STEP = lf.make_step(NET, losses.nll(), SGD)


def columns(target):
    return target.double().view(-1, 1)


# By name: our net and loss, torch's net and loss, sizes, classes, and the learning rate.
NOTEBOOK = {
    "30-10-1, log_sigmoid, summed": (
        lf.serial(lf.dense(10), lf.sigmoid(), lf.dense(1), lf.log_sigmoid()),
        losses.log_sigmoid_loss(reduction="sum"),
        lambda: nn.Sequential(nn.Linear(30, 10), nn.Sigmoid(), nn.Linear(10, 1)),
        lambda y, t: nn.functional.binary_cross_entropy_with_logits(y, columns(t), reduction="sum"),
        30, 2, 0.003,
    ),
    "30-10-1, sigmoid, averaged": (
        lf.serial(lf.dense(10), lf.sigmoid(), lf.dense(1), lf.sigmoid()),
        losses.log_loss(eta=0.0),
        lambda: nn.Sequential(nn.Linear(30, 10), nn.Sigmoid(), nn.Linear(10, 1), nn.Sigmoid()),
        lambda y, t: nn.functional.binary_cross_entropy(y, columns(t)),
        30, 2, 0.3,
    ),
    "50-30-10, log_softmax": (
        lf.serial(lf.dense(30), lf.sigmoid(), lf.dense(10), lf.log_softmax()),
        losses.nll(),
        lambda: nn.Sequential(nn.Linear(50, 30), nn.Sigmoid(), nn.Linear(30, 10)),
        nn.functional.cross_entropy,
        50, 10, 0.1,
    ),
    "50-30-10, softmax, summed": (
        lf.serial(lf.dense(30), lf.sigmoid(), lf.dense(10), lf.softmax()),
        losses.cross_entropy(reduction="sum"),
        lambda: nn.Sequential(nn.Linear(50, 30), nn.Sigmoid(), nn.Linear(30, 10), nn.Softmax(1)),
        lambda y, t: nn.functional.nll_loss(y.log(), t, reduction="sum"),
        50, 10, 0.003,
    ),
    "50-30-10, logits": (
        lf.serial(lf.dense(30), lf.relu(), lf.dense(10)),
        losses.softmax_cross_entropy(),
        lambda: nn.Sequential(nn.Linear(50, 30), nn.ReLU(), nn.Linear(30, 10)),
        nn.functional.cross_entropy,
        50, 10, 0.1,
    ),
}  # fmt: skip


@pytest.mark.full(but=("logits", "averaged"))
@pytest.mark.parametrize("name", NOTEBOOK)
def test_200_steps_equal_torchs_autograd_and_sgd(name):
    net, loss, make_module, torchs_loss, n_in, classes, lr = NOTEBOOK[name]
    x = normal(64, n_in).double()
    target = (x[:, :classes].argmax(1)) % classes
    optimizer = lf.optim.sgd(lr)
    state = lf.init_state(net, optimizer, lf.Key(0), x)
    module = make_module().double()
    linear = [m for m in module if isinstance(m, nn.Linear)]
    ours = [p for p in state.params if p != ()]
    with torch.no_grad():
        for layer, params in zip(linear, ours, strict=True):
            layer.weight.copy_(params.weight.mT)
            layer.bias.copy_(params.bias)
    sgd = torch.optim.SGD(module.parameters(), lr=lr)
    source = batches((x, target), 12, key=lf.Key(2), epochs=34)
    training = lf.train(lf.make_step(net, loss, optimizer), state, source)
    for i in range(200):
        state, record = next(training)
        value = torchs_loss(module(source.at(i)[0]), source.at(i)[1])
        sgd.zero_grad()
        value.backward()
        sgd.step()
        assert same_number(record.loss, value.item())
    assert int(state.step) == 200
    for layer, params in zip(linear, [p for p in state.params if p != ()], strict=True):
        for theirs, given in ((layer.weight.mT, params.weight), (layer.bias, params.bias)):
            error = (given - theirs).abs().max()
            assert error <= 1e-10 * theirs.abs().max()


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


def test_a_step_is_pure():
    leaves = lf.tree.leaves((STATE, X, T), states=True)
    before = [(leaf._version, leaf.clone()) for leaf in leaves]
    first, second = STEP(STATE, (X, T)), STEP(STATE, (X, T))
    assert same_bits(first, second)
    for leaf, (version, values) in zip(leaves, before, strict=True):
        assert leaf._version == version
        assert same_bits(leaf, values)


def test_a_step_advances_what_the_update_made():
    counting = lf.tanh().replace(
        init=lambda key, x: key,
        forward=lambda params, x: lf.tanh().forward((), x),
        backward=lambda params, cache, g: (lf.tanh().backward((), cache, g)[0], params),
        advance=lambda params, cache: params.fold_in(1),
    )
    net = lf.serial(lf.dense(3), counting, lf.log_softmax())
    state = lf.init_state(net, SGD, lf.Key(0), X)
    new, _ = lf.make_step(net, losses.nll(), SGD)(state, (X, T))
    assert int(new.params[1].bits) == int(state.params[1].fold_in(1).bits)
    assert not same_bits(new.params[0].weight, state.params[0].weight)


def test_a_step_takes_a_list_as_a_data_loader_gives_it():
    assert same_bits(STEP(STATE, [X, T]), STEP(STATE, (X, T)))


def test_a_step_says_what_it_is_made_of():
    assert repr(STEP) == f"make_step({NET}, nll(), sgd(0.1))"


@pytest.mark.parametrize("loss", [losses.nll(), losses.softmax_cross_entropy()], ids=str)
def test_a_traced_step_takes_the_same_steps(loss):
    step = lf.make_step(NET, loss, SGD)
    traced = make_fx(lambda state, batch: step.run(state, batch))(STATE, (X, T))
    state = STATE
    for shift in range(3):
        batch = X.roll(shift, 0), T
        expected = step(state, batch)
        # A tracer may take a fused kernel apart, which rounds in another order.
        assert same_number(traced(state, batch), expected)
        state = expected[0]


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


@pytest.mark.parametrize("taken", [0, 1, 3, 4, 6, 8])
def test_resuming_at_a_state_is_going_on(taken):
    def walk(state, start):
        source = batches((X, T), 4, key=lf.Key(5), epochs=2, start=start)
        taken = list(lf.train(STEP, state, source))
        assert [record.step for _, record in taken] == [int(state.step) for state, _ in taken]
        return [state for state, _ in taken]

    whole = [STATE, *walk(STATE, 0)]
    assert len(whole) == 9
    resumed = walk(whole[taken], whole[taken].step.item())
    assert len(resumed) == 8 - taken
    assert same_bits(resumed, whole[taken + 1 :])


def test_a_step_records_repr_is_readable():
    (_, record), *_ = lf.train(STEP, STATE, [(X, T)])
    assert re.match(r"^StepRecord\(step=1, loss=\d\.\d+, examples=13, scores=\{\}\)$", repr(record))
    assert repr(STATE).startswith("TrainState(params=(Params(weight=float32[5, 4]")
