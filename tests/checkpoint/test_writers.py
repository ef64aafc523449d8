"""Two writers: the second process is refused, by a lock that ends with the first."""

import errno
import gc
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import pytest
import torch
from helpers.checkpoints import name, refused, state_at
from helpers.children import context, run_child, started

import lincoln_fn as lf
from lincoln_fn.checkpoint import CheckpointError, Directory, every
from lincoln_fn.checkpoint.directory import fcntl

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such lock")

REFUSED = "another process saves checkpoints here; end it, or take another folder"


LIKE = state_at(0)


def write(pipe, folder, until=None):
    """Save step 1, leave a child until a pipe is closed if there is one, and do as told."""
    directory = Directory(folder)
    directory.save(state_at(1))
    if until is None:
        pipe.send("saved")
    elif os.fork() == 0:
        pipe.send("saved")  # by the child: it runs, so it has closed its copy of the lock
        with suppress(EOFError):
            until.recv()
        os._exit(0)
    while pipe.recv() == "del":
        del directory
        gc.collect()
        pipe.send("done")


@contextmanager
def writer(folder, *until):
    with started(write, folder, *until) as (process, pipe):
        assert pipe.recv() == "saved"
        yield process, pipe


def assert_refused(folder):
    refusal = refused(lambda: Directory(folder).save(state_at(2)))
    assert (refusal.path, refusal.problem) == (folder, REFUSED)
    assert sorted(os.listdir(folder)) == [name(1)]


def test_the_second_is_refused_until_the_first_is_killed(tmp_path):
    with writer(tmp_path) as (process, _):
        assert_refused(tmp_path)
        assert int(Directory(tmp_path).latest(LIKE).step) == 1  # a reader needs no lock
        process.kill()
        process.join()
        Directory(tmp_path).save(state_at(2))
    assert int(Directory(tmp_path).latest(LIKE).step) == 2


def test_a_child_of_the_first_does_not_keep_the_lock(tmp_path):
    until, closed = context().Pipe(duplex=False)  # the child waits until its end is closed
    with until, closed, writer(tmp_path, until) as (process, _):
        assert_refused(tmp_path)
        process.kill()
        process.join()
        Directory(tmp_path).save(state_at(2))


def test_the_first_frees_the_folder_when_its_directory_is_deleted(tmp_path):
    with writer(tmp_path) as (_, pipe):
        assert_refused(tmp_path)
        pipe.send("del")
        assert pipe.recv() == "done"
        Directory(tmp_path).save(state_at(2))


def test_a_second_run_is_refused_before_its_first_step(tmp_path):
    taken = []

    def steps():
        taken.append(1)
        yield state_at(2), lf.StepRecord(2, 0.5)

    with writer(tmp_path), pytest.raises(CheckpointError, match=REFUSED):
        next(every(steps(), Directory(tmp_path), steps=100))
    assert taken == []


def test_two_directories_of_a_process_go_together(tmp_path):
    first, second = Directory(tmp_path, keep_last=9), Directory(tmp_path / "." / "", keep_last=9)
    (tmp_path / "link").symlink_to(tmp_path)
    third = Directory(tmp_path / "link", keep_last=9)
    for step in range(0, 6, 3):
        first.save(state_at(step))
        second.save(state_at(step + 1))
        third.save(state_at(step + 2))
    assert int(first.latest(LIKE).step) == 5
    del first, second  # the third still holds the folder
    gc.collect()
    code = "import sys; from lincoln_fn.checkpoint import Directory; " + (
        "import lincoln_fn as lf, torch; "
        "Directory(sys.argv[1]).save(lf.TrainState((), (), lf.Key(0), torch.tensor(9)))"
    )
    assert f"CheckpointError: {tmp_path}: {REFUSED}" in run_child(code, tmp_path).stderr
    del third
    gc.collect()
    assert run_child(code, tmp_path).returncode == 0


def test_a_lock_leaves_no_file_and_no_open_file(tmp_path):
    before = len(os.listdir("/proc/self/fd"))
    for i in range(5):
        Directory(tmp_path / str(i)).save(state_at(1))
        assert os.listdir(tmp_path / str(i)) == [name(1)]
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_folder_that_is_made_anew_is_locked_anew(tmp_path):
    folder = tmp_path / "run"
    directory = Directory(folder)
    directory.save(state_at(1))
    (folder / name(1)).unlink()
    folder.rmdir()
    with writer(folder), pytest.raises(CheckpointError, match=REFUSED):
        directory.save(state_at(2))


def test_threads_of_a_process_do_not_remove_each_others_files(tmp_path):
    directories = [Directory(tmp_path, keep_last=50) for _ in range(2)]

    def run(first, directory):
        return [directory.save(state_at(step)) for step in range(first, 20, 2)]

    with ThreadPoolExecutor(2) as threads:
        assert sum(map(len, threads.map(run, range(2), directories))) == 20
    assert len(os.listdir(tmp_path)) == 20


def test_two_writers_of_one_file_leave_a_whole_one(tmp_path):
    file, like, loaded = tmp_path / "file", torch.zeros(2**16), []
    lf.checkpoint.save(file, like)

    def write(number):
        for _ in range(20):
            lf.checkpoint.save(file, torch.full_like(like, number))

    with ThreadPoolExecutor(2) as threads:
        running = [threads.submit(write, number) for number in (1.0, 2.0)]
        while not all(each.done() for each in running):
            loaded.append(lf.checkpoint.load(file, like))
    assert all(each.exception() is None for each in running)
    loaded.append(lf.checkpoint.load(file, like))
    assert all((state == state[0]).all() for state in loaded)
    assert loaded[-1][0] in (1.0, 2.0)
    assert os.listdir(tmp_path) == ["file"]


def test_a_disk_without_locks_is_told_of_and_written_to(tmp_path, monkeypatch):
    def flock(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    directory = Directory(tmp_path)
    with pytest.warns(UserWarning, match="cannot be locked against a second writer") as warned:
        directory.save(state_at(1))
    assert warned[0].filename == __file__
    directory.save(state_at(2))  # and once only
    assert len(os.listdir(tmp_path)) == 2


def test_a_run_that_removes_what_was_listed_does_not_mislead_a_reader(tmp_path, monkeypatch):
    directory = Directory(tmp_path, keep_last=1)
    directory.save(state_at(1))
    loads = []

    def load(file, like):
        if not loads:
            directory.save(state_at(2))
        loads.append(file.name)
        return lf.checkpoint.file.load(file, like)

    monkeypatch.setattr("lincoln_fn.checkpoint.directory.load", load)
    assert int(Directory(tmp_path).latest(LIKE).step) == 2
    assert loads == [name(1), name(2)]
