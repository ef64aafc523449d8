"""The gradient of a training run, and which examples help, against runs that are trained again."""

import attrs
import pytest
import torch
from helpers import assert_says, cast
from helpers.refusals import refusals

import lincoln_fn as lf
from lincoln_fn import keys, optim
from lincoln_fn.replay import Run, attribute, metagradient, reweighted, smoothness
from lincoln_fn.replay.run import states_back

STEPS = 6
LOSS = lf.losses.softmax_cross_entropy()
WEIGHTED = lf.losses.example_weighted(LOSS)


def normal(*shape, seed=0):
    return keys.normal(lf.Key(seed), shape, dtype=torch.float64)


def labels(*shape, seed=0):
    return keys.bits(lf.Key(100 + seed), shape) % 3


X, T, TEST = normal(12, 5), labels(12), (normal(7, 5, seed=1), labels(7, seed=1))
IMAGES, OF_IMAGES = normal(12, 2, 6, 6), (normal(7, 2, 6, 6, seed=1), labels(7, seed=1))
WORDS, OF_WORDS = labels(12, 4, seed=2), (labels(7, 4, seed=3), labels(7, 4, seed=4))
MLP = lf.serial(lf.dense(6), lf.tanh(), lf.dense(3))
CNN = lf.serial(
    lf.conv2d(3, 3), lf.batch_norm(), lf.tanh(), lf.max_pool2d(2), lf.flatten(), lf.dense(3)
)
GPT = lf.serial(
    lf.embedding(3, 8),
    lf.positional_embedding(4),
    lf.transformer_encoder_block(
        2, 12, dropout=0.2, activation="gelu", norm_first=True, is_causal=True
    ),
    lf.dense(3),
    lf.permute(0, 2, 1),
)


@attrs.frozen(eq=False)
class Training:
    """A network, its data, and an optimizer whose learning rate is a function of the step."""

    net: lf.Layer
    optimizer: object
    x: torch.Tensor = X
    t: torch.Tensor = T
    test: tuple = TEST
    ema: bool = False

    @property
    def first(self):
        """The first params, in float64."""
        return cast(self.net.init(lf.Key(0), self.x[:4]))

    def run(self, params, rates, weights, x):
        """Make a run of these inputs."""
        optimizer = self.optimizer(lambda step: rates[step])
        step = lf.make_step(self.net, WEIGHTED, optimizer)
        batches = lf.data.batches((x, (self.t, weights)), 4, key=lf.Key(5), epochs=9)
        start = lf.init_state(self.net, optimizer, lf.Key(0), x[:4], params=params)
        return Run(step, batches, start)

    def value(self, *inputs):
        """Train, and compute the loss of the test examples."""
        run = self.run(*inputs)
        state = run.reached(run.start, STEPS)
        params = optim.ema_params(state.opt_state, state.params) if self.ema else state.params
        return LOSS.forward(self.net.predict(params, self.test[0]), self.test[1])[0].item()

    def inputs(self):
        """Make inputs that are like no others: weights that are not 1, rates that change."""
        rates = 0.05 + 0.02 * normal(STEPS, seed=6).sigmoid()
        return self.first, rates, 1 + 0.1 * normal(len(self.x), seed=7).sigmoid(), self.x


def along(inputs, directions, h):
    def moved(leaf, d):
        return leaf + h * d if leaf.is_floating_point() else leaf

    return [lf.tree.map(moved, a, b) for a, b in zip(inputs, directions, strict=True)]


def directions_of(inputs):
    count = iter(range(1000))

    def drawn(leaf):
        return normal(*leaf.shape, seed=50 + next(count)) if leaf.is_floating_point() else leaf

    return [lf.tree.map(drawn, each) for each in inputs]


def dot(a, b):
    pairs = zip(lf.tree.leaves(a), lf.tree.leaves(b), strict=True)
    return sum((p * q).sum().item() for p, q in pairs)


