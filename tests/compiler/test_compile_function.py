"""Any pure function of two trees, compiled: the same numbers as the function itself."""

import pytest
import torch
from helpers import assert_says, begin, copied, normal, same_bits, same_number
from helpers.refusals import refusals

import lincoln_fn as lf

NET = lf.serial(lf.dense(8), lf.relu(), lf.dropout(0.3), lf.dense(2))
BATCH = normal(6, 2), normal(6, 2, seed=1).sign().clamp(0)
STEP, STATE = begin(NET, BATCH[0], lf.losses.sigmoid_cross_entropy(), lf.optim.adam(0.01))
FLIPPED = BATCH[0].flip(0), BATCH[1]


@lf.record
class Smoothed:
    """The state of a step, and the mean of its losses."""

    inner: lf.TrainState
    mean: torch.Tensor

    @property
    def step(self):
        return self.inner.step


def smoothed(state, batch):
    """Take a step, and update the mean of the losses."""
    inner, value = STEP(state.inner, batch)
    mean = 0.9 * state.mean + 0.1 * value
    return Smoothed(inner, mean), {"loss": value, "mean": mean}


COMPILED, FIRST = lf.compile(smoothed), Smoothed(STATE, torch.zeros(()))


@pytest.mark.full
def test_a_function_with_a_step_within_is_the_same_compiled():
    seen = []
    for step in (smoothed, COMPILED):
        states, records = zip(*lf.train(step, FIRST, [BATCH, FLIPPED, BATCH]), strict=True)
        seen.append((states, [record.loss for record in records], [r.scores for r in records]))
    assert isinstance(states[-1], Smoothed)
    assert same_number(*seen, dtype=torch.float32)
    assert len(COMPILED.graphs.kinds) == 1
    for call in (smoothed, COMPILED):
        message = "NonFiniteError: step 1: x holds values that are not finite"
        assert_says(message, call, FIRST, (BATCH[0] / 0, BATCH[1]))


@pytest.mark.full
def test_a_compiled_function_leaves_its_arguments_and_gives_the_same_again():
    before = copied(FIRST)
    assert same_bits(COMPILED(FIRST, BATCH), COMPILED(FIRST, BATCH))
    assert same_bits(FIRST, before)


def test_it_keeps_the_functions_name_and_is_compiled_once():
    assert repr(COMPILED) == "compile(smoothed)"
    assert COMPILED.__doc__ == smoothed.__doc__
    assert lf.compile(COMPILED) is COMPILED


def test_an_index_out_of_range_raises_what_the_function_raises(uncompiled):
    def pick(state, batch):
        return state, state.index_select(0, batch).sum()

    compiled = lf.compile(pick)
    assert compiled(torch.arange(3.0), torch.tensor([0, 2]))[1] == 2
    assert compiled(torch.arange(3.0), torch.tensor([0, 1, 2]))[1] == 3
    assert len(compiled.graphs.kinds) == 2  # one for each size of a batch
    with pytest.raises((IndexError, RuntimeError), match="out of range"):
        compiled(torch.arange(3.0), torch.tensor([0, 5]))


def tangents(state, x):
    """Train a network by its derivative, as physics-informed networks and flows do."""

    def loss(state):
        a, b = state
        _, dy = torch.func.jvp(lambda x: (x @ a).tanh() @ b, (x,), (torch.ones_like(x),))
        return dy.square().mean()

    gradient, value = torch.func.grad_and_value(loss)(state)
    return lf.tree.map(lambda p, d: p - 0.1 * d, state, gradient), value


@pytest.mark.full
@pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")  # torch's own
def test_a_tangent_through_two_matrices_is_the_same_compiled():
    state = normal(2, 8), normal(8, 1)
    assert same_number(lf.compile(tangents)(state, BATCH[0]), tangents(state, BATCH[0]))


@pytest.mark.full
def test_a_value_that_is_not_finite_is_the_functions_own_affair():
    compiled = lf.compile(lambda state, batch: (state, batch.log().sum()))
    assert compiled(torch.ones(1), torch.zeros(2))[1] == -torch.inf


def test_what_looks_at_numbers_is_refused_by_name_with_the_mend():
    def stops_early(state, batch):
        return (state, batch) if batch.sum() > 0 else (state, -batch)

    message = "stops_early: cannot be traced ... torch.where"
    assert_says(message, lf.compile(stops_early), torch.ones(1), torch.ones(2))


def test_a_number_in_the_state_is_refused_with_its_place():
    compiled = lf.compile(lambda state, batch: (state, batch))
    assert_says("a number that changes from step to step", compiled, {"step": 1}, torch.ones(2))


test_what_is_no_function_of_two_arguments_is_refused = refusals("""
compile(lstm) -> ^compile: expected whole ... lstm
compile(relu) -> ^compile: expected whole ... relu()
compile(lambda state: state) -> ^compile: expected whole ... function <lambda>
compile(nn.Linear(2, 2)) -> ^compile: expected whole ... Linear
compile(nn.Linear) -> ^compile: expected whole ... the class Linear
""")
