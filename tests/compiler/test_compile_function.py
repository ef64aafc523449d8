"""Any pure function of two trees, compiled: the same numbers as the function itself."""

import pytest
import torch
from helpers.cases.case import normal
from helpers.compare import same_bits, same_number

import lincoln_fn as lf

G = lf.serial(lf.dense(8), lf.relu(), lf.dropout(0.3), lf.dense(2))
D = lf.serial(lf.dense(8), lf.leaky_relu(0.2), lf.dense(1))
ADAM, LOSS = lf.optim.adam(0.01), lf.losses.sigmoid_cross_entropy()
BATCH = normal(6, 2)


@lf.record
class GanState:
    """Two networks, their optimizers' states, the noise's key, and the count of steps."""

    generator: object
    of_generator: object
    discriminator: object
    of_discriminator: object
    key: lf.Key
    step: torch.Tensor


def begin():
    key_g, key_d, key = lf.Key(0).split(3)
    generator, discriminator = G.init(key_g, normal(1, 3)), D.init(key_d, BATCH)
    return GanState(
        generator,
        ADAM.init(generator),
        discriminator,
        ADAM.init(discriminator),
        key,
        torch.zeros((), dtype=torch.int64),
    )


def gan_step(state, real):
    """Take a step of the discriminator, then one of the generator, through the discriminator."""
    noise = lf.keys.normal(state.key.fold_in(state.step), (len(real), 3))
    fake, of_g = G.forward(state.generator, noise)
    scores, of_d = D.forward(state.discriminator, torch.cat([real, fake]))
    labels = torch.cat([torch.ones(len(real)), torch.zeros(len(fake))])
    value_d, cache = LOSS.forward(scores.squeeze(-1), labels)
    dparams = D.grads(state.discriminator, of_d, LOSS.backward(cache).unsqueeze(-1))
    d, of_discriminator = ADAM.update(state.discriminator, dparams, state.of_discriminator)

    scores, of_d = D.forward(d, fake)
    value_g, cache = LOSS.forward(scores.squeeze(-1), torch.ones(len(fake)))
    dfake = D.input_grad(d, of_d, LOSS.backward(cache).unsqueeze(-1))
    dparams = G.grads(state.generator, of_g, dfake)
    advanced = G.advance(state.generator, of_g)
    g, of_generator = ADAM.update(advanced, dparams, state.of_generator)
    new = GanState(g, of_generator, d, of_discriminator, state.key, state.step + 1)
    return new, {"loss": value_g, "discriminator": value_d}


COMPILED = lf.compile(gan_step)


@pytest.mark.full
def test_a_gans_step_of_two_networks_is_the_same_compiled():
    batches = [BATCH, BATCH.flip(0), BATCH]
    eager = list(lf.train(gan_step, begin(), batches))
    fast = list(lf.train(COMPILED, begin(), batches))
    for (one, told), (other, also) in zip(eager, fast, strict=True):
        assert isinstance(other, GanState)
        assert same_number(told.loss, also.loss, dtype=torch.float32)
        assert same_number(told.scores, also.scores, dtype=torch.float32)
        assert same_number(one, other)
    assert len(COMPILED.graphs.kinds) == 1


@pytest.mark.full
def test_a_compiled_function_leaves_its_arguments_and_gives_the_same_again():
    compiled, state = COMPILED, begin()
    before = [leaf.clone() for leaf in lf.tree.leaves(state, states=True)]
    first, second = compiled(state, BATCH), compiled(state, BATCH)
    assert same_bits(first, second)
    assert same_bits(lf.tree.leaves(state, states=True), before)


def test_it_keeps_the_functions_name_and_is_compiled_once():
    compiled = COMPILED
    assert repr(compiled) == "compile(gan_step)"
    assert compiled.__doc__ == gan_step.__doc__
    assert lf.compile(compiled) is compiled


@pytest.mark.usefixtures("uncompiled")
def test_an_index_out_of_range_raises_what_the_function_raises():
    def pick(state, batch):
        return state, state.index_select(0, batch).sum()

    compiled = lf.compile(pick)
    assert compiled(torch.arange(3.0), torch.tensor([0, 2]))[1] == 2
    assert compiled(torch.arange(3.0), torch.tensor([0, 1, 2]))[1] == 3
    assert len(compiled.graphs.kinds) == 2  # one for each size of a batch
    with pytest.raises((IndexError, RuntimeError), match="out of range"):
        compiled(torch.arange(3.0), torch.tensor([0, 5]))


@lf.record
class Smoothed:
    """The state of a step, and the mean of its losses."""

    inner: lf.TrainState
    mean: torch.Tensor

    @property
    def step(self):
        return self.inner.step


def smoothed(batch):
    """A function of a state with a step within, and its first state."""
    step = lf.make_step(G, LOSS, ADAM)

    def smoothed_step(state, batch):
        inner, value = step(state.inner, batch)
        mean = 0.9 * state.mean + 0.1 * value
        return Smoothed(inner, mean), {"loss": value, "mean": mean}

    return smoothed_step, Smoothed(lf.init_state(G, ADAM, lf.Key(0), batch[0]), torch.zeros(()))


@pytest.mark.usefixtures("uncompiled")
def test_a_function_with_a_step_within_is_the_same_compiled():
    batch = BATCH, normal(6, 2).sign().clamp(0)
    step, state = smoothed(batch)
    fast = lf.compile(step)
    eager, made = lf.train(step, state, [batch] * 3), lf.train(fast, state, [batch] * 3)
    for (one, told), (other, also) in zip(eager, made, strict=True):
        assert same_number((told.loss, told.scores), (also.loss, also.scores), dtype=torch.float32)
        assert same_number(one, other)
    for call in (step, fast):
        with pytest.raises(lf.NonFiniteError, match="step 1: x holds values that are not finite"):
            call(state, (batch[0] / 0, batch[1]))


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
    assert same_number(lf.compile(tangents)(state, BATCH), tangents(state, BATCH))


@pytest.mark.full
def test_a_value_that_is_not_finite_is_the_functions_own_affair():
    compiled = lf.compile(lambda state, batch: (state, batch.log().sum()))
    assert compiled(torch.ones(1), torch.zeros(2))[1] == -torch.inf


def test_what_looks_at_numbers_is_refused_by_name_with_the_mend():
    def stops_early(state, batch):
        return (state, batch) if batch.sum() > 0 else (state, -batch)

    with pytest.raises(lf.LayerError, match=r"stops_early: cannot be traced .*torch\.where"):
        lf.compile(stops_early)(torch.ones(1), torch.ones(2))


def test_a_number_in_the_state_is_refused_with_its_place():
    with pytest.raises(lf.LayerError, match="a number that changes from step to step"):
        lf.compile(lambda state, batch: (state, batch))({"step": 1}, torch.ones(2))


@pytest.mark.parametrize(
    ("whole", "said"),
    [
        (lf.lstm, "lstm"),
        (lf.relu, "relu()"),
        (lambda state: state, "function <lambda>"),
        (torch.nn.Linear(2, 2), "Linear"),
        (torch.nn.Linear, "the class Linear"),
    ],
)
def test_what_is_no_function_of_two_arguments_is_refused(whole, said):
    with pytest.raises(lf.LayerError, match=r"^compile: expected whole") as refused:
        lf.compile(whole)
    assert said in str(refused.value)
