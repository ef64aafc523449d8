"""Replay: the first difference between runs, and the origin of the first nan or infinity."""

import math

import attrs
import pytest
import torch
from helpers.compare import same_bits, same_number
from helpers.refusals import refusals
from helpers.replays import (
    ADAM,
    BATCHES,
    LOSS,
    SGD,
    TARGET,
    Counted,
    X,
    infinite_dx,
    network,
    run_of,
    small_error,
    sound,
    start_of,
    trained,
)

import lincoln_fn as lf


@pytest.fixture(scope="module")
def sound_run():
    torch.set_num_threads(1)
    return trained(network(sound))


@pytest.fixture(scope="module")
def faulty_run():
    torch.set_num_threads(1)
    return trained(network(small_error))


def test_a_small_error_is_found_by_step_layer_and_array(sound_run, faulty_run):
    found = lf.replay.first_difference(sound_run, faulty_run)
    assert found.place == lf.replay.Place(
        35, "backward", "dparams.0.weight", (3, 1), "1.0.1", "faulty(dense(7))"
    )
    assert same_number(found.values[1] - found.values[0], 1e-6, error=0.1)
    assert same_number(found.largest, 1e-6, error=0.1)
    assert found.after == 34
    assert str(found).startswith(
        "step 35: backward of 1.0.1 faulty(dense(7)): dparams.0.weight[3, 1] is "
    )


def test_only_the_steps_between_two_saved_states_are_repeated(sound_run, faulty_run):
    counted = [attrs.evolve(run, step=Counted(run.step)) for run in (sound_run, faulty_run)]
    parts = {"net": network(sound), "loss": LOSS}, {"net": network(small_error), "loss": LOSS}
    a, b = (attrs.evolve(run, **given) for run, given in zip(counted, parts, strict=True))
    found = lf.replay.first_difference(a, b)
    assert (found.place.step, found.place.path) == (35, "1.0.1")
    # From 30 to 35.
    assert a.step.taken == b.step.taken == 5
    # Where one run has no saved states, bisection repeats 6 steps for each state that it looks at.
    c = attrs.evolve(b, saved=(), step=Counted(faulty_run.step))
    assert lf.replay.first_difference(a, c).place == found.place
    assert c.step.taken <= 6 * math.ceil(math.log2(10) + 1) + 5


def test_a_run_is_repeated_bit_for_bit(sound_run):
    assert lf.replay.first_difference(sound_run) is None
    assert lf.replay.first_difference(sound_run, sound_run) is None


def test_a_run_that_its_own_code_does_not_repeat_is_found_between_its_saved_states(sound_run):
    state = sound_run.at(36)
    weight = state.params[2].weight.clone()
    weight[2, 1] += 1e-5
    spoilt = lf.evolve(state, params=(*state.params[:2], lf.evolve(state.params[2], weight=weight)))
    saved = [spoilt if int(s.step) == 36 else s for s in sound_run.saved[:6]]
    found = lf.replay.first_difference(attrs.evolve(sound_run, saved=saved))
    assert (found.place.step, found.place.made_by, found.after) == (36, "record", 30)
    assert (found.place.array, found.place.index) == ("params.2.weight", (2, 1))
    assert "a replay from step 30 does not reach the saved state" in str(found)
    # In the middle, too, where the states after it are those of the sound run.
    saved = [spoilt if int(s.step) == 36 else s for s in sound_run.saved]
    assert lf.replay.first_difference(attrs.evolve(sound_run, saved=saved)).after in (30, 36)


def relu_for_tanh(layer):
    return lf.relu() if layer.name == "tanh()" else layer


def step_of(net=None, loss=LOSS, optimizer=ADAM):
    return lf.make_step(net or network(sound), loss, optimizer)


