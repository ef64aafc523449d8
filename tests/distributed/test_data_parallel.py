"""A step on several processes: the bits of one, and the numbers of a step without reduce."""

import contextlib
import io
from functools import partial
from itertools import chain
from typing import ClassVar
from unittest import mock

import pytest
import torch
from helpers import CE, MSE, SGD, assert_same_steps, assert_says, begin, largest, taken
from helpers.compare import same_bits, same_number
from helpers.processes import errors_of, run_in_processes
from helpers.refusals import assert_told

import lincoln_fn as lf
from lincoln_fn import distributed
from lincoln_fn.core.layer import no_params
from lincoln_fn.core.signatures import unbound
from lincoln_fn.losses.common.sums import sum_of

SHARDS = 4
OPTIMIZERS = {
    "sgd": lf.optim.sgd(0.1),
    "momentum": lf.optim.sgd(0.1, momentum=0.9),
    "adamw": lf.optim.adamw(0.01),
    "clipped": lf.optim.chain(
        lf.optim.clip_by_global_norm(0.1), lf.optim.accumulate(2), lf.optim.adamw(0.01)
    ),
}


def data(rows, *sizes, classes=3):
    x = lf.keys.normal(lf.Key(5), (rows, *sizes))
    return x, lf.keys.bits(lf.Key(6), (rows,)).remainder(classes)


def right(prediction, target):
    """Compute the share of right labels; the classes are axis 1."""
    return (prediction.argmax(1) == target).double().mean().item()


def mlp(group):
    return lf.serial(lf.dense(17), lf.dropout(0.3), lf.relu(), lf.dense(3))


def plain(group, norm=None):
    conv = lf.conv2d(4, 2, padding=1)
    return lf.serial(conv, norm or lf.batch_norm(), lf.relu(), lf.flatten(), lf.dense(3))


def convolutional(group):
    return plain(group, distributed.sync_batch_norm(group))


def batch_normed(group):
    return lf.serial(lf.dense(5), lf.batch_norm(), lf.tanh(), lf.dropout(0.2), lf.dense(3))


def transformer(group):
    """Read 5 characters of 11, and predict each next one; the output shares the embedding."""
    block = lf.transformer_encoder_block(2, 16, dropout=0.1)
    body = lf.serial(lf.positional_embedding(5), block, lf.layer_norm())
    return lf.serial(lf.tied(lf.embedding(11, 8), body), lf.permute(0, 2, 1))


TEXT = tuple(lf.keys.bits(lf.Key(seed), (50, 5)).remainder(11) for seed in (3, 4))


def zero_3(net, group):
    """Shard each part of a network that has parameters."""
    return lf.serial(
        *(
            part
            if unbound(part.init) is no_params or part.name.startswith("dropout")
            else distributed.fully_sharded(part, group)
            for part in net.parts
        )
    )


CASES = {
    "mlp": (mlp, lambda: data(50, 12), 13),  # the last batch has 11 examples
    "small": (mlp, lambda: data(50, 12), 16),  # the last one has 2, fewer than there are shards
    "convolutional": (convolutional, lambda: data(50, 1, 3, 4), 13),
    "plain": (plain, lambda: data(50, 1, 3, 4), 13),
    "batch_normed": (batch_normed, lambda: data(50, 12), 10),
    "transformer": (transformer, lambda: TEXT, 13),
}


def run(group, name, optimizer, zero=0, reduce=None):
    make, examples, size = CASES[name]
    net, arrays, optimizer = make(group), examples(), OPTIMIZERS[optimizer]
    plain = net
    if zero == 1:
        optimizer = lf.optim.sharded(optimizer, group)
    if zero == 3:
        net = zero_3(net, group)
    step, state = begin(net, arrays[0], CE, optimizer, reduce=reduce)
    shard = (group.rank, group.size)
    batches = lf.data.batches(arrays, size, key=lf.Key(1), shard=shard)
    values = []
    for batch in batches:
        state, value = step(state, batch)
        values.append(value.item())
    params = distributed.whole(state.params, group)
    scores = lf.evaluate(
        plain, params, lf.data.batches(arrays, size, shard=shard), {"right": right}, reduce=reduce
    )
    leaves = lf.tree.leaves(params, states=True)
    return [leaf.numpy() for leaf in leaves], values, scores["right"]


