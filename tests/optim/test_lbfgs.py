"""L-BFGS takes torch's path, trains a network within `train`, and says what is wrong."""

import inspect

import pytest
import torch
from helpers import begin, same_bits, same_number
from helpers.refusals import refusals

import lincoln_fn as lf
from lincoln_fn.optim import lbfgs, lbfgs_state


def rosenbrock(params, batch):
    x, y = params["x"], params["y"]
    value = (batch - x) ** 2 + 100 * (y - x**2) ** 2
    dx = -2 * (batch - x) - 400 * x * (y - x**2)
    return value.sum(), {"x": dx, "y": 200 * (y - x**2)}


def flat_then_steep(params, batch):
    """A loss that falls slowly and far, then rises steeply: t has to grow, then to shrink."""
    p = params["x"]
    value = batch * (-0.01 * p + (p - 3).exp()) + params["y"] ** 2
    return value.sum(), {"x": batch * (-0.01 + (p - 3).exp()), "y": 2 * params["y"]}


START = {
    "x": torch.tensor([-1.2, 0.5], dtype=torch.float64),
    "y": torch.tensor([1.0, -2.0], dtype=torch.float64),
}
ONE = torch.tensor(1.0, dtype=torch.float64)


def by_torch(function, start, steps, **options):
    leaves = lf.tree.map(lambda leaf: leaf.clone().requires_grad_(), start)
    given = lf.tree.leaves(leaves)
    optimizer = torch.optim.LBFGS(given, line_search_fn="strong_wolfe", **options)
    evaluations, values = [], []

    def closure():
        optimizer.zero_grad()
        value, _ = function(leaves, ONE)
        value.backward()
        evaluations.append(value.item())
        return value

    for _ in range(steps):
        values.append(optimizer.step(closure).detach())
    return lf.tree.map(torch.Tensor.detach, leaves), values, evaluations


@pytest.mark.full(but=("9}-rosenbrock",))
@pytest.mark.parametrize("function", [rosenbrock, flat_then_steep])
@pytest.mark.parametrize(("steps", "options"), [
    (1, {"max_iter": 1, "max_eval": 25}),
    (1, {"max_iter": 1}),
    (1, {"max_iter": 9, "max_eval": 1}),
    (3, {"max_iter": 4, "history_size": 2}),
    (2, {"max_iter": 6, "lr": 0.3, "max_eval": 9}),
    (1, {"max_iter": 3, "lr": 8.0, "max_eval": 30}),
], ids=str)  # fmt: skip
def test_takes_torchs_path(function, steps, options):
    expected, values, evaluations = by_torch(function, START, steps, **options)
    size = {name: options[name] for name in options if name == "history_size"}
    options, seen = {name: options[name] for name in options if name not in size}, []

    def counted(params, batch):
        value, gradient = function(params, batch)
        seen.append(value.item())
        return value, gradient

    step, state = lbfgs(counted, **options), lbfgs_state(START, **size)
    for value in values:
        state, given = step(state, ONE)
        assert same_number(given, value)
    # Each evaluation is at the same place. A step divides by differences, which magnifies rounding.
    assert len(seen) == len(evaluations)
    assert same_number((seen, state.params), (evaluations, expected), error=1e-9)
    assert state.step == steps


@pytest.mark.parametrize("options", [{"max_iter": 1}, {"max_eval": 1}], ids=str)
def test_one_evaluation_is_enough_for_a_move(options):
    def bowl(params, batch):
        return ((params - 1) ** 2).sum(), 2 * (params - 1)

    step, state, places = lbfgs(bowl, **options), lbfgs_state(torch.tensor([-5.0])), []
    for _ in range(3):
        state, _ = step(state, None)
        places.append(state.params.item())
    expected = [by_torch(bowl, torch.tensor([-5.0]), n, **options)[0].item() for n in (1, 2, 3)]
    assert places == expected == [-4, 1, 1]