TRAININGS = {
    "sgd": Training(MLP, lambda lr: optim.sgd(lr, weight_decay=0.01)),
    "adamw": Training(MLP, lambda lr: optim.adamw(lr, eps=1e-2)),
    "clipped": Training(
        MLP, lambda lr: optim.chain(optim.clip_by_global_norm(0.5), optim.sgd(lr, 0.9))
    ),
    "ema": Training(MLP, lambda lr: optim.chain(optim.ema(0.7), optim.sgd(lr, 0.9)), ema=True),
    "dropout": Training(
        lf.serial(lf.dense(6), lf.tanh(), lf.dropout(0.3), lf.dense(3)), lambda lr: optim.sgd(lr)
    ),
    "batch norm": Training(
        lf.serial(lf.dense(5), lf.repeat(2, lf.serial(lf.batch_norm(momentum=None), lf.tanh()))),
        lambda lr: optim.sgd(lr),
        t=labels(12) % 5,
    ),
    "cnn": Training(CNN, lambda lr: optim.sgd(lr, 0.9), IMAGES, T, OF_IMAGES),
    "gpt": Training(GPT, lambda lr: optim.adamw(lr, eps=1e-2), WORDS, WORDS.roll(1), OF_WORDS),
}  # fmt: skip


# The adjoint of each optimizer is proven in testing/test_prove_subjects.py.
@pytest.mark.full(but=("adamw",))
@pytest.mark.parametrize("name", TRAININGS)
def test_it_is_the_slope_of_runs_that_are_trained_again(name):
    training = TRAININGS[name]
    inputs = training.inputs()
    wrt = ("start", "lr", "examples", "x")[: 4 if training.x.is_floating_point() else 3]
    found = metagradient(training.run(*inputs), training.test, wrt, steps=STEPS, ema=training.ema)
    assert found.value == pytest.approx(training.value(*inputs), rel=1e-12)
    directions = directions_of(inputs)
    lr = found.lr.sum(1) if found.lr.ndim == 2 else found.lr
    parts = [found.start, lr, found.examples, found.x][: len(wrt)]
    expected = sum(dot(a, b) for a, b in zip(parts, directions[: len(wrt)], strict=True))

    def slope(h):
        up, down = (training.value(*along(inputs, directions, s * h)) for s in (1, -1))
        return (up - down) / (2 * h)

    # Richardson's: the error of a central difference of h is c h^2.
    measured = (4 * slope(1e-5) - slope(2e-5)) / 3
    assert expected == pytest.approx(measured, rel=1e-6)


def small(optimizer=None, batches=None, **options):
    """Make a run of 12 steps, and its test examples."""
    optimizer = optimizer or optim.adamw(0.05, weight_decay=0.1)
    step = lf.make_step(MLP, LOSS, optimizer, **options)
    params = TRAININGS["sgd"].first
    start = lf.init_state(MLP, optimizer, lf.Key(0), X, params=params)
    return Run(step, batches or lf.data.batches((X, T), 4, key=lf.Key(5), epochs=4), start)


@pytest.mark.parametrize("name", ["weight_decay", "momentum"])
def test_hyperparameters_of_each_step_sum_up_to_that_of_all(name):
    values = {"weight_decay": 0.1, "momentum": 0.8}

    def value(h):
        return value_of(small(optim.sgd(0.1, **{**values, name: values[name] + h})))

    found = metagradient(small(optim.sgd(0.1, **values)), TEST, [name])
    derivatives = getattr(found, name)
    assert derivatives.shape == (12,)
    measured = (value(1e-5) - value(-1e-5)) / 2e-5
    assert derivatives.sum().item() == pytest.approx(measured, rel=1e-6)


def tensors_of(found):
    kept = found.examples, found.lr, found.start, found.x
    return lf.tree.leaves(kept)


WRT = ("examples", "lr", "start", "x")


def test_every_amount_of_memory_gives_the_same_bits():
    run = small()
    states = [*run.replayed(run.start, 12)]
    saved = attrs.evolve(run, saved=[states[3], states[7]])
    expected = tensors_of(metagradient(run, TEST, WRT, memory="1 GB"))
    for other in (metagradient(run, TEST, WRT, memory=1), metagradient(run, TEST, WRT, memory=8000),
                  metagradient(saved, TEST, WRT, memory=1)):  # fmt: skip
        assert all(map(torch.equal, expected, tensors_of(other)))


@attrs.frozen(eq=False)
class Counted:
    """Stands for a run, and counts the steps that it repeats."""

    repeated: list
    marks: tuple = ()
    begun: int = 0

    def at(self, step):
        return _At(step)

    def reached(self, state, until):
        self.repeated.append(until - state.step)
        return _At(until)


@attrs.frozen
class _At:
    step: int


@pytest.mark.parametrize(
    ("states", "most"), [(1000, 1), (44, 2), (18, 3), (11, 4), (3, 18), (1, 200)]
)
def test_states_are_held_where_they_save_most(states, most):
    """With s states and r repetitions, (s + r)! / (s! r!) steps can be walked back."""
    steps, run = 1000 if states > 1 else 200, Counted([])
    walked = [state.step for state in states_back(run, steps, states)]
    assert walked == [*range(steps)][::-1]
    assert sum(run.repeated) <= most * steps


