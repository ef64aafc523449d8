"""How many threads a process has, and the line that is logged on a machine that is not alone."""

import ctypes
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest
import torch
from helpers import MSE, begin, run_child, same_bits, taken

import lincoln_fn as lf
from lincoln_fn.compiler import graphs
from lincoln_fn.runtime import log as _waiting
from lincoln_fn.runtime import process as threads


def test_a_quota_is_read(tmp_path):
    assert threads._quotas(tmp_path) == []
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    for name, text, expected in (
        ("cpu/cpu.cfs_quota_us", "250000\n", [2.5]), ("cpu/cpu.cfs_quota_us", "-1\n", []),
        ("cpu.max", "150000 100000\n", [1.5]), ("cpu.max", "max 100000\n", []),
    ):  # fmt: skip
        (tmp_path / name).write_text(text)
        assert threads._quotas(tmp_path) == expected


def test_cores_are_counted_and_divided(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)), raising=False)
    monkeypatch.setattr(threads, "_quotas", lambda _: [])
    assert threads.count_cores() == 6
    monkeypatch.setattr(threads, "_quotas", lambda _: [4.5])
    assert threads.count_cores() == 4
    for name in threads._NUMBER:
        monkeypatch.delenv(name, raising=False)
    numbers = []
    monkeypatch.setattr(torch, "set_num_threads", numbers.append)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    for processes in (1, 2, 3, 4, 9):
        threads.share_cores(processes)
    assert numbers == [2, 1, 1, 1]
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    threads.share_cores(9)
    assert numbers == [2, 1, 1, 1]


@pytest.fixture
def waiting(monkeypatch):
    """How threads wait, where a list tells of the seconds without a core; and the teams started."""
    lacked, teams = [0.0], []

    def start():
        teams.append(Event())
        return teams[-1]

    monkeypatch.setattr(threads, "_can_adapt", lambda: True)
    monkeypatch.setattr(threads, "_seconds_without_core", lambda: lacked[0])
    monkeypatch.setattr(threads, "_start_team", start)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    return threads._Waiting(), lacked, teams


def test_waiting_threads_sleep_while_others_need_the_cores(waiting):
    adapter, lacked, teams = waiting

    def look(now, seconds):
        lacked[0] += seconds
        adapter.adapt(now)
        return [team.is_set() for team in teams]

    assert look(10.0, 5.0) == []  # the first look has nothing to compare with
    assert look(10.1, 0.09) == []  # too early to look
    assert look(10.3, 0.15) == []  # once may be chance
    assert look(10.6, 0.05) == []  # a sixth of the time is little
    assert look(10.9, 0.1) == []
    assert look(11.2, 0.1) == [False]
    assert look(11.9, 0.0) == [False]  # too early to wake up
    assert look(12.3, 0.6) == [False]
    assert look(13.4, 0.1) == [True]
    assert look(13.7, 0.2) == [True]
    assert look(14.0, 0.2) == [True, False]


def test_what_the_user_has_set_stays(monkeypatch):
    for name in threads._POLICY:
        monkeypatch.delenv(name, raising=False)
    can = threads._can_adapt()
    for name in threads._POLICY:
        with monkeypatch.context() as patched:
            patched.setenv(name, "1")
            assert not threads._can_adapt()
    assert can == (sys.platform == "linux" and hasattr(ctypes.CDLL(None), "GOMP_parallel"))


@pytest.mark.skipif(not threads._can_adapt(), reason="torch's threads are not libgomp's")
def test_a_second_team_starts_and_ends():
    tasks = {*threads._TASKS.iterdir()}
    before = threads._seconds_without_core()
    end = threads._start_team()
    (team,) = (thread for thread in threading.enumerate() if "second team" in thread.name)
    while len({*threads._TASKS.iterdir()} - tasks) < 2:
        os.sched_yield()
    assert threads._seconds_without_core() >= before
    end.set()
    team.join()
    while {*threads._TASKS.iterdir()} - tasks:
        os.sched_yield()


