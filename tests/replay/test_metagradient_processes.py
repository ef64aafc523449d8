"""The walk back on several processes: the bits of one, also after kills."""

import os
import signal

import pytest
import torch
from helpers import cast, same_bits, same_number
from helpers.processes import run_in_processes, started
from helpers.refusals import refusals

import lincoln_fn as lf
from lincoln_fn import distributed
from lincoln_fn.replay import Run, attribute, metagradient, reweighted

NET = lf.serial(lf.dense(6), lf.tanh(), lf.dropout(0.3), lf.dense(3))
X, T = (
    lf.keys.normal(lf.Key(5), (23, 5), dtype=torch.float64),
    lf.keys.bits(lf.Key(6), (23,)).remainder(3),
)
TEST = X[:7], T[:7]
WRT = ("examples", "lr", "weight_decay", "start", "x")
STEPS = 6  # of 9, 9 and 5 examples, in 4 shards


def make_run(group, net=NET, shards=4, **options):
    torch.set_num_threads(1)  # as each of several processes has
    optimizer = lf.optim.chain(lf.optim.clip_by_global_norm(0.3), lf.optim.adamw(0.05, eps=1e-2))
    if shards:
        options["reduce"] = distributed.mean(group, shards=shards)
    step = lf.make_step(net, lf.losses.softmax_cross_entropy(), optimizer, **options)
    shard = (group.rank, group.size)
    batches = lf.data.batches((X, T), 9, key=lf.Key(5), epochs=2, shard=shard)
    params = cast(net.init(lf.Key(0), X))
    return Run(step, batches, lf.init_state(net, optimizer, lf.Key(0), X, params=params))


def arrays(found):
    kept = found.examples, found.lr, found.weight_decay, found.start, found.x
    return [leaf.numpy() for leaf in lf.tree.leaves(kept)]


def walked(group, folder=None, kill=None):
    """Walk back, and list what was found; `kill` is (rank, steps done) of a kill."""

    def progress(done, total):
        if kill == (group.rank, done):
            os.kill(os.getpid(), signal.SIGKILL)

    run = make_run(group)
    return arrays(metagradient(run, TEST, WRT, folder=folder, save_seconds=0, progress=progress))


@pytest.mark.full
def test_two_processes_find_the_bits_of_one_after_two_kills(tmp_path):
    expected = walked(distributed.alone())
    for rank, done in ((1, 3), (0, 5)):
        with started(2, walked, str(tmp_path), (rank, done)) as running:
            running[rank][0].join()
            assert running[rank][0].exitcode == -signal.SIGKILL
        assert [file.name for file in tmp_path.iterdir()] == ["metagradient.safetensors"]
    for found in run_in_processes(2, walked, str(tmp_path)):
        assert same_bits(found, expected)
    assert not [*tmp_path.iterdir()]


def test_shards_find_the_number_of_the_whole_batch():
    group = distributed.alone()
    whole, divided = (metagradient(make_run(group, shards=n), TEST, WRT) for n in (None, 4))
    assert same_number(arrays(divided), arrays(whole), length=256 * STEPS)


@pytest.mark.full
def test_other_weights_are_those_of_the_whole_batch():
    weights = lf.keys.uniform(lf.Key(7), (23,))
    runs = (make_run(distributed.alone(), shards=n) for n in (None, 4))
    whole, divided = (attribute(reweighted(run, weights), TEST).effects for run in runs)
    assert same_number(divided, whole, length=256 * STEPS)


def alone_with(*norm):
    return make_run(distributed.alone(), lf.serial(lf.dense(6), *norm, lf.dense(3)))


SYNC, LISTED = distributed.sync_batch_norm(distributed.alone()), [(X, T)]
test_what_several_processes_cannot_walk_is_refused = refusals("""
metagradient(alone_with(batch_norm()), TEST) -> expected no running statistics
metagradient(alone_with(SYNC), TEST) -> layers that do not communicate, in metagradient
metagradient(Run(alone_with().step, LISTED, alone_with().start), TEST) -> write data.batches(...,
    shard
""")
