"""A directory of checkpoints keeps the last and the best, and survives what a crash leaves."""

import math
import os

import pytest
import torch

import lincoln_fn as lf
from lincoln_fn.checkpoint import CheckpointError, Directory, every


def state_at(step):
    return lf.TrainState((torch.full((2,), float(step)),), (), lf.Key(0), torch.tensor(step))


LIKE = state_at(0)


def name(step):
    return f"step_{step:09}.safetensors"


def steps_in(directory):
    return sorted(int(file.stem.removeprefix("step_")) for file in directory.path.iterdir())


def stream(last, first=1):
    return ((state_at(i), lf.StepRecord(i, 0.5)) for i in range(first, last + 1))


def test_a_directory_is_made_by_its_first_save(tmp_path):
    directory = Directory(tmp_path / "runs" / "first")
    assert directory.latest(LIKE) is None
    assert directory.best(LIKE) is None
    assert os.listdir(tmp_path) == []
    assert directory.save(state_at(12)) == tmp_path / "runs" / "first" / name(12)
    assert int(directory.latest(LIKE).step) == 12


def test_the_last_are_kept_by_the_number_of_their_step(tmp_path):
    directory = Directory(tmp_path, keep_last=2)
    for step in (8, 9, 10, 10**9 - 1, 10**9):
        directory.save(state_at(step))
    assert steps_in(directory) == [10**9 - 1, 10**9]
    assert int(directory.latest(LIKE).step) == 10**9


def test_the_best_are_kept_beside_the_last(tmp_path):
    directory = Directory(tmp_path, keep_last=1, keep_best=2)
    scores = {1: 0.5, 2: math.nan, 3: 0.9, 4: None, 5: 0.7, 6: 0.7, 7: -math.inf, 8: 0.1}
    for step, score in scores.items():
        directory.save(state_at(step), score=score)
    assert steps_in(directory) == [3, 5, 8]  # of equal scores the earlier
    assert int(directory.best(LIKE).step) == 3
    assert int(directory.latest(LIKE).step) == 8
    Directory(tmp_path, keep_last=1, keep_best=0).save(state_at(9))
    assert steps_in(directory) == [9]
    assert directory.best(LIKE) is None


def test_what_was_just_saved_stays_beside_later_steps(tmp_path):
    directory = Directory(tmp_path, keep_last=1)
    directory.save(state_at(300))
    directory.save(state_at(100))
    assert steps_in(directory) == [100, 300]


def test_the_best_that_is_damaged_is_passed_over(tmp_path):
    directory = Directory(tmp_path, keep_best=2)
    for step in (1, 2, 3):
        directory.save(state_at(step), score=step)
    file = tmp_path / name(3)
    file.write_bytes(file.read_bytes()[:-1] + b"\7")
    with pytest.warns(UserWarning, match=name(3)) as warned:
        assert int(directory.best(LIKE).step) == 2
    assert warned[0].filename == __file__
    file.write_bytes(b"")
    directory.save(state_at(4), score=0.0)  # a score that cannot be read is none
    assert int(directory.best(LIKE).step) == 2


def test_every_damaged_file_is_told_of(tmp_path):
    directory = Directory(tmp_path)
    for step in (1, 2, 3):
        directory.save(state_at(step))
    (tmp_path / name(3)).write_bytes(b"")
    (tmp_path / name(2)).write_bytes((tmp_path / name(1)).read_bytes()[:-1])
    with pytest.warns(UserWarning, match="passed over a checkpoint") as warned:
        assert int(directory.latest(LIKE).step) == 1
    assert [name(3) in str(warned[0].message), name(2) in str(warned[1].message)] == [True, True]


def test_a_run_does_not_begin_anew_over_files_that_do_not_load(tmp_path):
    directory = Directory(tmp_path)
    for step in (1, 2):
        directory.save(state_at(step))
    other = lf.TrainState((), (), lf.Key(0), torch.tensor(0))
    with pytest.raises(CheckpointError) as caught:
        directory.latest(other)
    lines = str(caught.value).splitlines()
    problem = "does not fit what it is to be loaded as"
    assert lines[0] == f"{tmp_path}: no checkpoint can be loaded"
    assert lines[1::2] == [f"{tmp_path / name(step)}: {problem}" for step in (2, 1)]
    assert lines[2::2] == ["  unexpected params.0 float32[2]"] * 2