def test_other_batches_have_a_tensor_for_each_step():
    data = lf.data.batches((X, T), 5, key=lf.Key(5))  # of 5, 5 and 2
    run, listed = small(batches=data), small(batches=[*data])
    found, of_steps = (metagradient(each, TEST, WRT) for each in (run, listed))
    assert [len(each) for each in of_steps.examples] == [5, 5, 2]
    rows = [*lf.data.batches((torch.arange(12), T), 5, key=lf.Key(5))]
    for (numbers, _), examples, x in zip(rows, of_steps.examples, of_steps.x, strict=True):
        assert torch.equal(found.examples[numbers], examples)
        assert torch.equal(found.x[numbers], x)


def test_a_run_that_begins_later_counts_from_there():
    run = small()
    state = run.reached(run.start, 9)
    found = metagradient(attrs.evolve(run, start=state), TEST, ("lr", "examples"))
    assert found.begun == 9
    assert torch.equal(found.lr, metagradient(run, TEST, ("lr",)).lr[9:])


def test_a_number_of_ones_own():
    def first_weight(params):
        gradient = lf.tree.map(torch.zeros_like, params)
        gradient[0].weight[0, 0] = 1.0
        return params[0].weight[0, 0], gradient

    run = small(optim.sgd(0.1))
    found = metagradient(run, first_weight, ("start",), steps=0)
    assert found.start[0].weight[0, 0] == 1
    assert found.value == run.start.params[0].weight[0, 0]


def test_it_goes_on_where_it_was_stopped(tmp_path):
    expected = metagradient(small(), TEST, WRT)

    class Stop(Exception):  # noqa: N818  # it is no error
        pass

    def stop(done, total):
        assert total == 12
        if done in (3, 8):
            raise Stop

    def call(progress):
        return metagradient(small(), TEST, WRT, folder=tmp_path, save_seconds=0, progress=progress)

    counts = []
    with pytest.raises(Stop):
        call(stop)  # before the third step is saved
    with pytest.raises(lf.LayerError, match=r"metagradient\.safetensors of the same run"):
        metagradient(small(optim.sgd(0.1)), TEST, WRT, folder=tmp_path)
    with pytest.raises(Stop):
        call(lambda done, total: stop(done, total) if done > 3 else None)
    found = call(lambda done, total: counts.append(done))
    assert counts == [8, 9, 10, 11, 12]
    assert all(map(torch.equal, tensors_of(expected), tensors_of(found)))
    assert not [*tmp_path.iterdir()]


@pytest.mark.full
def test_a_compiled_run_has_a_compiled_adjoint():
    run = small()
    found = metagradient(attrs.evolve(run, step=lf.compile(run.step)), TEST, WRT)
    for a, b in zip(tensors_of(found), tensors_of(metagradient(run, TEST, WRT)), strict=True):
        assert torch.allclose(a, b, rtol=1e-9, atol=1e-12)


def refused(run=None, **options):
    """Try to walk back, without a step."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "take", None)
        metagradient(run or small(), TEST, **options)


CLIPPED = lf.per_example.clipped(1.0)
RULED = lf.make_step(lf.rules.feedback_alignment(MLP), LOSS, optim.sgd())
PIPED = attrs.evolve(lf.distributed.mean(lf.distributed.alone()), bind_shards=None)
test_what_has_no_derivative_is_refused_before_the_run = refusals("""
refused(small(optim.lion())) -> lion(0.0001) has no adjoint: each of its steps
refused(small(gradient=CLIPPED)) -> expected a step of the loss's own gradient, got ... leave
    gradient out
refused(Run(RULED, [(X, T)], small().start)) -> take the rules out
refused(small(reduce=PIPED)) -> a step of one process or of distributed.mean, got make_step
refused(attrs.evolve(small(), step=lambda s, b: (s, 0))) -> a step of make_step
refused(small(batches=lambda i: (X, T))) -> the number of the last step
refused(wrt=['momentum']) -> expected wrt of adamw ... among lr, weight_decay, got ... mom
refused(memory='much') -> expected memory such as '200 MB', got 'much'
refused(memory='1.2.3 MB') -> expected memory such as '200 MB', got '1
refused(ema=True) -> expected a state with one running mean
""")


# Which examples help and which harm


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
    assert weighted.step.pure.layer is MLP
