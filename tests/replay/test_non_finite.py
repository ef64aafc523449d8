"""Replay: the origin of the first nan or infinity of a run."""

import math

import attrs
import pytest
import torch
from helpers.compare import same_bits
from helpers.replays import (
    ADAM,
    BATCHES,
    LOSS,
    TARGET,
    Counted,
    X,
    infinite_dx,
    network,
    sound,
    start_of,
    trained,
)

import lincoln_fn as lf


@pytest.fixture(scope="module")
def infinite_run():
    torch.set_num_threads(1)
    return trained(network(infinite_dx))


def test_an_infinity_made_in_backward_is_found_by_step_layer_and_example(infinite_run):
    assert int(infinite_run.saved[-1].step) == 36
    found = lf.replay.first_non_finite(infinite_run)
    assert found.place == lf.replay.Place(41, "backward", "dx", (4, 2), "1.0.1", "faulty(dense(7))")
    assert (found.value, found.batch, found.example) == (math.inf, 40, 4)
    assert same_bits(X[found.row], BATCHES.at(40)[0][4])
    assert str(found) == (
        "step 41: backward of 1.0.1 faulty(dense(7)): dx[4, 2] is inf; batch 40, example 4, "
        f"row {found.row} of the data"
    )


def test_only_the_steps_after_the_last_finite_state_are_repeated():
    run = trained(network(infinite_dx), every=4)
    nan = lf.tree.map(lambda leaf: leaf * math.nan, run.saved[-1].params)
    later = [
        lf.evolve(run.saved[-1], params=nan, step=torch.tensor(step)) for step in range(44, 60, 4)
    ]
    counted = Counted(run.step)
    long = attrs.evolve(
        run, saved=[*run.saved, *later], step=counted, net=network(infinite_dx), loss=LOSS
    )
    assert lf.replay.first_non_finite(long).place.step == 41
    assert counted.taken == 1


@pytest.mark.parametrize(("name", "index"), [("x", (5, 2)), ("target", (7, 1))])
def test_a_value_of_the_data_is_found(name, index):
    arrays = {"x": X.clone(), "target": TARGET.clone()}
    arrays[name][index] = math.nan
    batches = lf.data.batches((arrays["x"], arrays["target"]), 9, key=lf.Key(4), epochs=2)
    net = network(sound)
    run = lf.replay.Run(lf.make_step(net, LOSS, ADAM), batches, start_of(net))
    found = lf.replay.first_non_finite(run)
    assert (found.place.made_by, found.place.array, found.row) == ("data", name, index[0])
    assert found.place.step == found.batch + 1
    assert math.isnan(found.value)


def logarithm():
    """Make a layer whose forward is log |x|, whose gradient is 1 / x."""
    return lf.Layer("log()", lambda _, x: (x.abs().log(), x), lambda _, x, g: (g / x, ()))


def test_forward_and_its_example_are_found():
    x = X.abs() + 0.5
    x[33, 4] = 0.0
    batches = lf.data.batches((x, TARGET), 9, epochs=2)
    net = lf.serial(logarithm(), lf.dense(2))
    run = lf.replay.Run(
        lf.make_step(net, LOSS, ADAM), batches, lf.init_state(net, ADAM, lf.Key(0), x)
    )
    found = lf.replay.first_non_finite(run)
    assert (found.place.made_by, found.place.path, found.place.layer) == ("forward", "0", "log()")
    assert (found.value, found.place.step, found.example, found.row) == (-math.inf, 4, 6, 33)


def test_the_example_of_a_gradient_of_parameters_is_found():
    # A product that overflows: 1e30 of example 41 times a g of 1e20.
    x, target = X.clone(), TARGET.clone()
    x[41, 0] = 1e30
    scale = lf.Layer("scale()", lambda _, x: (x * 1e-30, None), lambda _, c, g: (g * 1e20, ()))
    net = lf.serial(lf.dense(2, bias=False), scale)
    batches = lf.data.batches((x, target), 9, epochs=2)
    optimizer = lf.optim.sgd(1e-30, momentum=0.9)
    step, start = lf.make_step(net, LOSS, optimizer), lf.init_state(net, optimizer, lf.Key(0), x)
    found = lf.replay.first_non_finite(lf.replay.Run(step, batches, start))
    assert (found.place.made_by, found.place.array) == ("backward", "dparams.weight")
    assert (found.place.step, found.example, found.row) == (5, 5, 41)


def test_an_update_is_found_and_no_example_is_blamed():
    net = network(sound)
    exploding = lf.optim.sgd(lf.schedules.constant(0.1))
    step = lf.make_step(net, LOSS, exploding)

    def own(state, batch):
        new, value = step(state, batch)
        spoilt = new.params[2].bias / torch.where(new.step == 3, 0.0, 1.0)
        params = (*new.params[:2], lf.evolve(new.params[2], bias=spoilt))
        return lf.evolve(new, params=params), value

    run = lf.replay.Run(own, BATCHES, start_of(net, exploding), net=net, loss=LOSS)
    found = lf.replay.first_non_finite(run)
    where = found.place.step, found.place.made_by, found.place.array, found.example
    assert where == (3, "update", "params.2.bias", None)
    # Without the network, the step and the array are found.
    alone = lf.replay.first_non_finite(attrs.evolve(run, net=None, loss=None))
    assert alone.place == found.place


def test_a_gradient_that_is_wrong_by_itself_blames_no_example():
    def spoilt(step, gs):
        return gs[0], lf.tree.map(lambda d: d + torch.where(step == 2, math.nan, 0), gs[1])

    net = network(spoilt)
    run = lf.replay.Run(lf.make_step(net, LOSS, ADAM), BATCHES, start_of(net))
    found = lf.replay.first_non_finite(run)
    assert (found.place.step, found.place.array, found.example) == (2, "dparams.0.weight", None)


def test_a_run_that_stays_finite_has_no_origin():
    run = trained(network(sound), steps=12)
    assert lf.replay.first_non_finite(run) is None


def test_a_start_that_is_not_finite_is_said():
    net = network(sound)
    start = start_of(net)
    params = lf.tree.map(lambda leaf: leaf * math.inf, start.params)
    run = lf.replay.Run(lf.make_step(net, LOSS, ADAM), BATCHES, lf.evolve(start, params=params))
    found = lf.replay.first_non_finite(run)
    assert (found.place.step, found.place.made_by) == (0, "start")
