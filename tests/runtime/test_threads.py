"""How many threads a process has, and the line that is logged on a machine that is not alone."""

import ctypes
import os
import sys
import threading
from contextlib import suppress
from threading import Event

import pytest
import torch

import lincoln_fn as lf
from lincoln_fn.runtime import log as _waiting
from lincoln_fn.runtime import threads


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, []),
        ({"cpu.max": "150000 100000\n"}, [1.5]),
        ({"cpu.max": "max 100000\n"}, []),
        ({"cpu/cpu.cfs_quota_us": "250000\n", "cpu/cpu.cfs_period_us": "100000\n"}, [2.5]),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, []),
    ],
    ids=str,
)
def test_a_quota_is_read(files, expected, tmp_path):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
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


@pytest.mark.parametrize(
    ("sizes", "x", "fits"),
    [
        ([784 * 64, 64], torch.zeros(32, 784), True),
        ([784 * 64, 64], torch.zeros(64, 784), False),
        ([32 * 128], torch.zeros(4, 32, dtype=torch.int64), True),
        ([32 * 128], torch.zeros(8, 65, dtype=torch.int64), False),
        ([3 * 8 * 9], torch.zeros(8, 3, 28, 28), True),
        ([3 * 8 * 9 * 40], torch.zeros(8, 3, 28, 28), False),
        ([2**16], (torch.zeros(8, 5), torch.zeros(33, 5)), False),
        ([], torch.zeros(9, 9), True),
        ([9], (), True),
    ],
    ids=str,
)
def test_small_products_have_one_thread(sizes, x, fits):
    params = tuple(torch.zeros(size) for size in sizes)
    assert threads.fits_one_thread(params, x) is fits


def test_the_number_of_threads_comes_back():
    number = torch.get_num_threads()
    for threads_of_torch in (1, 3):
        torch.set_num_threads(threads_of_torch)
        try:
            assert threads.with_one_thread(torch.get_num_threads)() == 1
            assert torch.get_num_threads() == threads_of_torch
            with suppress(ZeroDivisionError):
                threads.with_one_thread(divmod)(1, 0)
            assert torch.get_num_threads() == threads_of_torch
        finally:
            torch.set_num_threads(number)


@pytest.mark.parametrize(("rows", "expected"), [(4, 1), (5000, 3)])
def test_steps_of_small_networks_have_one_thread(rows, expected):
    seen = []

    def forward(params, x):
        seen.append(torch.get_num_threads())
        return lf.layers.dense.forward(params, x)

    net = lf.Layer("seen", forward, lf.layers.dense.backward, lf.dense(30).init)
    x, target = torch.ones(rows, 20), torch.ones(rows, 30)
    optimizer = lf.optim.sgd(0.1)
    state = lf.init_state(net, optimizer, lf.Key(0), x)
    step = lf.make_step(net, lf.losses.mse(), optimizer)
    number = torch.get_num_threads()
    seen.clear()
    torch.set_num_threads(3)
    try:
        step(state, (x, target))
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(number)
    assert seen == [expected]


# Steps of a millisecond, then some of 20 in a row, until they have taken two seconds.
@pytest.mark.parametrize(
    ("steps", "load", "expected"),
    [
        ([(8, 0.001)] + 100 * [(8, 0.02)], 3.0, 1),
        ([(8, 0.001)] + 1000 * [(8, 0.02)], 3.0, 1),
        ([(8, 0.001)] + 99 * [(8, 0.02)], 3.0, 0),
        ([(8, 0.001)] + 1000 * [(8, 0.02)], 2.0, 0),
        ([(8, 0.001)] + 1000 * [(8, 0.009)], 3.0, 0),
        ([(8, 0.001)] + 1000 * [(64, 0.02)], 3.0, 0),
        (3 * ([(8, 0.001)] + 50 * [(8, 0.02)]), 3.0, 0),
        ([(8, 9.0)] + 1000 * [(8, 0.02)], 3.0, 0),
    ],
)
def test_slow_steps_beside_other_work_are_logged_once(steps, load, expected, heard, monkeypatch):
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0), raising=False)
    watch = _waiting.watch_pace(2)
    for step in steps:
        watch(step)
    assert len(heard.lines) == expected
    for line in heard.lines:
        assert line.startswith("lincoln_fn: a step takes 20 ms, and the fastest took 1 ms.")
        assert "OMP_WAIT_POLICY=passive" in line
