"""A directory of checkpoints keeps the last and the best, and survives what a crash leaves."""

import math
import os

import numpy as np
import pytest
import torch
from helpers.checkpoints import name, refused, state_at
from helpers.refusals import refusals
from safetensors.torch import save_file

import lincoln_fn as lf
from lincoln_fn.checkpoint import CheckpointError, Directory, every

LIKE = state_at(0)
D = Directory("x")


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
    scores = {1: 0.5, 2: -0.1, 3: 0.9, 4: None, 5: 0.7, 6: 0.7, 7: -1e9, 8: 0.1}
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
    for load in (directory.best, directory.latest):
        with pytest.warns(UserWarning, match=name(3)) as warned:
            assert int(load(LIKE).step) == 2
        assert warned[0].filename == __file__
    file.write_bytes(b"")
    directory.save(state_at(4), score=0.0)  # a score that cannot be read is none
    assert int(directory.best(LIKE).step) == 2


def test_a_run_does_not_begin_anew_over_files_that_do_not_load(tmp_path):
    directory = Directory(tmp_path)
    for step in (1, 2):
        directory.save(state_at(step))
    other = lf.TrainState((), (), lf.Key(0), torch.tensor(0))
    lines = str(refused(directory.latest, other)).splitlines()
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


@pytest.mark.parametrize(
    ("last", "stop", "expected"), [(10, None, [4, 8, 10]), (8, None, [4, 8]), (10, 6, [4])]
)
def test_every_saves_each_k_steps_and_the_last(last, stop, expected, tmp_path, monkeypatch):
    saved, seen = [], []
    monkeypatch.setattr(Directory, "save", lambda self, state, score: saved.append(int(state.step)))
    for state, record in every(stream(last), Directory(tmp_path), steps=4):
        seen.append(record.step)
        assert int(state.step) == record.step
        assert saved == [s for s in (4, 8) if s <= record.step]
        if record.step == stop:
            break
    assert seen == list(range(1, (stop or last) + 1))
    assert saved == expected
    assert list(every([], Directory(tmp_path), steps=4)) == []
    assert saved == expected


def test_every_closes_its_stream(tmp_path):
    closed = []

    def steps():
        try:
            yield from stream(5)
        finally:
            closed.append(True)

    given = steps()
    saved = every(given, Directory(tmp_path), steps=1)
    next(saved)
    saved.close()
    assert closed == [True]


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


def foreign(path, metadata=None):
    save_file({"embedding": torch.ones(3)}, path, metadata)


