"""A pipeline in one process: its numbers do not depend on the schedule, and are the network's."""

import gc
import weakref

import pytest
import torch
from helpers import CE, MSE, Operations, same_bits, same_number
from helpers.pipelines import (
    SCHEDULES,
    TIED,
    mixed,
    mixed_batch,
    run_of,
    trained,
    two_losses,
    two_targets,
    writer,
    writer_batch,
)

import lincoln_fn as lf
from lincoln_fn.distributed import alone, check_schedule, mean, one_f_one_b, pipeline
from lincoln_fn.distributed.data_parallel.shards import drawing_for
from lincoln_fn.distributed.pipeline_parallel.pipeline import stage_functions

PRODUCTS = {"mm", "addmm", "bmm", "baddbmm"}


@pytest.mark.full(but=("1f1b",))
@pytest.mark.parametrize("name", SCHEDULES)
def test_each_schedule_gives_the_bits_of_the_same_shards_without_a_pipeline(name):
    batches = [mixed_batch(11), mixed_batch(12), mixed_batch(9)]
    net, reduce = pipeline(mixed(), SCHEDULES[name](4, 4), alone())
    losses, state = trained(net, reduce, batches)
    expected, other = trained(lf.serial(*mixed()), mean(alone(), shards=4), batches)
    assert losses == expected
    assert same_bits(state, other)


def test_a_batch_with_fewer_examples_than_microbatches_has_empty_ones():
    stages, batches = mixed()[:3], [(mixed_batch(2)[0], torch.ones(2, 7))]
    net, reduce = pipeline(stages, one_f_one_b(3, 5), alone())
    losses, state = trained(net, reduce, batches, loss=MSE)
    expected = trained(lf.serial(*stages), None, batches, loss=MSE)
    assert same_number(losses, expected[0], dtype=torch.float32)
    shards = trained(lf.serial(*stages), mean(alone(), shards=5), batches, loss=MSE)
    assert same_bits(state, shards[1])


WEIGHTED = lf.losses.softmax_cross_entropy(weight=torch.tensor([1.0, 3.0, 0.5]))
LOSSES = {
    "sum": (lf.losses.softmax_cross_entropy(reduction="sum"), mixed_batch(9)),
    "classes of other weights": (WEIGHTED, mixed_batch(9)),
    "two losses": (two_losses(), two_targets(7)),
}


@pytest.mark.parametrize(("loss", "batch"), LOSSES.values(), ids=LOSSES)
def test_the_loss_is_that_of_the_whole_batch(loss, batch):
    stages = mixed()[:2] if loss.name.startswith("weighted") else mixed()
    net, reduce = pipeline(stages, one_f_one_b(len(stages), 3), alone())
    params = net.init(lf.Key(0), batch[0])
    value, _, dparams = reduce.bind(net, loss, "step")(params, batch, torch.tensor(0))
    other = mean(alone(), shards=3).bind(lf.serial(*stages), loss, "step")
    expected, _, their_dparams = other(params, batch, torch.tensor(0))
    assert same_bits(value, expected)
    assert same_bits(dparams, their_dparams)


STAGES = {"writer": (writer(), writer_batch(6), TIED), "mixed": (mixed(), mixed_batch(6), ())}


@pytest.mark.full(but=("h2",))
@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize(("stages", "batch", "tied"), STAGES.values(), ids=STAGES)
def test_no_product_is_computed_twice(stages, batch, tied, name):
    x, target = batch
    net, reduce = pipeline(stages, SCHEDULES[name](4, 3), alone(), tied=tied)
    params = net.init(lf.Key(0), x)
    compute = reduce.bind(net, CE, "step")
    with Operations() as ours, torch.no_grad():
        compute(params, (x, target), torch.tensor(0))
    with Operations() as plain, torch.no_grad():
        for i in range(3):
            y, cache = net.forward(params, x[2 * i : 2 * i + 2])
            net.grads(params, cache, torch.ones_like(y))
    counts = [sum(name in PRODUCTS for name in mode.names) for mode in (ours, plain)]
    assert counts[0] == counts[1] > 0


@pytest.mark.parametrize("name", ["gpipe", "h2"])
def test_tied_scores_learn_as_in_one_layer(name):
    embedding, attend, think, (norm, _, last) = (
        stage if i in (1, 2) else stage.parts for i, stage in enumerate(writer(torch.float64))
    )
    body = lf.serial(embedding[1], attend, think, norm)
    whole = lf.serial(lf.tied(embedding[0], body), last)
    x, target = writer_batch(7)
    net, reduce = pipeline(writer(torch.float64), SCHEDULES[name](4, 3), alone(), tied=TIED)
    params = net.init(lf.Key(0), x)
    assert same_bits(params[0][0].weight, params[3][1].weight)
    assert params[0][0].weight is not params[3][1].weight
    (table, positions), attention, thought, (scale, _, _) = params
    value, _, dparams = reduce.bind(net, CE, "step")(params, (x, target), torch.tensor(0))
    theirs = ((table, (positions, attention, thought, scale)), ())
    y, cache = whole.forward(theirs, x)
    expected, loss_cache = CE.forward(y, target)
    ((dtable, dbody), _) = whole.grads(theirs, cache, CE.backward(loss_cache))
    assert same_number(value, expected)
    ours = (dparams[0][0], (dparams[0][1], dparams[1], dparams[2], dparams[3][0]))
    assert same_number(ours, (dtable, dbody))
    assert same_bits(dparams[3][1].weight, dparams[0][0].weight)


