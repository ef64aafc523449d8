"""The fuzzer: a short run, what it draws, and that it notices compiled numbers that are wrong."""

import logging
import random
import re
from contextlib import suppress
from types import SimpleNamespace

import fuzz
import pytest
import torch
from helpers.compare import same_bits
from helpers.compiling import compiles
from helpers.constructors import CONSTRUCTORS
from helpers.fuzzing import networks, objectives, optimizers
from helpers.fuzzing.compare import Outcome, outcome, smaller
from helpers.fuzzing.runs import eagerly, in_dtype, shaken_by
from helpers.fuzzing.trial import ROWS, Trial, trial

import lincoln_fn as lf
from lincoln_fn import keys

pytestmark = pytest.mark.full


@compiles
@pytest.mark.parametrize("mode", ["step", "prediction", "function"])
def test_a_short_run_finds_nothing(mode):
    # The gate runs it twice. The first of these step networks takes a third of what 1000's takes.
    drawn = (trial(seed) for seed in range(1001, 1100))
    told = (outcome(each) for each in drawn if each.mode == mode and len(each.body) > 1)
    first = next(found for found in told if found.kind != "refused")
    assert (first.kind, first.reason) == ("same", "")


def test_every_constructor_is_in_a_row_or_is_drawn():
    made = ("Layer", "Loss", "Optimizer", "Transform", "Schedule")
    missing = {
        name.rpartition(".")[2]
        for name, constructor in CONSTRUCTORS.items()
        if constructor.__annotations__["return"] in made
    }
    missing.remove("sharded")  # it sends what it updates, which is not traced
    missing -= fuzz.words(
        " ".join(f"{net} {loss} {optimizer}" for net, loss, optimizer, _ in ROWS.values())
    )
    rng, x = random.Random(0), keys.normal(lf.Key(0), (4, 5, 6))
    codes = torch.tensor([[0, 1], [2, 1]])
    for _ in range(500):
        drawn = [draw(rng, lambda: (x,)) for draw in optimizers.OPTIMIZERS.values()]
        drawn += networks.begun(rng, codes, 3)
        with suppress(lf.LayerError, ValueError, IndexError):
            drawn.append(objectives.drawn_loss(rng, x))
        with suppress(lf.LayerError, ValueError, IndexError):
            drawn.append(networks.composed(rng, x, 1))
        missing -= fuzz.words(str(drawn))
        if not missing:
            break
    assert missing == set()


def test_a_seed_gives_the_same_trial_and_draws_from_no_global_generator():
    before = random.getstate(), torch.get_rng_state()
    for seed in range(10):
        first, second = trial(seed), trial(seed)
        assert str(first) == str(second)
        assert same_bits(*(drawn.batches(drawn.state()) for drawn in (first, second)))
    assert random.getstate() == before[0]
    assert same_bits(torch.get_rng_state(), before[1])


def right(mode="step"):
    """Make a trial that is right."""
    made = Trial(
        3, (lf.dense(4), lf.tanh(), lf.dense(5), lf.relu()), (), lf.losses.mse(),
        lambda key, z: keys.normal(key, tuple(z.shape)), lf.optim.sgd(0.1),
        lambda key, n: keys.normal(key, (n, 3)), (5, 5, 5), mode,
    )  # fmt: skip
    assert outcome(made, eagerly) == Outcome("same")
    return made


def wrongly(change):
    """Compile a step by a change of what it returns."""
    return lambda step: lambda state, batch: change(state, *step(state, batch))


def off(tree, by=1e-3):
    """Make the first leaf's first number wrong, by a part of the leaf's largest."""
    count = iter(range(10**6))

    def moved(leaf):
        leaf = leaf.clone()
        if next(count) == 0:
            leaf.view(-1)[0] += by * leaf.abs().max()
        return leaf

    return lf.tree.map(moved, tree)


WRONG = {
    "the loss": (lambda old, new, value: (new, value * 1.001), "step 0: 1"),
    "a parameter": (
        lambda old, new, value: (lf.evolve(new, params=off(new.params)), value),
        "params",
    ),
    "no update": (lambda old, new, value: (lf.evolve(new, params=old.params), value), "params"),
    "the count": (lambda old, new, value: (lf.evolve(new, step=new.step + 1), value), "step: [2]"),
    "the key": (
        lambda old, new, value: (lf.evolve(new, key=new.key.fold_in(0)), value),
        "key.bits",
    ),
    "nan": (lambda old, new, value: (new, value * torch.nan), "off by nan"),
    "a dtype": (lambda old, new, value: (new, value.double()), "torch.float64"),
    "a leaf less": (lambda old, new, value: (new, ()), "other leaves"),
    "its batch": (
        lambda old, new, value: (lf.tree.map(lambda leaf: leaf.add_(1), old.params), (new, value))[
            1
        ],
        "an argument was changed in place",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_step_is_noticed(name):
    change, said = WRONG[name]
    told = outcome(right(), wrongly(change))
    assert told.kind == "differs"
    assert said in told.reason


def test_an_error_of_the_compiled_step_alone_is_noticed():
    def compiled(step):
        raise RuntimeError("planted")

    assert outcome(right(), compiled) == Outcome("differs", "RuntimeError: planted")


def test_a_wrong_prediction_and_a_wrong_function_are_noticed():
    def compiled(net):
        return net.replace(predict=lambda params, x: off(net.predict(params, x)))

    assert outcome(right("prediction"), compiled).kind == "differs"
    told = outcome(right("function"), wrongly(lambda old, new, value: (off(new), value)))
    assert told.kind == "differs"


def test_rounding_raises_no_alarm():
    def rounded(whole):
        if isinstance(whole, lf.Layer):
            return whole

        def step(state, batch):
            return whole(in_dtype(torch.float32, shaken_by(lf.Key(9), 1e-7, state)), batch)

        return step

    kinds = set()
    for seed in range(20):
        drawn = trial(seed)
        if drawn.dtype is torch.float32 and not drawn.donate:
            told = outcome(drawn, rounded)
            assert told.kind != "differs", (seed, told.reason)
            kinds.add(told.kind)
    assert "same" in kinds


def test_a_failing_network_is_reduced_to_what_fails():
    def compiled(step):
        change = off if "tanh()" in str(step.net) else eagerly
        return lambda state, batch: change(step(state, batch))

    drawn = right()
    assert smaller(drawn, compiled).body == (drawn.body[1],)


def test_the_command_counts_and_prints_what_differs(monkeypatch, capsys):
    told = iter([Outcome("same"), Outcome("differs", "planted"), Outcome("refused", "too bad")])
    monkeypatch.setattr(fuzz, "outcome", lambda drawn: next(told))
    monkeypatch.setattr(logging.Logger, "setLevel", lambda log, level: None)  # of this process
    sent, tally = [], fuzz.Tally()
    fuzz.work(SimpleNamespace(send=sent.append), range(7, 10))
    for _, shown, found in sent:
        if found:
            tally.add(shown, found)
    assert tally.report()
    printed = capsys.readouterr().out
    assert str(trial(8)) in printed
    assert "DIFFERS planted" in printed
    assert "3 networks: 1 same, 1 refused, 1 differs" in printed
    assert re.search(r"^ +\d+ (dense|conv2d|lstm)$", printed, re.MULTILINE)
