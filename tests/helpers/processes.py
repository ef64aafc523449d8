"""Processes for the tests of what runs on several: `run_in_processes` starts them and waits."""

import os
import socket
import traceback
from contextlib import ExitStack, contextmanager
from multiprocessing import connection

import pytest
import torch

import lincoln_fn as lf
from helpers import children


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def _main(pipe, rank, world, port, function, arguments, timeout):
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world), MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
    )  # fmt: skip
    torch.set_num_threads(1)
    try:
        with lf.distributed.connect(timeout=timeout) as group:
            pipe.send(("returned", function(group, *arguments)))
    except BaseException:
        pipe.send(("raised", traceback.format_exc()))


@contextmanager
def started(world, function, *arguments, timeout=60):
    """Start processes that call function(group, *arguments); give each one and its pipe.

    A pipe gives ("returned", value) or ("raised", traceback).
    """
    given = world, free_port(), function, arguments, timeout
    with ExitStack() as running:
        yield [running.enter_context(children.started(_main, i, *given)) for i in range(world)]


def outcomes(running, patience):
    """Wait for what the processes send last: {rank: ("returned" or "raised", what)}."""
    pipes = {pipe: rank for rank, (_, pipe) in enumerate(running)}
    found = {}
    while pipes:
        ready = connection.wait(list(pipes), timeout=patience)
        assert ready, f"ranks {sorted(pipes.values())} have not answered in {patience} s"
        for pipe in ready:
            rank = pipes.pop(pipe)
            try:
                found[rank] = pipe.recv()
            except EOFError:
                found[rank] = ("killed", None)
    return found


def run_in_processes(world, function, *arguments, patience=120):
    """Call function(group, *arguments) in each of some processes, and list what they return.

    The function is one of a test's module, and what it returns can be pickled; tensors are best
    returned as lists or numpy arrays.
    """
    with started(world, function, *arguments) as running:
        found = outcomes(running, patience)
    for rank, (how, what) in sorted(found.items()):
        assert how == "returned", f"rank {rank} {how}:\n{what}"
    return [found[rank][1] for rank in range(world)]


def errors_of(tries):
    """Try what must be refused, and give each error by its name, to be sent to another process."""
    errors = {}
    for name, attempt in tries.items():
        with pytest.raises(lf.LayerError) as caught:
            attempt()
        errors[name] = str(caught.value)
    return errors