def test_max_norm_clips_as_the_optimizer_of_one_process_does():
    batches = [mixed_batch(8)]
    net, reduce = pipeline(mixed(), one_f_one_b(4, 2), alone(), max_norm=0.01)
    _, state = trained(net, reduce, batches, lf.optim.sgd(0.1))
    optimizer = lf.optim.chain(lf.optim.clip_by_global_norm(0.01), lf.optim.sgd(0.1))
    expected = trained(lf.serial(*mixed()), mean(alone(), shards=2), batches, optimizer)
    assert same_bits(state.params, expected[1].params)


def test_a_copy_of_a_tied_parameter_counts_once_in_the_norm():
    x, target = writer_batch(4)

    def gradient(max_norm):
        net, reduce = pipeline(writer(), one_f_one_b(4, 2), alone(), tied=TIED, max_norm=max_norm)
        compute = reduce.bind(net, CE, "step")
        return compute(net.init(lf.Key(0), x), (x, target), torch.tensor(0))[2]

    def norm(dparams):
        *stages, (first, _, last) = dparams
        return sum(dp.square().sum() for dp in lf.tree.leaves((*stages, first, last))).sqrt()

    assert norm(gradient(None)) > 0.01
    assert same_number(norm(gradient(0.01)), torch.tensor(0.01))


@pytest.mark.full
def test_compiled_stages_give_the_same_bits_with_each_schedule(uncompiled):
    batches = [mixed_batch(8), mixed_batch(8)]
    stages = lf.serial(lf.dense(5), lf.dropout(0.2)), lf.serial(lf.layer_norm(), lf.dense(3))
    runs = {
        (name, compiled): run_of(stages, batches, SCHEDULES[name](2, 2), alone(), compiled=compiled)
        for name, compiled in (("1f1b", True), ("h2", True), ("h1", False))
    }
    first, second, eager = runs.values()
    assert same_number(first[0], eager[0], dtype=torch.float32)
    assert same_bits(first, second)


@pytest.mark.full
def test_microbatches_of_one_size_have_one_graph(uncompiled):
    layer, (x, _) = lf.serial(lf.dense(5), lf.dropout(0.2)), mixed_batch(9)
    made, params = stage_functions(1, layer, compiled=True), layer.init(lf.Key(0), x)
    for first, end in ((0, 2), (2, 4), (4, 6), (6, 9)):
        drawing = drawing_for(params, first, end - first, of=9)
        y, cache = made["F"](drawing, x[first:end])
        made["W"](drawing, made["B"](drawing, cache, y)[1])
    assert len(made["F"].function.graphs.kinds) == 2
    assert len(made["W"].function.graphs.kinds) == 2


def test_the_layer_is_that_of_its_stages():
    x, g = mixed_batch(6)[0], torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    net, whole = pipeline(mixed(), one_f_one_b(4, 2), alone()).net, lf.serial(*mixed())
    params = net.init(lf.Key(3), x)
    assert same_bits(params, whole.init(lf.Key(3), x))
    (y, cache), (expected, theirs) = net.forward(params, x), whole.forward(params, x)
    assert same_bits(y, expected)
    assert same_bits(net.predict(params, x), whole.predict(params, x))
    assert same_bits(net.backward(params, cache, g), whole.backward(params, theirs, g))
    assert same_bits(net.grads(params, cache, g), whole.grads(params, theirs, g))
    assert same_bits(net.advance(params, cache), whole.advance(params, theirs))


@pytest.mark.parametrize("name", SCHEDULES)
def test_no_more_caches_are_alive_than_the_schedule_says(name):
    schedule = SCHEDULES[name](3, 8)
    alive, most = [0, 0, 0], [0, 0, 0]

    def stage(i):
        def ended():
            alive[i] -= 1

        def forward(params, x):
            cache = x.clone()
            weakref.finalize(cache, ended)
            alive[i] += 1
            most[i] = max(most[i], alive[i])
            return x + params[0], cache

        def grads(params, cache, g):
            return (g.sum(0),)

        return lf.Layer(
            f"stage({i})", forward, lambda p, c, g: (g, grads(p, c, g)),
            init=lambda key, x: (torch.zeros(x.shape[1:]),),
            input_grad=lambda params, cache, g: g, grads=grads,
        )  # fmt: skip

    net, reduce = pipeline(tuple(map(stage, range(3))), schedule, alone())
    params = net.init(lf.Key(0), torch.ones(8, 2))
    gc.collect()
    most[:] = alive[:]
    assert alive == [0, 0, 0]
    compute = reduce.bind(net, lf.losses.mse(), "step")
    compute(params, (torch.ones(8, 2), torch.zeros(8, 2)), torch.tensor(0))
    assert tuple(most) == check_schedule(schedule)
    assert alive == [0, 0, 0]