def run_cases(group):
    """Run each network, each optimizer and each stage of ZeRO, in few pairs."""
    reduce = distributed.mean(group, shards=SHARDS)
    return {case: run(group, *case, reduce) for case in (
        ("mlp", "clipped", 0), ("small", "momentum", 0), ("convolutional", "momentum", 0),
        ("batch_normed", "sgd", 0), ("transformer", "adamw", 0),
        ("mlp", "momentum", 1), ("small", "adamw", 3), ("convolutional", "adamw", 3),
    )}  # fmt: skip


@pytest.fixture(scope="module")
def alone():
    return in_one(run_cases)


def in_one(function):
    """Run in one process, with one thread, as each of several processes has."""
    torch.set_num_threads(1)
    return function(distributed.alone())


@pytest.mark.parametrize("world", [2, pytest.param(4, marks=pytest.mark.full)])
def test_any_number_of_processes_gives_the_same_bits(world, alone):
    for of_rank in run_in_processes(world, run_cases):
        for case, (leaves, values, accuracy) in of_rank.items():
            *expected, its_accuracy = alone[case]
            assert same_bits([leaves, values], expected), case
            assert same_number(accuracy, its_accuracy), case


@pytest.mark.full
@pytest.mark.parametrize(("name", "optimizer"), [("mlp", "clipped"), ("small", "momentum")])
def test_a_step_of_shards_is_the_step_of_the_whole_batch(name, optimizer, alone):
    leaves, values, accuracy = run(distributed.alone(), name, optimizer)
    of_shards, its_values, its_accuracy = alone[name, optimizer, 0]
    assert same_number(values, its_values, dtype=torch.float32)
    assert same_number(leaves, of_shards)
    assert accuracy == its_accuracy


@pytest.mark.full
def test_synchronised_statistics_are_those_of_the_whole_batch(alone):
    leaves, values, _ = run(distributed.alone(), "plain", "momentum")
    of_shards, its_values, _ = alone["convolutional", "momentum", 0]
    assert same_number(values, its_values, dtype=torch.float32)
    assert same_number(leaves, of_shards)


class Counting(distributed.Group):
    """A group of one process that counts the numbers which it would send."""

    sent: ClassVar = []

    def gather(self, x):
        self.sent.append(x.numel())
        return super().gather(x)


@pytest.mark.full
def test_the_parameters_of_a_frozen_backbone_are_not_sent():
    backbone = lf.frozen(lf.serial(lf.dense(40), lf.batch_norm()))
    (x, target), reduce = data(8, 12), distributed.mean(Counting(0, (0,)), shards=2)
    step, state = begin(lf.serial(backbone, lf.dense(3)), x, reduce=reduce)
    Counting.sent.clear()
    new, _ = step(state, (x, target))
    old, norm = (params[0].params[1].running for params in (state.params, new.params))
    assert (norm.mean != old.mean).all()
    # Three numbers of the loss, seven flags, and the mean and the variance: for each of two shards.
    assert sum(Counting.sent) == 2 * 3 + 7 + 2 * 80


def fitted(group):
    """Fit, and return the history without the seconds, and what was printed."""
    x, target = data(50, 12)
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(out):
        state, history = lf.fit(
            mlp(group), CE, OPTIMIZERS["momentum"], (x, target), key=lf.Key(0), epochs=2,
            batch_size=13, valid=(x, target), metric=right,
            reduce=distributed.mean(group, shards=4),
        )  # fmt: skip
    records = [(record.step, record.loss, round(record.metric, 12)) for record in history]
    return state.params[0].weight.numpy(), records, out.getvalue() != ""


@pytest.mark.full
def test_fit_divides_arrays_and_shows_one_history():
    weight, records, shown = in_one(fitted)
    assert shown
    for rank, (its_weight, its_records, its_shown) in enumerate(run_in_processes(2, fitted)):
        assert same_bits((its_weight, its_records), (weight, records))
        assert its_shown == (rank == 0)


def compiled_steps(group, compiled=True):
    """Take three steps by a compiled pass: all four shards have one graph."""
    x, target = data(48, 12)
    reduce = distributed.mean(group, shards=SHARDS, compiled=compiled)
    step, state = begin(batch_normed(group), x, CE, OPTIMIZERS["momentum"], reduce=reduce)
    batches = lf.data.batches((x, target), 16, shard=(group.rank, group.size))
    state, value = taken(step, state, *batches)
    return [leaf.numpy() for leaf in lf.tree.leaves(state, states=True)], value.item()


