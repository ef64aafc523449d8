"""A process of a pipeline that is killed ends the others, with an error that names it."""

import os
import signal
import subprocess
import sys

from processes import free_port

KILLED = """
import os, signal, torch, lincoln_fn as lf
from lincoln_fn import distributed
torch.set_num_threads(1)
stages = lf.dense(3), lf.dense(3)
with distributed.connect(timeout=60) as group:
    net, reduce = distributed.pipeline(stages, distributed.zero_bubble_h1(2, 3), group)
    optimizer, x = lf.optim.sgd(0.1), torch.ones(6, 3)
    step = lf.make_step(net, lf.losses.mse(), optimizer, reduce=reduce)
    state = lf.init_state(net, optimizer, lf.Key(0), x)
    try:
        for i in range(3):
            if i == 2 and group.rank == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            state, _ = step(state, (x, x))
    except distributed.LostProcessError as error:
        print(i, error, flush=True)
"""


def test_a_process_that_is_killed_is_named():
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2"}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", KILLED], text=True, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, env={**os.environ, **place, "RANK": str(rank)},
        )
        for rank in range(2)
    ]  # fmt: skip
    try:
        printed = started[0].communicate(timeout=60)[0]
        assert started[1].wait(timeout=60) == -signal.SIGKILL
        assert printed == "2 rank 1 is gone; start the run again from its last checkpoint\n"
    finally:
        for process in started:
            process.kill()
            process.communicate()
