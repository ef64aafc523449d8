"""Recorded steps beside eager ones, bit for bit: all layers, losses and optimizers, and more."""

import re

import pytest
import torch
import torch.utils.flop_counter
from helpers import CE, FIRST, SGD, assert_same_steps, assert_says, begin, copied, same_bits, taken
from helpers.fuzzing.runs import changed, own_step
from helpers.fuzzing.trial import trial
from helpers.sweep import SWEEPS

import lincoln_fn as lf
from lincoln_fn import optim
from lincoln_fn.recording import ByKind
from lincoln_fn.recording.function import RecordedFunction

# Of a layer's configurations one, of a loss's reductions the mean: a recording knows operations.
OF_FIRST = {f"layer {case}" for case in FIRST}
ROWS = [
    row
    for kind, rows in SWEEPS.items()
    for row in rows()
    if (kind != "layers" or row[0] in OF_FIRST) and not row[0].endswith("-sum")
]
X, LABELS = lf.keys.normal(lf.Key(0), (6, 5)), torch.tensor([0, 2, 1, 1, 2, 0])
TEXT = torch.tensor([[1, 4, 0, 3], [2, 2, 5, 1], [0, 3, 3, 4]])


def batch_of(batch, i):
    """Give other numbers of the same kind; those that are 0 or 1 may be a mask or labels."""
    x, target = batch

    def other(leaf):
        is_number = leaf.is_floating_point() and not ((leaf == 0) | (leaf == 1)).all()
        return leaf * (1 + i / 100) if is_number else leaf

    return lf.tree.map(other, x), target


def recorded_in(step):
    """Give the recorded part of a step."""
    return step.run.args[0] if step.donate else step.run


def follow(net, loss, optimizer, batch, steps=5, **options):
    """Take steps both ways, and count those that ran without Python."""
    step, state = begin(net, batch[0], loss, optimizer, **options)
    plain, count = lf.make_step(net, loss, optimizer, record=False, **options), 0

    def counted(state, batch):
        nonlocal count
        state, value = step(state, batch)
        count += state in recorded_in(step).memos.made
        return state, value

    batches = [batch_of(batch, i) for i in range(steps)]
    assert_same_steps(counted, plain, state, *batches, same=same_bits)
    return count


# The probabilities of `batch_of` do not sum to 1.
@pytest.mark.filterwarnings("ignore:cross_entropy")
@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_steps_have_the_bits_of_eager_ones(row):
    name, net, loss, optimizer, batch = row
    if name.startswith("layer"):  # with the table's rate, some diverge within a few steps
        optimizer = optim.sgd(1e-4)
    # Some optimizers do work at every second step, and each kind of step is recorded twice.
    assert follow(net, loss, optimizer, batch, steps=8 if name.startswith("optimizer") else 5)


SMALL = lf.serial(lf.dense(4), lf.tanh(), lf.dense(3))
# By what they show: a network, and its batch.
NETS = {
    "masks, dropout and running statistics": lf.serial(
        lf.dense(8), lf.batch_norm(), lf.dropout(0.4), lf.layer_norm(), lf.dense(3)
    ),
    "frozen": lf.serial(lf.frozen(lf.serial(lf.dense(4), lf.batch_norm())), lf.dense(3)),
    "checkpointed": lf.serial(lf.checkpointed(lf.serial(lf.dense(4), lf.gelu())), lf.dense(3)),
    "in_dtype": lf.serial(lf.in_dtype(lf.dense(4), torch.bfloat16), lf.relu(), lf.dense(3)),
    "residual and repeat": lf.serial(lf.residual(lf.repeat(2, lf.dense(5))), lf.dense(3)),
    "a layer without a fast twin": lf.serial(
        lf.dense(4), lf.Layer("own()", lambda p, x: (x.sin(), x), lambda p, x, g: (g * x.cos(), ()))
        , lf.dense(3)
    ),
}  # fmt: skip


@pytest.mark.parametrize("donate", [False, True])
@pytest.mark.parametrize("name", NETS)
def test_compositions_have_the_bits_of_eager_ones(name, donate):
    assert follow(NETS[name], CE, optim.adamw(0.01), (X, LABELS), donate=donate) >= 2