@pytest.mark.full
def test_a_compiled_pass_computes_the_same_with_any_number_of_processes():
    leaves, value = in_one(compiled_steps)
    for its_leaves, its_value in run_in_processes(2, compiled_steps):
        assert same_bits((its_leaves, its_value), (leaves, value))
    its_leaves, its_value = compiled_steps(distributed.alone(), compiled=False)
    assert same_number(value, its_value, dtype=torch.float32)
    # A bias before a norm acts on nothing: its gradient cancels.
    terms = largest([torch.from_numpy(leaf) for leaf in leaves])
    assert same_number(its_leaves, leaves, terms=terms)


def test_recorded_passes_have_the_bits_of_eager_ones():
    net = lf.serial(lf.dense(7), lf.batch_norm(), lf.dropout(0.3), lf.dense(3))
    batches, optimizer = [data(8, 5)] * 6, lf.optim.adamw(0.01)
    ends = []
    for record, bucket_mb in ((False, 25), (True, 25), (True, 1e-6)):
        reduce = distributed.mean(distributed.alone(), shards=2, bucket_mb=bucket_mb)
        step, state = begin(net, batches[0][0], CE, optimizer, reduce=reduce, record=record)
        ends.append(taken(step, state, *batches)[0])
        setup, update = step.run.reduced.args[0], step.run.update
        for function, is_used in ((setup.of_small, record and bucket_mb > 1), (update, record)):
            kinds = function.memos.kinds if hasattr(function, "memos") else {}
            programs = [memo for memo in kinds.values() if memo._runs]
            assert bool(programs) == is_used
    assert same_bits(ends[0], ends[1])
    assert same_bits(ends[0], ends[2])


@pytest.mark.full
def test_what_cannot_be_compiled_is_refused():
    group = distributed.alone()
    reduce = distributed.mean(group, compiled=True)
    divided = lf.serial(lf.dense(4), distributed.row_parallel(4, group))
    for net in (convolutional(group), divided):
        message = "expected layers that do not communicate"
        assert_says(message, lf.make_step, net, CE, SGD, reduce=reduce)
    step = lf.make_step(mlp(group), CE, SGD, reduce=distributed.mean(group))
    assert_says("write lf.distributed.mean(group, compiled=True", lf.compile, step)


COUNTED = [
    lf.losses.softmax_cross_entropy(ignore_index=1),
    lf.losses.softmax_cross_entropy(weight=torch.tensor([0.5, 2.0, 1.0])),
    lf.losses.softmax_cross_entropy(reduction="sum"),
    lf.Loss("own()", CE.forward, CE.backward),
]


@pytest.mark.full
@pytest.mark.parametrize("loss", COUNTED, ids=str)
def test_a_loss_counts_as_in_the_whole_batch(loss):
    x, target = data(7, 12)
    target[:2] = 1  # the first shard has no label that counts
    reduce = distributed.mean(distributed.alone(), shards=4)
    (sharded, state), (whole, _) = (
        begin(lf.dense(3), x.double(), loss, reduce=r) for r in (reduce, None)
    )
    assert_same_steps(sharded, whole, state, (x.double(), target))


def added_losses():
    """Give losses that count in their own way: each with a prediction, its batch axis, a target."""
    log_p = data(7, 5, 4)[0].log_softmax(-1).movedim(0, 1).double()
    labels = lf.keys.bits(lf.Key(2), (7, 2)).remainder(3) + 1
    steps, lengths = torch.full((7,), 5), torch.tensor([1, 2, 2, 1, 1, 2, 1])
    yield lf.losses.ctc(), log_p, 1, (labels, steps, lengths)  # with divisors of its own
    target = torch.tensor([0, 1, 1, 2, 0, 2, 1]), torch.arange(7).double()
    for options in ({}, {"ignore_index": 1}, {"reduction": "sum"}):
        loss = lf.losses.example_weighted(lf.losses.softmax_cross_entropy(**options))
        yield loss, data(7, 3)[0].double(), 0, target