def seen_by_a_thread(read):
    """Call a function in a new thread."""
    seen = []
    thread = threading.Thread(target=lambda: seen.append(read()))
    thread.start()
    thread.join()
    return seen[0]


@pytest.fixture
def three_threads():
    number = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(number)


@pytest.mark.parametrize(
    "compiled",
    [lambda step: step, pytest.param(lf.compile, marks=pytest.mark.full)],
    ids=["eager", "compiled"],
)
def test_threads_started_beside_a_small_step_have_the_threads_of_torch(
    compiled, three_threads, monkeypatch
):
    seen = []

    def look():  # a thread takes torch's number when it first asks for it
        seen.append(seen_by_a_thread(torch.get_num_threads))

    def forward(params, x):
        look()
        return lf.layers.dense.forward(params, x)

    def by_inductor(graph, inputs):
        look()
        return lambda leaves: look() or graph(*leaves)

    monkeypatch.setattr(graphs, "by_inductor", by_inductor)

    net = lf.Layer("seen", forward, lf.layers.dense.backward, lf.dense(30).init)
    x = torch.ones(4, 20)
    step, state = begin(net, x, MSE)
    compiled(step)(state, (x, torch.ones(4, 30)))
    assert set(seen) == {3}


def train(seed, steps=4):
    """Train on a small batch, which was once given one thread, or on a large one."""
    x = lf.keys.normal(lf.Key(seed), ((96, 4)[seed % 2], 200))
    net = lf.serial(lf.dense(300), lf.dropout(0.3), lf.gelu(), lf.layer_norm(), lf.dense(3))
    step, state = begin(net, x, MSE, lf.optim.adamw(0.01), key=seed)
    return taken(step, state, *[(x, x[:, :3])] * steps)


@pytest.mark.full
def test_training_in_eight_threads_at_once_has_the_bits_of_training_alone(three_threads):
    alone = [train(seed) for seed in range(8)]
    with ThreadPoolExecutor(8) as threads:
        assert same_bits([*threads.map(train, range(8))], alone)


# Steps of a millisecond, then some of 20 in a row, until they have taken two seconds.
PACES = [
    ([(8, 0.001)] + 100 * [(8, 0.02)], 3.0, 1),
    ([(8, 0.001)] + 99 * [(8, 0.02)], 3.0, 0),
    ([(8, 0.001)] + 1000 * [(8, 0.02)], 2.0, 0),
    ([(8, 0.001)] + 1000 * [(8, 0.009)], 3.0, 0),
    ([(8, 0.001)] + 1000 * [(64, 0.02)], 3.0, 0),
    (3 * ([(8, 0.001)] + 50 * [(8, 0.02)]), 3.0, 0),
    ([(8, 9.0)] + 1000 * [(8, 0.02)], 3.0, 0),
]


@pytest.mark.parametrize(("steps", "load", "expected"), PACES)
def test_slow_steps_beside_other_work_are_logged_once(steps, load, expected, heard, monkeypatch):
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0), raising=False)
    watch = _waiting.watch_pace(2)
    for step in steps:
        watch(step)
    assert len(heard.lines) == expected
    for line in heard.lines:
        assert line.startswith("lincoln_fn: a step takes 20 ms, and the fastest took 1 ms.")
        assert "OMP_WAIT_POLICY=passive" in line


FORKED = """
import os, torch, lincoln_fn as lf

torch.set_num_threads(1)
x, net, optimizer = torch.ones(8, 5), lf.serial(lf.dense(7), lf.tanh()), lf.optim.sgd(0.1)
state, target = lf.init_state(net, optimizer, lf.Key(0), x), torch.ones(8, 7)
step = lf.compile(lf.make_step(net, lf.losses.mse(), optimizer))
state, _ = step(state, (x, target))
child = os.fork()
_, value = step(state, (x, target))
print(f"{value.item()}\\n", end="", flush=True)  # in one piece
if not child:
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.full
def test_a_process_forked_after_compiling_has_the_same_bits():
    ran = run_child(FORKED)
    assert ran.returncode == 0, ran.stderr
    one, other = ran.stdout.splitlines()
    assert one == other