OPTIMIZERS = [
    optim.sgd(lf.schedules.cosine(0.1, 9), momentum=0.9),
    optim.chain(optim.clip_by_global_norm(0.1), optim.accumulate(2), optim.adam()),
    optim.chain(optim.ema(0.9), optim.sgd(0.1)),
    optim.soap(),
]


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
@pytest.mark.parametrize("donate", [False, True])
def test_optimizers_have_the_bits_of_eager_ones(optimizer, donate):
    assert follow(SMALL, CE, optimizer, (X, LABELS), steps=8, donate=donate)


GRADIENTS = [
    lf.per_example.clipped(1.0, noise=0.5, batch_size=6), lf.per_example.noise_scale(),
    lf.curvature.kfac(),
]  # fmt: skip


@pytest.mark.parametrize("gradient", GRADIENTS, ids=str)
def test_a_gradient_of_another_kind_is_recorded_with_its_step(gradient):
    loss = lf.losses.softmax_cross_entropy(reduction=gradient.reduction or "mean")
    assert follow(SMALL, loss, optim.sgd(0.1), (X, LABELS), steps=8, gradient=gradient)


def test_a_scan_and_a_language_model():
    cell = lf.serial(lf.embedding(7, 6), lf.scan(lf.gru_cell(4)), lf.dense(7))
    model = lf.serial(
        lf.embedding(7, 6), lf.transformer_encoder_block(2, is_causal=True), lf.dense(7)
    )
    tied = lf.tied(lf.embedding(7, 6), lf.serial(lf.dense(6), lf.tanh()))
    for net in (cell, model, tied):
        loss = lf.losses.softmax_cross_entropy(dim=-1)
        assert follow(net, loss, optim.sgd(0.1), (TEXT, TEXT.roll(-1, 1)))


# More by hand: `for seed in range(1000): test_random_networks(seed)`.
@pytest.mark.full(but=("3005", "3013"))
@pytest.mark.parametrize("seed", range(3000, 3040))
def test_random_networks(seed):
    drawn = trial(seed)
    try:
        state = drawn.state()
        batches = drawn.batches(state)
        plain = _made(drawn, record=False)
        plain(copied(state), batches[0])
    except lf.LayerError:
        return  # the draw does not fit together
    step, ours, theirs = _made(drawn, record=True), copied(state), copied(state)
    for i in range(8):
        batch = batches[i % 3] if i < 3 else batches[0]
        try:
            theirs, wanted = plain(theirs, batch)
        except lf.LayerError as error:  # of another batch size, or a loss that is not finite
            with pytest.raises(type(error), match=re.escape(str(error))):
                step(ours, batch)
            return
        ours, value = step(ours, batch)
        assert same_bits((ours, value), (theirs, wanted)), i
        if i == 3:
            ours, theirs = changed(drawn.change, ours), changed(drawn.change, theirs)


def _made(drawn, record):
    if drawn.mode == "function":
        net = lf.fast(drawn.net) if drawn.fast else drawn.net
        step = own_step(net, drawn.loss, drawn.optimizer)
        return lf.recorded(step) if record else step
    return lf.make_step(
        drawn.net, drawn.loss, drawn.optimizer, donate=drawn.donate, fast=drawn.fast, record=record
    )


def test_errors_are_the_eager_steps():
    step, state = begin(SMALL, X)
    state, _ = taken(step, state, *[(X, LABELS)] * 4)
    before = copied(state)
    assert_says("expected labels from 0 to 2, got 3", step, state, (X, LABELS + 1))
    with pytest.raises(lf.NonFiniteError, match="step 5: x holds values that are not finite"):
        step(state, (X * torch.inf, LABELS))
    assert_says("serial[0] dense(4): expected x of shape", step, state, (X[:, :4], LABELS))
    assert same_bits(state, before)
    assert step(state, (X, LABELS))[1].isfinite()


def test_a_state_is_not_changed_and_may_be_used_again():
    step, *states = begin(SMALL, X, CE, optim.adamw(0.1))
    for _ in range(5):
        states.append(step(states[-1], (X, LABELS))[0])
    before = list(map(copied, states))
    again = [step(state, (X, LABELS))[0] for state in states[:-1]]
    assert same_bits(again, states[1:])
    assert same_bits(states, before)


def test_record_false_leaves_the_step_with_python():
    assert isinstance(lf.make_step(SMALL, CE, SGD).run, RecordedFunction)
    step = lf.make_step(SMALL, CE, SGD, record=False)
    assert step.run is step.pure