def test_names_and_defaults_are_torchs():
    theirs = inspect.signature(torch.optim.LBFGS).parameters.values()
    ours = {**inspect.signature(lbfgs).parameters, **inspect.signature(lbfgs_state).parameters}
    expected = {each.name: each.default for each in theirs if each.name != "line_search_fn"}
    given = {name: each.default for name, each in ours.items() if name in expected}
    assert given == expected


def test_finds_the_least_value_and_stays_there():
    step = lbfgs(rosenbrock, max_iter=100)
    state, first = step(lbfgs_state(START), ONE)
    assert first > 100
    assert same_number(state.params["x"], torch.ones(2).double(), error=1e-4)
    again, value = step(state, ONE)
    assert value < 1e-9
    assert same_number(again.params, state.params, error=1e-5)


def test_a_network_is_trained_and_resumed_within_train(tmp_path):
    x = lf.keys.normal(lf.Key(0), (40, 3))
    batch = x, torch.tanh(x @ lf.keys.normal(lf.Key(1), (3, 2)))
    net = lf.serial(lf.dense(8), lf.tanh(), lf.dense(2))
    step = lbfgs(lf.value_and_gradient(net, lf.losses.mse()), max_iter=5)
    begin = lbfgs_state(net.init(lf.Key(2), x))
    states = [state for state, _ in lf.train(step, begin, [batch] * 6)]
    losses = [record.loss for _, record in lf.train(step, begin, [batch] * 6)]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.02 * losses[0]
    lf.checkpoint.save(tmp_path / "state.pt", states[2])
    resumed = lf.checkpoint.load(tmp_path / "state.pt", like=begin)
    for resumed, _ in lf.train(step, resumed, [batch] * 3):  # the last one is kept
        pass
    assert same_bits(resumed, states[-1])


def test_the_value_and_gradient_are_those_of_a_step():
    x, target = lf.keys.normal(lf.Key(0), (6, 4)), torch.tensor([0, 1, 2, 0, 1, 2])
    net, loss = lf.serial(lf.dense(3), lf.relu(), lf.dense(3)), lf.losses.softmax_cross_entropy()
    params = net.init(lf.Key(1), x)
    for fast in (True, False):
        value, grads = lf.value_and_gradient(net, loss, fast=fast)(params, (x, target))
        step, state = begin(net, x, loss, lf.optim.sgd(1.0), params=params, fast=fast)
        new, expected = step(state, (x, target))
        assert same_bits(value, expected)
        assert same_number(lf.tree.map(torch.sub, params, grads), new.params)


def computed(batch):
    net = lf.dense(3)
    compute = lf.value_and_gradient(net, lf.losses.mse(reduction="none"))
    return compute(net.init(lf.Key(0), torch.ones(2, 3)), batch)


WHOLE = lf.distributed.fully_sharded(lf.dense(2), lf.distributed.alone())
test_what_does_not_fit_is_refused = refusals("""
computed(torch.ones(1, 3)) -> value_and_gradient: expected a batch (x, target)
computed((torch.ones(2, 3), torch.ones(2, 3))) -> expected one number, got (2, 3); use
    reduction='mean'
lbfgs(rosenbrock)(START, ONE) -> lbfgs: expected state LbfgsState, got
lbfgs(rosenbrock)(evolve(lbfgs_state(START), params={'x': START['x']}), ONE) -> expected moves of 2
    numbers, got 4; lbfgs_state
lbfgs(lambda params, batch: (ONE, ONE))(lbfgs_state(START), ONE) -> lbfgs: expected gradients of the
    parameters' struc
lbfgs(lambda p, batch: (ONE, p.mT))(lbfgs_state(torch.ones(2, 3)), ONE) -> expected a gradient of
    its parameter's shape (2, 3
lbfgs_state(WHOLE.init(Key(0), torch.ones(1, 3))) -> lbfgs: expected whole parameters, got slices
lbfgs_state(()) -> lbfgs: expected parameters, got none
lbfgs(rosenbrock, max_iter=0) -> lbfgs: expected max_iter of at least 1, got 0
""")