# By what is changed in a run: how, and the place of the first difference.
CHANGES = {
    "batches": (
        lambda run: {"batches": attrs.evolve(BATCHES, key=lf.Key(5))}, (1, "data", "x", "", ""),
    ),
    "start": (
        lambda run: {"start": lf.evolve(run.start, key=lf.Key(9))},
        (0, "start", "key.bits", "", ""),
    ),
    "optimizer": (
        lambda run: {"step": step_of(optimizer=lf.optim.adam(0.02))},
        (1, "update", "params.0.weight", "", ""),
    ),
    "loss": (
        lambda run: {"step": step_of(loss=lf.losses.mse(reduction="sum"))},
        (1, "loss", "value", "", ""),
    ),
    "forward": (
        lambda run: {"step": step_of(lf.map_layers(relu_for_tanh, network(sound)))},
        (1, "forward", "y", "1.0.0", "tanh()"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_each_part_of_a_step_is_told_apart(sound_run, name):
    change, expected = CHANGES[name]
    other = attrs.evolve(sound_run, saved=(), **change(sound_run))
    place = lf.replay.first_difference(sound_run, other).place
    assert (place.step, place.made_by, place.array, place.path, place.layer) == expected


def test_a_tolerance_lets_rounding_pass(sound_run):
    # Another sum of the same products.
    plain = trained(network(sound), fast=False)
    rounded = lf.replay.first_difference(sound_run, plain)
    close = lf.replay.first_difference(sound_run, plain, tol=1e-3)
    assert close is None
    assert rounded is None or rounded.largest < 1e-5
    wrong = trained(network(lambda step, gs: (gs[0], lf.tree.map(lambda d: 1.1 * d, gs[1]))))
    assert lf.replay.first_difference(sound_run, wrong, tol=1e-3).place.path == "1.0.1"


def test_states_are_read_from_checkpoints(faulty_run, sound_run, tmp_path):
    runs = []
    for name, run in (("sound", sound_run), ("faulty", faulty_run)):
        directory = lf.checkpoint.Directory(tmp_path / name, keep_last=10)
        for state in run.saved:
            directory.save(state)
        runs.append(attrs.evolve(run, saved=directory))
    assert str(lf.replay.first_difference(*runs)) == str(
        lf.replay.first_difference(sound_run, faulty_run)
    )


@pytest.mark.parametrize("options", [{"donate": True}, {"fast": False}], ids=str)
def test_other_steps_are_repeated_too(options):
    other = network(lambda step, gs: (gs[0] * torch.where(step >= 8, 1.01, 1), gs[1]))
    a, b = (trained(net, SGD, steps=12, every=5, **options) for net in (network(sound), other))
    found = lf.replay.first_difference(a, b)
    assert (found.place.step, found.place.array, found.place.path) == (8, "dx", "1.0.1")
    assert lf.replay.first_difference(a) is None


def spent():
    """Give a state that its step has written over."""
    state = start_of(network(sound), SGD)
    lf.make_step(network(sound), LOSS, SGD, donate=True)(state, BATCHES.at(0))
    return state


RUN = run_of(network(sound), optimizer=SGD)
test_what_does_not_fit_is_refused = refusals("""
replay.first_difference(3) -> a to be a Run
replay.first_difference(RUN, RUN.step) -> b to be a Run
replay.first_non_finite(None) -> run to be a Run
attrs.evolve(RUN, step=dense(3)) -> step to be what make_step returns
attrs.evolve(RUN, batches=3) -> batches to be data.batches
attrs.evolve(RUN, start=3) -> a state
attrs.evolve(RUN, saved=[3]) -> a state
attrs.evolve(RUN, saved=[spent()]) -> updated in place
replay.first_non_finite(attrs.evolve(RUN, batches=BATCHES.at)) -> expected steps
replay.first_difference(attrs.evolve(RUN, batches=BATCHES.at)) -> expected saved states, or steps
""")


# A run that ended early


def test_a_run_that_a_loss_of_nan_has_ended_is_compared_with_one_that_went_on(sound_run):
    ended = trained(network(infinite_dx))
    assert max(ended.marks) == 36
    for a, b in ((sound_run, ended), (ended, sound_run)):
        place = lf.replay.first_difference(a, b).place
        assert (place.step, place.made_by, place.path) == (41, "backward", "1.0.1")
        assert place.array == "dx"


def test_a_target_of_nan_is_found_where_only_one_run_goes_on(sound_run):
    spoilt = TARGET.clone()
    spoilt[5, 1] = math.nan
    batches = attrs.evolve(BATCHES, arrays=(X, spoilt))
    found = lf.replay.first_difference(
        sound_run, attrs.evolve(sound_run, batches=batches, saved=())
    )
    first = next(i for i in range(10) if batches.at(i)[1].isnan().any())
    assert (found.place.step, found.place.array) == (first + 1, "target")


def test_runs_that_end_alike_have_no_difference():
    ended = trained(network(infinite_dx))
    assert lf.replay.first_difference(ended, attrs.evolve(ended, saved=()), steps=60) is None


def test_a_step_of_your_own_that_ends_is_a_difference_of_its_loss(sound_run):
    def step(state, batch):
        if int(state.step) == 6:
            raise lf.NonFiniteError("mse()", "the value is not finite")
        return sound_run.step(state, batch)

    run = attrs.evolve(sound_run, saved=())
    found = lf.replay.first_difference(run, attrs.evolve(run, step=step))
    assert (found.place.step, found.place.made_by, found.values) == (7, "loss", ())
    assert str(found) == "step 7: loss: value has another shape or dtype, or is in one run only"


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
    found = lf.replay.first_non_finite(run_of(network(sound), batches))
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
    found = lf.replay.first_non_finite(run_of(lf.serial(logarithm(), lf.dense(2)), batches))
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
    found = lf.replay.first_non_finite(run_of(net, batches, optimizer))
    assert (found.place.made_by, found.place.array) == ("backward", "dparams.weight")
    assert (found.place.step, found.example, found.row) == (5, 5, 41)


def test_an_update_is_found_and_no_example_is_blamed():
    net = network(sound)
    plain = run_of(net, optimizer=lf.optim.sgd(lf.schedules.constant(0.1)))

    def own(state, batch):
        new, value = plain.step(state, batch)
        spoilt = new.params[2].bias / torch.where(new.step == 3, 0.0, 1.0)
        params = (*new.params[:2], lf.evolve(new.params[2], bias=spoilt))
        return lf.evolve(new, params=params), value

    run = attrs.evolve(plain, step=own, net=net, loss=LOSS)
    found = lf.replay.first_non_finite(run)
    where = found.place.step, found.place.made_by, found.place.array, found.example
    assert where == (3, "update", "params.2.bias", None)
    # Without the network, the step and the array are found.
    alone = lf.replay.first_non_finite(attrs.evolve(run, net=None, loss=None))
    assert alone.place == found.place


def test_a_gradient_that_is_wrong_by_itself_blames_no_example():
    def spoilt(step, gs):
        return gs[0], lf.tree.map(lambda d: d + torch.where(step == 2, math.nan, 0), gs[1])

    found = lf.replay.first_non_finite(run_of(network(spoilt)))
    assert (found.place.step, found.place.array, found.example) == (2, "dparams.0.weight", None)


def test_a_run_that_stays_finite_has_no_origin():
    run = trained(network(sound), steps=12)
    assert lf.replay.first_non_finite(run) is None


def test_a_start_that_is_not_finite_is_said():
    run = run_of(network(sound))
    params = lf.tree.map(lambda leaf: leaf * math.inf, run.start.params)
    start = lf.evolve(run.start, params=params)
    found = lf.replay.first_non_finite(attrs.evolve(run, start=start))
    assert (found.place.step, found.place.made_by) == (0, "start")