def test_nothing_is_said_of_a_step_that_is_recorded(logged):
    assert follow(SMALL, CE, optim.sgd(0.1), (X, LABELS)) == 3
    assert logged == []


def test_modes_and_settings_of_torch_see_the_step():
    (step, state), (plain, _) = (begin(SMALL, X, record=record) for record in (True, False))
    state, _ = taken(step, state, *[(X, LABELS)] * 4)
    flops = torch.utils.flop_counter.FlopCounterMode(display=False)
    for mode in (torch.inference_mode(), flops, torch.device("cpu")):
        with mode:
            ours, theirs = step(state, (X, LABELS)), plain(state, (X, LABELS))
        assert same_bits(ours, theirs)
        state, _ = step(state, (X, LABELS))
    assert flops.get_total_flops()


def test_autocast_is_heeded():
    run, y = lf.recorded(lambda x, y: x @ y), X.T.contiguous()
    for _ in range(4):
        run(X, y)
    with torch.autocast("cpu", torch.bfloat16):
        assert run(X, y).dtype is torch.bfloat16
    assert run(X, y).dtype is torch.float32


def test_a_kind_that_goes_is_not_kept_by_the_states_after_it():
    state = lf.dense(4).init(lf.Key(0), torch.zeros(1, 3))
    by_kind = ByKind(lambda *_: object(), id, most=2)
    for length in (1, 2, 3) * 4:
        tensors, memo = by_kind.find(state, torch.zeros(length))
        state = lf.tree.map(torch.clone, state)
        by_kind.keep(state, tensors[:-1], memo)
    rows = [row for rows in by_kind.after.values() for row in rows]
    assert len({*by_kind.after, *(memo for *_, memo in rows)}) <= 3


def gathered(params, x):
    return torch.ones(len(x), 5).gather(1, x), x


def factor(params, x):
    return torch.linalg.cholesky(x.mT @ x), x


def none(params, x, g):
    return torch.zeros(x.shape), ()


# A network, an x that it takes, one that it does not, and what it says of that.
RAISING = {
    "embedding": (
        lf.serial(lf.embedding(7, 3), lf.dense(4)), torch.tensor([1, 2, 3]),
        torch.tensor([1, 9, 3]), r"serial\[0\] embedding.*from 0 to 6, got 9",
    ),
    "gather": (
        lf.serial(lf.Layer("gathered()", gathered, none), lf.dense(4)),
        torch.tensor([[1, 2], [0, 4], [3, 3]]), torch.tensor([[1, 9], [0, 4], [3, 3]]),
        r"serial\[0\] gathered\(\).*out of bounds",
    ),
    "cholesky": (
        lf.serial(lf.Layer("factor()", factor, none), lf.dense(4)), torch.eye(3),
        torch.zeros(3, 3), r"serial\[0\] factor\(\).*not positive-definite",
    ),
}  # fmt: skip


@pytest.mark.parametrize("donate", [False, True])
@pytest.mark.parametrize(("net", "x", "wrong", "message"), RAISING.values(), ids=RAISING)
def test_an_error_is_the_layers_and_the_step_stays_recorded(net, x, wrong, message, donate):
    y = torch.tensor([0, 1, 2])
    (step, ours), (plain, theirs) = (begin(net, x, donate=donate, record=r) for r in (True, False))
    for _ in range(3):  # at first, before there is a program, and with one
        for _ in range(8):
            with pytest.raises(lf.LayerError, match=message):
                step(ours, (wrong, y))
        for _ in range(4):
            (ours, _), (theirs, _) = step(ours, (x, y)), plain(theirs, (x, y))
        assert same_bits(ours, theirs)
    assert ours in recorded_in(step).memos.made


def test_an_error_after_a_write_into_the_state_is_raised_and_nothing_runs_twice():
    def count(state, index):
        state.add_(1)
        return state, state.gather(0, index)

    run, state = RecordedFunction(count, "count", donate=True), torch.zeros(3)
    for _ in range(4):
        run(state, torch.tensor([0]))
    (memo,) = run.memos.kinds.values()
    assert memo.run([state, torch.tensor([0])]) is not None
    with pytest.raises((IndexError, RuntimeError), match="out of bounds"):
        run(state, torch.tensor([5]))
    assert state.tolist() == [6.0] * 3