def test_leftovers_are_ignored_and_removed_by_the_next_save(tmp_path):
    directory = Directory(tmp_path)
    directory.save(state_at(1))
    leftover = tmp_path / f".{name(2)}.0123abcd.tmp"
    leftover.write_bytes(b"half")
    for other in ("notes.txt", "step_3.txt", f".{name(4)}.swp"):
        (tmp_path / other).touch()
    assert int(directory.latest(LIKE).step) == 1
    assert leftover.exists()
    directory.save(state_at(2))
    expected = {name(1), name(2), "notes.txt", "step_3.txt", f".{name(4)}.swp"}
    assert set(os.listdir(tmp_path)) == expected


def test_a_leftover_is_what_a_killed_save_leaves(tmp_path, monkeypatch):
    names = []
    monkeypatch.setattr(type(tmp_path), "replace", lambda self, target: names.append(self.name))
    monkeypatch.setattr(type(tmp_path), "unlink", lambda self, missing_ok: None)
    directory = Directory(tmp_path)
    directory.save(state_at(1))
    assert os.listdir(tmp_path) == names
    monkeypatch.undo()
    assert directory.latest(LIKE) is None
    directory.save(state_at(1))
    assert os.listdir(tmp_path) == [name(1)]


def test_every_saves_each_k_steps_and_the_last(tmp_path):
    directory = Directory(tmp_path, keep_last=9)
    seen = []
    for state, record in every(stream(10), directory, steps=4):
        seen.append(record.step)
        assert int(state.step) == record.step
        assert steps_in(directory) == [s for s in (4, 8) if s <= record.step]
    assert seen == list(range(1, 11))
    assert steps_in(directory) == [4, 8, 10]


def test_every_does_not_save_the_last_twice(tmp_path, monkeypatch):
    saved = []
    monkeypatch.setattr(Directory, "save", lambda self, state, score: saved.append(int(state.step)))
    assert len(list(every(stream(8), Directory(tmp_path), steps=4))) == 8
    assert list(every([], Directory(tmp_path), steps=4)) == []
    assert saved == [4, 8]


def test_every_saves_nothing_more_when_the_caller_stops(tmp_path):
    directory = Directory(tmp_path)
    for _, record in every(stream(10), directory, steps=4):
        if record.step == 6:
            break
    assert steps_in(directory) == [4]


def test_every_saves_by_the_clock(tmp_path, monkeypatch):
    ticks = iter([0.0, 3.0, 6.0, 11.0, 12.0, 13.0, 22.0, 22.5, 23.0, 24.0])
    monkeypatch.setattr("lincoln_fn.checkpoint.directory.time.monotonic", lambda: next(ticks))
    directory = Directory(tmp_path, keep_last=9)
    list(every(stream(7), directory, seconds=10))
    # Step 3 ends 11 s after the start, and its save at 12; step 5 ends 10 s after that.
    assert steps_in(directory) == [3, 5, 7]


def test_every_keeps_the_best_by_a_score(tmp_path):
    directory = Directory(tmp_path, keep_last=1)
    list(every(stream(9), directory, steps=2, score=lambda state: -abs(int(state.step) - 4)))
    assert steps_in(directory) == [4, 9]
    assert int(directory.best(LIKE).step) == 4


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Directory("x", keep_last=0), "Directory: expected keep_last of at least 1, got 0"),
        (
            lambda: Directory("x", keep_best=-1),
            "Directory: expected keep_best of at least 0, got -1",
        ),
        (lambda: every([], Directory("x")), "every: expected steps or seconds, got neither"),
        (lambda: every([], Directory("x"), steps=0), "every: expected steps above 0, got 0"),
        (
            lambda: every([], Directory("x"), steps=1, seconds=-1.0),
            "every: expected seconds above 0, got -1.0",
        ),
    ],
)
def test_wrong_numbers_are_refused(call, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011  # the whole text is compared
        call()
    assert str(caught.value) == message