FOREIGN = {
    "of another library": foreign,
    "empty": lambda path: path.touch(),
    "of a later version": lambda path: foreign(path, {"lincoln_fn": '{"version": 2}'}),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_what_is_not_its_own_is_not_removed_and_does_not_count(kind, tmp_path):
    directory = Directory(tmp_path, keep_last=2)
    others = [name(1), name(900), "step_3.safetensors"]
    for other in others:
        FOREIGN[kind](tmp_path / other)
    before = {other: (tmp_path / other).read_bytes() for other in others}
    for step in (5, 6, 7):
        directory.save(state_at(step), score=-step)
    assert set(os.listdir(tmp_path)) == {*others, *map(name, (5, 6, 7))}  # of score and of step
    directory.save(state_at(8), score=-8)
    assert set(os.listdir(tmp_path)) == {*others, *map(name, (5, 7, 8))}
    assert {other: (tmp_path / other).read_bytes() for other in others} == before


@pytest.mark.parametrize("kind", FOREIGN)
def test_what_has_the_name_of_the_step_is_renamed(kind, tmp_path):
    directory, file = Directory(tmp_path), tmp_path / name(7)
    FOREIGN[kind](file)
    before = file.read_bytes()
    with pytest.warns(
        UserWarning, match=rf"renamed to {name(7)}\.\w+\.aside, .+ {file}: "
    ) as warned:
        directory.save(state_at(7))
    assert warned[0].filename == __file__
    assert int(directory.latest(LIKE).step) == 7
    aside = [other for other in tmp_path.iterdir() if other != file]
    assert [other.read_bytes() for other in aside] == [before]
    directory.save(state_at(7))  # over one of its own, as when a run is taken up
    assert sorted(tmp_path.iterdir()) == sorted([file, *aside])


def test_a_copy_under_another_name_is_loaded_and_not_removed(tmp_path):
    directory = Directory(tmp_path, keep_last=1)
    directory.save(state_at(5), score=0.9)
    copy = tmp_path / "step_5.safetensors"
    copy.write_bytes((tmp_path / name(5)).read_bytes())
    (tmp_path / name(5)).unlink()
    directory.save(state_at(6), score=0.5)
    directory.save(state_at(7), score=0.4)
    assert set(os.listdir(tmp_path)) == {copy.name, name(6), name(7)}
    assert int(directory.best(LIKE).step) == 5


NO_SCORES = [
    math.nan, math.inf, -math.inf, "0.9", b"1", [0.9], torch.ones(2), torch.tensor(math.nan),
    10**400, 1j, object,
]  # fmt: skip


@pytest.mark.parametrize("score", NO_SCORES, ids=repr)
def test_a_score_that_is_no_finite_number_is_refused(score, tmp_path):
    directory, file = Directory(tmp_path), tmp_path / name(1)
    problem = f"{file}: expected a score that is a finite number, got {score!r}"
    for save in (directory.save, lambda state, score: lf.checkpoint.save(file, state, score=score)):
        assert str(refused(save, state_at(1), score=score)) == problem
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("score", [1, 0.5, np.float32(0.5), torch.tensor(2.0), torch.ones(1), True])
def test_a_score_may_be_any_number(score, tmp_path):
    file = Directory(tmp_path).save(state_at(1), score=score)
    assert lf.checkpoint.file.score_of(file) == float(score)


@pytest.mark.parametrize("score", NO_SCORES, ids=repr)
def test_every_goes_on_without_a_score_that_is_none(score, tmp_path):
    directory = Directory(tmp_path, keep_last=9)
    scores = iter([0.5, score, 0.25])
    with pytest.warns(UserWarning, match="step 2 is saved without its score") as warned:
        list(every(stream(3), directory, steps=1, score=lambda _: next(scores)))
    assert len(warned) == 1
    assert steps_in(directory) == [1, 2, 3]
    assert int(directory.best(LIKE).step) == 1


NO_STATES = {
    "a step of -1": (torch.tensor(-1), r"step tensor\(-1\)"),
    "a step of 1.5": (torch.tensor(1.5), r"step tensor\(1\.5"),
    "a step of nan": (torch.tensor(math.nan), "step tensor"),
    "a step of True": (torch.tensor(True), "step tensor"),
    "two steps": (torch.tensor([1, 2]), r"step tensor\(\[1, 2\]\)"),
    "no step": (None, "TrainState"),
    "a text": ("7", "step '7'"),
    "a large step": (2**63, "step 9223372036854775808"),
    "a step on meta": (torch.tensor(1, device="meta"), "step tensor"),
}  # fmt: skip


@pytest.mark.parametrize(("step", "words"), NO_STATES.values(), ids=NO_STATES)
def test_a_step_that_is_none_is_refused(step, words, tmp_path):
    state = lf.TrainState((), (), lf.Key(0), step)
    problem = f"expected a state with a step of at least 0, got {words}"
    with pytest.raises(CheckpointError, match=problem):
        Directory(tmp_path).save(state)
    assert os.listdir(tmp_path) == []


def test_parameters_are_no_state(tmp_path):
    refusal = refused(lambda: Directory(tmp_path).save({"weight": torch.ones(1)}))
    assert refusal.problem == "expected a state with a step of at least 0, got dict"


def saving(stream=(), directory=D, **options):
    return list(every(stream, directory, **{"steps": 1, **options}))


test_wrong_arguments_are_refused = refusals("""
Directory('x', keep_last=0) -> ^Directory: expected keep_last of at least 1, got 0$
Directory('x', keep_last=1.5) -> ^Directory: expected keep_last to be an int of at least 1, got 1.5$
Directory('x', keep_best=-1) -> ^Directory: expected keep_best of at least 0, got -1$
Directory(None) -> ValueError: ^Directory: expected the path of a folder, got None$
Directory('a\\0b') -> ValueError: ^Directory: expected the path of a folder, got 'a\\x00b'$
every([], D) -> ValueError: ^every: expected steps or seconds, got neither$
every([], D, steps=0) -> ^every: expected steps of at least 1 or None, got 0$
every([], D, steps=1, seconds=-1.0) -> ^every: expected seconds above 0 or None, got -1.0$
every([], 'x', steps=1) -> ^every: expected directory to be a Directory, got 'x'; the order is
    every(stream, directory)$
every([], D, steps=1, score='loss') -> ^every: expected score to be a function or None, got 'loss'$
saving(None) -> ^every: expected stream to be what train gives, got None$
saving([(1, 2)]) -> ^every: expected stream to give (state, record), as train does, got (1, 2)$
""")
