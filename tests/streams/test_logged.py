"""A log holds each step once and whole, however often its run was killed and resumed."""

import csv
import json
import math
import os
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import lincoln_fn as lf
from lincoln_fn.streams import logged

SUFFIXES = (".csv", ".jsonl")


@pytest.fixture(params=SUFFIXES)
def path(request, tmp_path):
    return tmp_path / f"log{request.param}"


def named(step):
    return {"f1": 1 / step} if step % 3 == 0 else {}


def steps_of(first, last, scores=named):
    """Give steps of a run whose numbers are functions of the step."""
    for i in range(first, last + 1):
        yield SimpleNamespace(step=i), lf.StepRecord(i, i / 7, scores=scores(i))


def run(path, last, *, first=1, every=1, scores=named):
    return list(logged(steps_of(first, last, scores), path, every=every))


def read(path):
    """Read a log as users would: a row a step, of numbers by name."""
    text = path.read_text()
    assert text.endswith("\n") or not text
    if path.suffix == ".csv":
        rows = csv.DictReader(text.splitlines())
        return [{name: float(cell) for name, cell in row.items() if cell} for row in rows]

    def refuse(word):
        raise AssertionError(f"strict readers do not know {word}")

    rows = [json.loads(line, parse_constant=refuse) for line in text.splitlines()]
    return [{name: float(value) for name, value in row.items()} for row in rows]


def expected(steps):
    return [{"step": step, "loss": step / 7, **named(step)} for step in steps]


def test_a_csv_file_reads_as_a_table(tmp_path):
    run(tmp_path / "log.csv", 4)
    lines = (tmp_path / "log.csv").read_bytes().decode().split("\n")
    assert lines == [
        "step,loss,f1",
        "1,0.14285714285714285,",
        "2,0.2857142857142857,",
        "3,0.42857142857142855,0.3333333333333333",
        "4,0.5714285714285714,",
        "",
    ]


def test_a_jsonl_file_has_an_object_a_line(tmp_path):
    run(tmp_path / "log.jsonl", 3)
    assert (tmp_path / "log.jsonl").read_bytes().decode().split("\n") == [
        '{"step": 1, "loss": 0.14285714285714285}',
        '{"step": 2, "loss": 0.2857142857142857}',
        '{"step": 3, "loss": 0.42857142857142855, "f1": 0.3333333333333333}',
        "",
    ]


@pytest.mark.parametrize(("every", "steps"), [(1, range(1, 13)), (4, [3, 4, 6, 8, 9, 12])])
def test_multiples_and_scores_are_read_back_bit_for_bit(path, every, steps):
    run(path, 12, every=every)
    assert read(path) == expected(steps)


def test_a_line_is_in_the_file_before_the_step_is_given_on(path):
    steps = ((None, lf.StepRecord(step, step / 7)) for step in range(1, 4))
    for _, record in logged(steps, path):
        assert [row["step"] for row in read(path)] == list(range(1, record.step + 1))


def test_nan_and_infinities_are_numbers_to_strict_readers(path):
    values = [math.nan, math.inf, -math.inf]
    run(path, 3, scores=lambda step: {"f1": values[step - 1]})
    run(path, 4, first=4)  # once more through a resumption
    rows = read(path)
    assert math.isnan(rows[0]["f1"])
    assert [row.get("f1") for row in rows[1:]] == [math.inf, -math.inf, None]


def test_a_name_may_hold_anything(path):
    name = 'F₁, "macro"'
    run(path, 1, scores=lambda step: {name: 0.5})
    run(path, 2, first=2, scores=lambda step: {name: 0.75})
    assert read(path) == [{"step": s, "loss": s / 7, name: (s + 1) / 4} for s in (1, 2)]


def test_a_csv_file_gains_a_column_when_a_score_first_comes(tmp_path):
    path = tmp_path / "log.csv"
    run(path, 4, scores=lambda step: {2: {"a": 0.5}, 4: {"b": 0.25}}.get(step, {}))
    lines = path.read_text().splitlines()
    assert lines[0] == "step,loss,a,b"
    assert [line.split(",")[2:] for line in lines[1:]] == [
        ["", ""], ["0.5", ""], ["", ""], ["", "0.25"]
    ]  # fmt: skip


@pytest.mark.parametrize("suffix", SUFFIXES)
@given(
    runs=st.lists(st.tuples(st.integers(1, 12), st.integers(0, 12)), max_size=4),
    every=st.integers(1, 5),
    torn=st.integers(0, 30),
)
def test_a_log_that_was_resumed_equals_one_that_was_not(
    suffix, runs, every, torn, tmp_path_factory
):
    folder = tmp_path_factory.mktemp("logs")
    whole, resumed = folder / f"whole{suffix}", folder / f"resumed{suffix}"
    run(whole, 12, every=every)
    reached = 0
    for last, back in runs:
        first = max(reached - back, 0) + 1
        run(resumed, max(last, first), first=first, every=every)
        reached = max(last, first)
        if read(resumed):
            with resumed.open("ab") as file:  # what a full disk may leave: a line that is cut off
                file.write(b'{"step": 1000000, "loss": 0.125}'[:torn])
    run(resumed, 12, first=min(reached, 11) + 1, every=every)
    assert resumed.read_bytes() == whole.read_bytes()
    assert sorted(os.listdir(folder)) == sorted([resumed.name, whole.name])


def test_a_new_run_begins_the_file_anew(path):
    other = path.with_stem("other")
    run(path, 9, scores=lambda step: {"old": 0.5})
    run(path, 4)
    run(other, 4)
    assert path.read_bytes() == other.read_bytes()


def test_a_run_without_a_step_leaves_the_file_alone(path, tmp_path):
    path = tmp_path / "deeper" / path.name
    run(path, 0)
    assert list(tmp_path.iterdir()) == []
    run(path, 4)
    before = path.read_bytes()
    run(path, 0)
    assert path.read_bytes() == before


FOREIGN = (
    *("dear diary\n", "name,loss\na,1\n", '{"loss": 0.5}\n', "[1]\n"),
    *("step,loss\n1,2,3\n", "\x00\n", "?"),
)


@pytest.mark.parametrize("text", FOREIGN)
def test_a_file_that_is_no_log_is_left_alone(path, text):
    path.write_text(text)
    message = f"logged: expected {path} to be a log that this function wrote, or no file; "
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        run(path, 3)
    assert path.read_text() == text


def test_in_the_order_of_the_guide_a_step_is_in_the_log_before_it_is_saved(tmp_path, monkeypatch):
    """So a run that is killed at any time, and goes on from its checkpoint, loses no row."""
    guide = (Path(__file__).parents[2] / "docs/guides/watching.md").read_text()
    order = re.findall(r"steps = lf\.(streams\.logged|checkpoint\.every)\(", guide)
    assert order == ["streams.logged", "checkpoint.every"]
    saved, path = [], tmp_path / "log.csv"

    def save(directory, state, score=None):
        saved.append(state.step)
        assert read(path) == expected(range(1, state.step + 1))

    monkeypatch.setattr(lf.checkpoint.Directory, "save", save)
    directory = lf.checkpoint.Directory(tmp_path / "run")
    list(lf.checkpoint.every(logged(steps_of(1, 8), path), directory, steps=2))
    assert saved == [2, 4, 6, 8]
