"""A process that runs a stranger's code may answer anything: the grading goes on."""

import json
import multiprocessing
import os
import sys
import threading
from types import SimpleNamespace

import pytest
from helpers import assert_says

import lincoln_fn as lf
from lincoln_fn.grading import isolated
from lincoln_fn.grading.courses import course
from lincoln_fn.grading.courses.graded import grade_file
from lincoln_fn.grading.isolated import Ran, decoded, encoded
from lincoln_fn.testing.diagnosis import Finding, Report

FINDING = Finding("1.0", "mine()", "dx", "wrong", "sign", "a sentence", (0, 2), 0.5, ((1,), ()))
REPORT = Report("mine()", (FINDING, Finding("", "tanh()", "dx", "right")), ("a remark",))


def test_an_honest_answer_arrives():
    answer = encoded((REPORT, "", "printed", 7))
    assert decoded(tuple[Report | None, str, str, int], answer) == (REPORT, "", "printed", 7)


def forged(**changes):
    finding = json.loads(encoded(FINDING)) | changes
    return {"name": "mine()", "findings": [finding], "remarks": []}


FORGED = {
    "a number": 5,
    "a list of lists": [[], [[]]],
    "no record": {},
    "a further field": {**forged(), "points": 100},
    "a number for a text": forged(sentence=3),
    "a verdict of one's own": forged(verdict="best"),
    "a text for a number": forged(error="0"),
    "a bool for a number": forged(error=True),
    "a place that is no number": forged(place=["0"]),
    "a negative place": forged(place=[-1]),
    "a large place": forged(place=[1 << 70]),
    "a record in place of a list": {**forged(), "remarks": {"0": "1"}},
}


@pytest.mark.parametrize("name", FORGED)
def test_an_answer_of_another_structure_is_refused(name):
    decoded(Report, json.dumps(forged()).encode())
    assert_says("ValueError: ^expected", decoded, Report, json.dumps(FORGED[name]).encode())


@pytest.mark.parametrize("text", [b"", b"[", b"\xff", b"1" * 5000, b"[" * 99_999, b"null"])
def test_what_is_no_answer_is_refused(text):
    with pytest.raises((ValueError, RecursionError)):
        decoded(tuple[Report, ...], text)


def test_a_text_is_one_line_of_printable_characters():
    read = decoded(tuple[str, ...], encoded(("a\n\tb\x1b[2J\udc80\u202e", "é, 中")))
    assert read == (r"a b\x1b[2J\udc80\u202e", "é, 中")
    assert len(decoded(str, encoded("x" * 10**6))) == 10_000


RELU = """
import gc, json, os, threading
from multiprocessing.connection import Connection
from lincoln_fn.grading.isolated import Ran
import numpy as np

pipe = next(p for p in gc.get_objects() if isinstance(p, Connection) and p.writable)

def relu_forward(x): return np.maximum(x, 0), x
def relu_backward(dout, cache):
    {act}
    return dout * (cache > 0)
"""
SAYS = "writes into the pipe of the grading"
ACTS = (
    "pipe.send(Ran(result=5))",
    "pipe.send_bytes(json.dumps([None, '', '', 0]).encode())",
    # Two reports of three cases.
    "pipe.send_bytes(json.dumps([[{'name': '', 'findings': [], 'remarks': []}] * 3, "
    "'', '', 0]).encode())",
)


@pytest.mark.skipif(sys.platform != "linux", reason="Linux enforces it")
@pytest.mark.parametrize("act", [pytest.param(act, marks=pytest.mark.full) for act in ACTS])
def test_a_forged_answer_costs_its_own_exercise_alone(act, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(RELU.format(act=act))
    rows = grade_file(path, course.read("cs231n"), 10.0)
    told = [(row.gradient, row.points, row.said) for row in rows if row.exercise]
    assert told == [("dx", 0, SAYS)]


@pytest.mark.skipif(sys.platform != "linux", reason="of its pipes")
def test_a_process_that_sends_a_part_or_closes_its_pipe_is_ended():
    receiver, sender = multiprocessing.Pipe(duplex=False)
    os.write(sender.fileno(), bytes([0, 0, 0, 9, 1]))  # of nine bytes one
    process = SimpleNamespace(pid=None, kill=sender.close)
    assert isolated._received(receiver, process, Report, 0.01, None) == Ran(problem=SAYS)
    ended = threading.Event()
    process = SimpleNamespace(pid=None, kill=ended.set, join=ended.wait, exitcode=-9)
    ran = isolated._received(receiver, process, Report, 0.01, None)
    assert ran == Ran(problem="crashes (signal 9)")
    receiver.close()


def test_a_forged_answer_to_grade_is_refused():
    def backward(params, y, g):
        import gc
        from multiprocessing.connection import Connection

        pipes = (p for p in gc.get_objects() if isinstance(p, Connection) and p.writable)
        next(pipes).send(Ran(result=5))
        return g * (1 - y**2), ()

    cases = lf.testing.make_cases(lf.tanh(), lf.keys.normal(lf.Key(0), (3, 2)), count=1)
    graded = lf.testing.grade(lf.tanh().replace(backward=backward), lf.tanh(), cases)
    assert (graded.points, graded.problems) == (0, (SAYS,))
