"""The walk back through training, killed at ten random moments, on 1, 2 and 4 processes.

    python -m benchmarks.killed_walk

A network of 784-100-10 takes 60 steps with AdamW, and is walked back. At a random moment one of the
processes is killed by SIGKILL; the others end, and all are started again. What was found so far is
saved after each step. Printed is whether all derivatives have the bits of a walk of one process
that was not killed.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import socket
import tempfile
import time
from collections.abc import Sequence
from hashlib import blake2b
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

import lincoln_fn as lf
from lincoln_fn import distributed

EXAMPLES, BATCH, STEPS, SHARDS = 1000, 50, 60, 4
WRT = ("examples", "lr", "weight_decay", "start", "x")
FORKS = get_context("forkserver")


def checksum(group: distributed.Group, folder: Path) -> str:
    """Train, walk back, and compute a number that differs if a bit of what was found does."""
    x = lf.keys.normal(lf.Key(1), (EXAMPLES, 784))
    target = lf.keys.bits(lf.Key(2), (EXAMPLES,)).remainder(10)
    net = lf.serial(lf.dense(100), lf.tanh(), lf.dropout(0.2), lf.dense(10))
    optimizer, reduce = lf.optim.adamw(0.003), distributed.mean(group, shards=SHARDS)
    step = lf.make_step(net, lf.losses.softmax_cross_entropy(), optimizer, reduce=reduce)
    batches = lf.data.batches(
        (x, target), BATCH, key=lf.Key(3), epochs=-(-STEPS * BATCH // EXAMPLES),
        shard=(group.rank, group.size),
    )  # fmt: skip
    run = lf.replay.Run(step, batches, lf.init_state(net, optimizer, lf.Key(0), x))

    def note(done: int, total: int) -> None:
        (folder / f"steps_{group.rank}").write_text(str(done))

    found = lf.replay.metagradient(
        run, (x[:100], target[:100]), WRT, steps=STEPS, folder=folder / "saved", save_seconds=0,
        progress=note,
    )  # fmt: skip
    digest = blake2b(digest_size=8)
    kept = found.examples, found.lr, found.weight_decay, found.start, found.x
    for leaf in lf.tree.leaves(kept):
        digest.update(leaf.numpy().tobytes())
    return digest.hexdigest()


def _process(rank: int, size: int, port: int, folder: Path, pipe: Any) -> None:
    os.environ.update(
        RANK=str(rank), WORLD_SIZE=str(size), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port)
    )
    torch.set_num_threads(1)
    with distributed.connect(timeout=120) as group:
        pipe.send(checksum(group, folder))


def run(size: int, folder: Path, seed: int | None) -> tuple[set[str], str]:
    """Walk on some processes, and kill one; return the checksums, or where it was killed."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    draws, processes, pipes = random.Random(seed), [], []
    for rank in range(size):
        pipe, its_pipe = FORKS.Pipe(duplex=False)
        process = FORKS.Process(target=_process, args=(rank, size, port, folder, its_pipe))
        process.start()
        processes.append(process)
        pipes.append(pipe)
    if seed is None:
        return {pipe.recv() for pipe in pipes}, ""
    victim, wait = draws.randrange(size), draws.random()
    mark = folder / f"steps_{victim}"
    before = mark.stat().st_mtime if mark.exists() else 0
    while not mark.exists() or mark.stat().st_mtime == before:  # until it walks back
        processes[victim].join(0.01)
    time.sleep(wait)
    os.kill(processes[victim].pid, signal.SIGKILL)
    for process in processes:
        process.join(20)
        process.kill()
        process.join()
    return set(), f"rank {victim} after {mark.read_text()} steps"


def main(arguments: Sequence[str] | None = None) -> None:
    """Kill, go on, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 2, 4])
    options = parser.parse_args(arguments)
    FORKS.set_forkserver_preload(["lincoln_fn"])
    with tempfile.TemporaryDirectory() as folder:
        (expected,), _ = run(1, Path(folder), None)
    print(f"1 process, not killed: {expected}", flush=True)
    for size in options.sizes:
        with tempfile.TemporaryDirectory() as folder:
            for seed in range(options.kills):
                print(
                    f"{size} processes, seed {seed}:", run(size, Path(folder), seed)[1], flush=True
                )
            found, _ = run(size, Path(folder), None)
        same = "the same bits" if found == {expected} else f"OTHER BITS: {found}"
        print(f"{size} processes, {options.kills} kills: {same}", flush=True)


if __name__ == "__main__":
    main()
