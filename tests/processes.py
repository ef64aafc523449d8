"""Processes for the tests of what runs on several: `run_in_processes` starts them and waits."""

import os
import socket
import traceback
from multiprocessing import get_context

import torch

from lincoln_fn import distributed


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def _main(rank, world, port, function, arguments, results):
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world), MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
    )  # fmt: skip
    torch.set_num_threads(1)
    try:
        with distributed.connect(timeout=60) as group:
            results.put((rank, function(group, *arguments), None))
    except BaseException:
        results.put((rank, None, traceback.format_exc()))


def run_in_processes(world, function, *arguments, patience=90):
    """Call function(group, *arguments) in each of some processes, and list what they return.

    The function is one of a test's module, and what it returns can be pickled; tensors are best
    returned as lists or numpy arrays.
    """
    context = get_context("spawn")
    results, port = context.Queue(), free_port()
    started = [
        context.Process(
            target=_main, args=(rank, world, port, function, arguments, results), daemon=True
        )
        for rank in range(world)
    ]
    try:
        for process in started:
            process.start()
        returned = {}
        for _ in started:
            rank, value, error = results.get(timeout=patience)
            assert error is None, f"rank {rank}:\n{error}"
            returned[rank] = value
        return [returned[rank] for rank in range(world)]
    finally:
        for process in started:
            process.kill()
            process.join()
