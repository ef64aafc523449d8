"""Which examples help and which harm, beside runs that are trained without them."""

import attrs
import pytest
import torch
from helpers import assert_says
from test_metagradient import LOSS, MLP, TEST, small

import lincoln_fn as lf
from lincoln_fn.replay import attribute, reweighted, smoothness


def value_of(run):
    state = run.reached(run.start, run.end)
    return LOSS.forward(MLP.predict(state.params, TEST[0]), TEST[1])[0].item()


def test_an_effect_is_what_leaving_out_a_part_of_an_example_does():
    run = small()
    found = attribute(run, TEST)
    assert found.value == pytest.approx(value_of(run), rel=1e-12)
    changes = []
    for h in (1e-4, -1e-4):
        weights = torch.ones(12, dtype=torch.float64)
        weights[5] -= h
        changes.append(value_of(reweighted(run, weights)))
    slope = (changes[0] - changes[1]) / 2e-4
    assert found.effects[5].item() == pytest.approx(slope, rel=1e-5)


def test_the_table_names_rows_and_labels():
    found = attrs.evolve(
        attribute(small(), TEST), effects=torch.tensor([0.5, -2.0, 0.0, 1.0]),
        labels=torch.tensor([7, 8, 9, 6]), value=0.25,
    )  # fmt: skip
    assert found.helpful(2).tolist() == [3, 0]
    assert found.harmful(3).tolist() == [1, 2, 0]
    lines = str(found).splitlines()
    assert lines[0] == "loss of the test examples: 0.25"
    assert [line.split() for line in lines if line.startswith(("helps", "harms"))] == [
        ["helps", "3", "6", "+1"],
        ["helps", "0", "7", "+0.5"],
        ["harms", "1", "8", "-2"],
        ["harms", "2", "9", "+0"],
    ]


def test_weights_multiply():
    run = small()
    halves, thirds = torch.full((12,), 0.5), torch.full((12,), 1 / 3)
    twice = reweighted(reweighted(run, halves), thirds)
    once = reweighted(run, halves * thirds)
    assert value_of(twice) == pytest.approx(value_of(once), rel=1e-6)
    # The effect of an example is that of its own part of the loss, whatever its weight.
    weighted = attribute(reweighted(run, torch.zeros(12)), TEST)
    assert weighted.labels.tolist() == attribute(run, TEST).labels.tolist()
    assert (weighted.effects != 0).all()


def test_other_runs_are_refused():
    run = small(batches=[*small().batches])
    assert_says("attribute: expected batches of data.batches", attribute, run, TEST)
    assert_says("batches of data.batches, got ... and list", reweighted, run, torch.ones(12))
    assert_says("expected weights of shape (12,)", reweighted, small(), torch.ones(5))


def test_smooth_training_is_told_from_rough_training():
    smooth = small(lf.optim.sgd(0.1))
    rough = small(lf.optim.lion(0.3))  # of steps that are signs
    assert smoothness(smooth, change=0.01) > 0.99
    assert smoothness(rough, change=0.01) < 0.9
    assert smoothness(smooth, steps=0) == 1.0  # nothing changes


def test_a_step_of_formulas_stays_one():
    run = small()
    step = lf.make_step(MLP, LOSS, run.step.optimizer, fast=False)
    weighted = reweighted(attrs.evolve(run, step=step), torch.ones(12))
    assert not weighted.step.fast
    assert weighted.step.pure.args[0] is MLP