@pytest.mark.parametrize(("loss", "prediction", "axis", "target"), [*added_losses()])
def test_the_parts_of_a_batch_add_up_to_its_loss(loss, prediction, axis, target):
    value, cache = loss.forward(prediction, target)
    parts = [
        sum_of(loss, prediction.narrow(axis, a, n), tuple(t[a : a + n] for t in target), n)
        for a, n in ((0, 3), (3, 4))
    ]
    total = 1 if parts[0].count is None else sum(part.count for part in parts)
    assert (parts[0].count is None) == ("sum" in loss.name)
    assert same_number(sum(part.values for part in parts)[0] / total, value)
    assert same_number(torch.cat([part.g for part in parts], axis) / total, loss.backward(cache))


@pytest.mark.full
def test_a_weighted_loss_reports_its_parts_over_the_whole_batch():
    x, target = data(7, 12)
    loss = lf.losses.weighted({"near": (1.0, CE), "far": (0.5, MSE)})
    net = lf.branch(lf.dense(3), lf.dense(2), merge=lf.identity())
    batch, reduce = (x, (target, torch.ones(7, 2))), distributed.mean(distributed.alone(), shards=4)
    step, state = begin(net, x, loss)
    _, expected = step.with_parts(state, batch)
    _, values = lf.make_step(net, loss, SGD, reduce=reduce).with_parts(state, batch)
    assert expected.keys() == {"loss", "near", "far"}
    assert same_number(values, expected)
    labels = lf.losses.softmax_cross_entropy(ignore_index=1)
    counted = lf.losses.weighted({"near": (1.0, labels), "far": (0.5, MSE)})
    message = "weighted['near']: expected a mean over all values"
    assert_says(message, lf.make_step(net, counted, SGD, reduce=reduce), state, batch)


ROOT = lf.Layer("root()", lambda _, x: (x.sqrt(), x.sqrt()), lambda _, y, g: (g / (2 * y), ()))


def fail(params, cache, g):
    if cache.sum() > 0:
        raise lf.LayerError("own", "no gradient")
    return lf.layers.dense.backward(params, cache, g)


def attempts_in_one(group):
    """List steps of which one process's part fails, of networks with states and without."""
    first, (x, target) = group.rank == 0, data(8, 12)
    batch_norm, dropout = lf.batch_norm(), lf.dropout(0.2)
    stateful = lf.serial(lf.serial(ROOT, lf.dense(5)), batch_norm, lf.tanh(), dropout, lf.dense(3))
    own = lf.Layer("own", lf.layers.dense.forward, fail, lf.dense(3).init)
    synchronised = lf.serial(ROOT, distributed.sync_batch_norm(group), lf.dense(3))
    x = x.abs()
    nan, negative = x / 0 if first else x, x if first else -x
    wrong = target if first else target + 3
    share = negative[:, :1].clamp(-1, 1)
    schedule = distributed.one_f_one_b(2, 2)
    stages = lf.serial(ROOT, lf.dense(4), lf.batch_norm()), lf.dense(3)
    piped, reduce = distributed.pipeline(stages, schedule, distributed.alone(), data=group)
    mean = distributed.mean(group)
    return {
        "nan": (stateful, CE, mean, (nan, target)),
        "root": (stateful, CE, mean, (negative, target)),
        "label": (stateful, CE, mean, (x, wrong)),
        "synchronised": (synchronised, CE, mean, (nan, target)),
        "synchronised root": (synchronised, CE, mean, (negative, target)),
        "backward": (own, CE, mean, (negative, target)),
        "probabilities": (lf.prelu(), lf.losses.log_loss(), mean, (share, share.abs())),
        "pipeline": (piped, CE, reduce, (negative, target)),
    }


