"""How many threads a process has, and the line that is logged on a machine that is not alone."""

import os

import pytest
import torch
from test_waiting import heard  # noqa: F401  # a fixture

from lincoln_fn import _waiting, threads


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
def test_slow_steps_beside_other_work_are_logged_once(steps, load, expected, heard, monkeypatch):  # noqa: F811
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0), raising=False)
    watch = _waiting.watch_pace(2)
    for step in steps:
        watch(step)
    assert len(heard.lines) == expected
    for line in heard.lines:
        assert line.startswith("lincoln_fn: a step takes 20 ms, and the fastest took 1 ms.")
        assert "OMP_WAIT_POLICY=passive" in line
