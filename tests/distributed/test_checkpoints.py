"""Checkpoints of sharded states, other numbers of processes, and processes that are killed."""

import json
from multiprocessing import get_context

import pytest
import torch
from helpers import CE, assert_says, begin, same_bits
from helpers.processes import outcomes, run_in_processes, started

import lincoln_fn as lf
from lincoln_fn import checkpoint, distributed

pytestmark = pytest.mark.full

X = lf.keys.normal(lf.Key(5), (64, 12))
TARGET = lf.keys.bits(lf.Key(6), (64,)).remainder(3)
STEPS = 12


def make(group, zero):
    """Make a network and an optimizer whose states are divided by the first or third stage."""
    adamw = lf.optim.adamw(0.01)
    if zero == 1:
        net = lf.serial(lf.dense(17), lf.dropout(0.3), lf.relu(), lf.dense(3))
        return net, lf.optim.chain(lf.optim.accumulate(2), lf.optim.sharded(adamw, group))
    hidden = distributed.fully_sharded(lf.serial(lf.dense(17), lf.batch_norm()), group)
    return lf.serial(hidden, lf.dropout(0.3), lf.relu(), lf.dense(3)), adamw


def first_of(group, zero):
    net, optimizer = make(group, zero)
    return begin(net, X, CE, optimizer)[1]


def train(group, folder, zero, stop=STEPS, started_steps=None):
    """Train from the newest checkpoint on, and return the whole parameters' bits."""
    net, optimizer = make(group, zero)
    step, state = begin(net, X, CE, optimizer, reduce=distributed.mean(group, shards=4))
    directory = distributed.Directory(path=folder, group=group)
    state = directory.latest(state) or state
    begun = int(state.step)
    shard = (group.rank, group.size)
    batches = lf.data.batches(
        (X, TARGET), 16, key=lf.Key(1), epochs=stop // 4, start=begun, shard=shard
    )
    for state, record in checkpoint.every(lf.train(step, state, batches), directory, steps=2):
        if started_steps is not None:
            started_steps[group.rank] = record.step
    params = distributed.whole(state.params, group)
    leaves = lf.tree.leaves(params, states=True)
    return begun, [leaf.numpy().tobytes() for leaf in leaves]


def alone(folder, zero, stop=STEPS):
    torch.set_num_threads(1)  # as each of several processes has
    return train(distributed.alone(), folder, zero, stop)


def train_both(group, folder, stop=STEPS):
    """Train with the first stage of ZeRO, and with the third."""
    return [train(group, folder / f"zero_{zero}", zero, stop) for zero in (1, 3)]


def test_a_run_goes_on_with_another_number_of_processes(tmp_path):
    expected = [alone(tmp_path / f"whole_{zero}", zero)[1] for zero in (1, 3)]
    run_in_processes(2, train_both, tmp_path, 4)
    notes = json.loads((tmp_path / "zero_1" / "step_000000004" / "whole.json").read_text())
    assert notes["processes"] == 2
    for zero in (1, 3):
        assert alone(tmp_path / f"zero_{zero}", zero, 8)[0] == 4
    for of_rank in run_in_processes(4, train_both, tmp_path):
        assert [begun for begun, _ in of_rank] == [8, 8]
        assert [bits for _, bits in of_rank] == expected


def test_a_checkpoint_without_its_manifest_or_with_a_damaged_part_is_passed_over(tmp_path):
    alone(tmp_path, 1, 8)
    folders = sorted(folder.name for folder in tmp_path.iterdir())
    assert folders == [f"step_{step:09}" for step in (4, 6, 8)]
    (tmp_path / folders[2] / "whole.json").unlink()
    part = tmp_path / folders[1] / "part_0_of_1.safetensors"
    data = bytearray(part.read_bytes())
    data[-1] ^= 1
    part.write_bytes(data)
    with pytest.warns(UserWarning, match="passed over a checkpoint"):
        begun, bits = alone(tmp_path, 1)
    assert begun == 4
    assert bits == alone(tmp_path / "other", 1)[1]


def test_the_best_checkpoint_is_kept(tmp_path):
    state = first_of(distributed.alone(), 3)
    directory = distributed.Directory(path=tmp_path, group=distributed.alone(), keep_last=1)
    for number, score in ((1, 0.5), (2, 0.9), (3, 0.9), (4, 0.1)):
        moved = lf.TrainState(state.params, state.opt_state, state.key, torch.tensor(number))
        directory.save(moved, score=score)
    assert sorted(folder.name[-1] for folder in tmp_path.iterdir()) == ["2", "4"]
    assert int(directory.best(state).step) == 2
    assert int(directory.latest(state).step) == 4


def save_and_load_parts(group, folder):
    """Save a state of parallel layers, which differs between processes, and load it again."""
    net = lf.serial(
        distributed.column_parallel(6, group), lf.tanh(), distributed.row_parallel(3, group)
    )
    step, first = begin(net, X, CE, lf.optim.adamw(0.01))
    state, _ = step(first, (X, TARGET))
    directory = distributed.Directory(path=folder, group=group)
    directory.save(state)
    return same_bits(directory.latest(first), state)


def test_states_that_differ_between_processes_are_saved_by_each(tmp_path):
    assert all(run_in_processes(2, save_and_load_parts, tmp_path))
    directory = distributed.Directory(path=tmp_path, group=distributed.alone())
    message = "CheckpointError: expected 2 processes, which had differ"
    assert_says(message, directory.latest, first_of(distributed.alone(), 1))


KILLS = [(2, 1, 3), (4, 2, 6), (2, 0, 9)]  # how many processes, which one, after which step


def run_and_kill(folder, world, rank, after, zero):
    """Kill a process once it has begun a step; return what the others raise."""
    begun = get_context("spawn").Array("i", world)
    with started(world, train, folder, zero, STEPS, begun) as running:
        process, _ = running[rank]
        while begun[rank] < after and process.is_alive():
            process.join(0.01)
        process.kill()
        return outcomes(running, 30)


def test_a_killed_process_ends_all_and_the_run_goes_on_with_the_same_bits(tmp_path):
    zero, (_, expected) = 1, alone(tmp_path / "whole", 1)
    folder = tmp_path / "killed"
    for world, rank, after in KILLS:
        for other, (how, what) in run_and_kill(folder, world, rank, after, zero).items():
            if other == rank:
                assert how == "killed"
            else:
                assert how == "raised"
                assert f"LostProcessError: rank {rank} is gone; start the run again" in what, what
    begun, bits = alone(folder, zero)
    assert begun >= KILLS[-1][2] - 2
    assert bits == expected
