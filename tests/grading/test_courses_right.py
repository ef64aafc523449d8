"""Right files of a course have full points, however they are written; blank ones are said to be."""

import csv
import io
import os
import sys

import pytest

from lincoln_fn.grading.courses import command, course
from lincoln_fn.grading.courses.graded import grade_file

# JAX, which the tests of the benchmarks import, warns of every fork from then on.
pytestmark = pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")

RELU = """
import numpy as np
def relu_forward(x): return np.maximum(x, 0), x
def relu_backward(dout, cache): return dout * (cache > 0)
"""
LOSS = """
def softmax_loss(x, y):
    e = np.exp(x - x.max(1, keepdims=True))
    p, rows = e / e.sum(1, keepdims=True), np.arange(len(y))
    dx = p.copy()
    dx[rows, y] -= 1
    return -np.log(p[rows, y]).mean(), dx / len(y)
"""
OBJECT = """
import numpy as np
class Sigmoid:
    def forward(self, x):
        np.exp(-x, out=x)
        self.out = 1 / (1 + x)
        return self.out
    def backward(self, dout):
        return dout * self.out * (1 - self.out)
"""


def graded(folder, text, of="cs231n", name="mine.py"):
    path = folder / name
    path.write_text(text)
    rows = grade_file(path, course.read(of), 10.0)
    return [(row.exercise, row.gradient, row.points, row.mistake, row.said) for row in rows]


RIGHT = {
    "a function has the name of a table's cache": f"from functools import cache\n{RELU}",
    "a number has the name of a table's array": f"{RELU}\ndx, x, out = 1, 2, 3\n{LOSS}",
    "a module that is missing, and not used": (
        f"import numpi as npi, no.such.thing\nfrom numpi import array\nfrom numpi import *\n{RELU}"
    ),
}


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_exercise_has_full_points(name, tmp_path):
    rows = [row for row in graded(tmp_path, RIGHT[name]) if row[0]]
    right = [(exercise, "dx", 1, "", "") for exercise in ("relu", "softmax_loss")]
    assert rows == right[: len(rows)]
    assert rows


def test_a_module_that_is_missing_is_told_where_it_is_used(tmp_path):
    (row,) = (row for row in graded(tmp_path, RELU.replace("numpy", "numpi")) if row[1])
    assert row[:3] == ("relu", "dx", 0)
    rows = graded(tmp_path, "from numpi import relu_forward as f, plot\nplot(3)")
    assert rows[0][3:] == ("does not load", "raises ModuleNotFoundError: No module named 'numpi'")


def test_a_file_that_has_the_name_of_a_stand_in_is_graded(tmp_path):
    text = "class Context: pass\nclass Neg:\n    forward = staticmethod(lambda c, a: -a)\n"
    text += "    backward = staticmethod(lambda c, d: -d)\n"
    rows = graded(tmp_path, text, "minitorch", "numba.py")
    assert [row for row in rows if row[0]] == [("neg", "dx", 1, "", "")]


def test_a_forward_of_an_object_that_changes_x_in_place_is_told_and_its_gradient_counts(tmp_path):
    assert graded(tmp_path, OBJECT, "deep_learning_from_scratch") == [
        ("Sigmoid", "dx", 1, "", ""),
        ("Sigmoid", "", 0, "in place", "forward changed x in place"),
    ]


BLANK = {
    "pass": RELU.replace("return np.maximum(x, 0), x", "pass"),
    "out is None": RELU.replace("np.maximum(x, 0), x", "None, x"),
}


@pytest.mark.parametrize("name", BLANK)
def test_an_exercise_whose_forward_returns_none_is_not_written(name, tmp_path):
    assert graded(tmp_path, BLANK[name]) == [("relu", "dx", 0, "not written", "is not written")]


def test_an_object_whose_method_returns_none_is_not_written(tmp_path):
    text = (
        "class Value:\n    def __init__(self, data): self.data = data\n    def relu(self): pass\n"
    )
    (row,) = (row for row in graded(tmp_path, text, "micrograd") if row[0] == "relu")
    assert row[3:] == ("not written", "is not written")


def test_what_a_file_raises_is_said_in_one_line_without_control_characters(tmp_path):
    told = "raise ValueError('red\\x1b[31m\\r\\nrow,2\\x85')"
    (row,) = graded(tmp_path, told)
    assert row[4] == r"raises ValueError: red\x1b[31m row,2"
    rows = graded(tmp_path, RELU.replace("return dout", f"{told}; return dout"))
    assert rows[0][:3] == ("relu", "dx", 0)
    assert rows[1][4] == r"backward raised ValueError: red\x1b[31m row,2"


@pytest.mark.full
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a name may not be any bytes")
def test_files_of_one_name_are_apart_and_names_are_printed_clean(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = ["ada/layers.py", "bob/layers.py", "bob/x\n=y\x1b[2J.py", os.fsdecode(b"bob/\xff.py")]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(RELU)
    (tmp_path / "bob" / "folder.py").mkdir()
    command.main(["cs231n", "ada", "bob", "--csv"])
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    shown = ["ada/layers.py", "bob/layers.py", r"bob/x\n=y\x1b[2J.py", r"bob/\udcff.py"]
    assert [row["file"] for row in rows] == shown
    command.main(["cs231n", "ada", "bob"])
    assert capsys.readouterr().out.splitlines() == [f"{name}: 1 of 1" for name in shown]


def test_a_file_that_cannot_be_graded_ends_no_other_ones_grading(tmp_path, capsys, monkeypatch):
    def fails(path, *rest):
        if path.name == "a.py":
            raise OSError("no such\ndisk")
        return grade_file(path, *rest)

    monkeypatch.setattr(command, "grade_file", fails)
    for name in "ab":
        (tmp_path / f"{name}.py").write_text(RELU)
    command.main(["cs231n", str(tmp_path)])
    said = ["a.py: 0 of 0", "  file: is not graded: no such disk", "b.py: 1 of 1"]
    assert capsys.readouterr().out.splitlines() == said