X_FAILED = "^step 1: x holds values that are not finite, in rank 0$"
ROOT_FAILED = "root(): the output is not finite, though its x and params are, in rank 1$"
# The errors that all processes raise.
TOLD = {
    "nan": X_FAILED,
    "root": "^step 1: serial[0] serial[0] " + ROOT_FAILED,
    "label": "^softmax_cross_entropy: expected labels from 0 to 2, got 5, in rank 1$",
    "synchronised": X_FAILED,
    "synchronised root": "^step 1: serial[0] " + ROOT_FAILED,
    "backward": "^own: no gradient, in rank 0$",
    "probabilities": "^log_loss: expected probabilities, in [0, 1], got -0.25; end the net with "
    "sigmoid(), or take sigmoid_cross_entropy() on logits, in rank 1$",
    "pipeline": "^step 1: pipeline[0] serial[0] " + ROOT_FAILED,
    "other shards": "^mean: expected the same settings ... shards=2 ... shards=4",
    "other order": "^mean: expected the same settings ... deterministic=True ... =False",
    "other calls": "^mean: expected the same calls ... rank 0: mean: batches ... rank 1: mean: set",
    "versions": "^mean: expected the same versions ... hash 0; rank 1: ... hash 1",
    "batches": "^mean: expected the same batches with examples in all processes, got "
    "rank 0: (12) of float32, () of int64; rank 1: (5) of float32, () of int64$",
    "steps": "^mean: expected the same steps ... rank 1: ... label_smoothing=0.1",
    "first parameters": "expected the same parameters with numbers",
    "empty": "^mean: expected at least one example in the batch, got none$",
    "uneven": "^mean: expected [5, 6] examples in the processes, got [3, 8]; "
    "use lf.data.batches(..., shard=(group.rank, group.size))$",
    "shards": "^mean: expected shards to be a multiple of the 2 processes, got 3; "
    "take a multiple, such as 4$",
    "order": "^mean: expected shards=None, since deterministic is False, got 4",
}


def refuse(group):
    """Try what must be refused, and return the errors."""
    net, (x, target), first = lf.dense(3), data(8, 12), group.rank == 0
    losses = CE, lf.losses.softmax_cross_entropy(label_smoothing=0.1)
    steps = [lf.make_step(net, loss, SGD, reduce=distributed.mean(group)) for loss in losses]
    uneven = lf.make_step(net, CE, SGD, reduce=distributed.mean(group, shards=4))
    step, state, rows = steps[0], begin(net, x)[1], 3 if first else 8
    tries = {
        "batches": lambda: step(state, (x if first else x[:, :5], target)),
        "steps": lambda: steps[group.rank](state, (x, target)),
        "first parameters": lambda: step(begin(net, x, key=group.rank)[1], (x, target)),
        "empty": lambda: step(state, (x[:0], target[:0])),
        "uneven": lambda: uneven(state, (x[:rows], target[:rows])),
        "shards": lambda: distributed.mean(group, shards=3),
        "order": lambda: distributed.mean(group, shards=4, deterministic=False),
    }
    with_hash = mock.patch(
        "lincoln_fn.distributed.data_parallel.mean.digest", new=partial(str, group.rank)
    )
    tries |= {
        "other shards": lambda: distributed.mean(group, shards=2 if first else 4),
        "other order": lambda: distributed.mean(group, deterministic=first),
        "other calls": lambda: step(state, (x, target)) if first else distributed.mean(group),
        "versions": lambda: with_hash(distributed.mean)(group),
    }
    for name, (net, loss, reduce, batch) in attempts_in_one(group).items():
        tries[name] = partial(*begin(net, batch[0].abs(), loss, reduce=reduce), batch)
    errors = errors_of(tries)
    # After all this the processes are still in step.
    step(state, (x, target))
    return errors


@pytest.mark.full
def test_wrong_use_is_refused_by_the_same_error_in_all_processes():
    first, second = run_in_processes(2, refuse)
    assert first == second
    assert_told(first, TOLD)


def leave(group):
    """Use a step after the connection is closed, and return the error."""
    batch = data(8, 12)
    step, state = begin(lf.dense(3), batch[0], reduce=distributed.mean(group))
    torch.distributed.destroy_process_group()
    try:
        return errors_of({"gone": lambda: step(state, batch)})["gone"]
    finally:  # `connect` closes it at its end
        store = torch.distributed.HashStore()
        torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)


@pytest.mark.full
def test_a_group_that_is_gone_is_refused():
    for error in run_in_processes(2, leave):
        assert error == (
            "Group: expected a group whose connection is open, got one after its connect() ended; "
            "train within connect()"
        )


def test_shards_of_a_batch_are_its_rows_in_order():
    arrays = torch.arange(11), torch.arange(11)
    whole = [x.tolist() for x, _ in lf.data.batches(arrays, 4, key=lf.Key(3))]
    parts = [
        [x.tolist() for x, _ in lf.data.batches(arrays, 4, key=lf.Key(3), shard=(rank, 3))]
        for rank in range(3)
    ]
    assert [[*chain(*rows)] for rows in zip(*parts, strict=True)] == whole
    assert [len(rows) for rows in parts[0]] == [1, 1, 1]
    message = "shard to be ... got (3, 3); write (group.rank"
    assert_says(message, lf.data.batches, arrays, 4, shard=(3, 3))
