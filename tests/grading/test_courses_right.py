"""Right files have full points, however they are written; blank ones are said to be.

They are graded from their sources alone: compiled code beside them does not run.
"""

import csv
import importlib.util
import io
import os
import py_compile
import sys
from importlib.machinery import EXTENSION_SUFFIXES

import pytest

import lincoln_fn as lf
from lincoln_fn.grading.courses import course
from lincoln_fn.grading.courses.graded import grade_file, main

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
HALVED = LOSS.replace("dx / len(y)", "dx").replace("    return", "    dx = dx / 2\n    return")
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


NEG = """
class Context: pass
class Neg:
    forward = staticmethod(lambda c, a: -a)
    backward = staticmethod(lambda c, d: -d)
"""
VALUE = """
class Value:
    def __init__(self, data): self.data = data
    def relu(self): pass
"""
NUMPI = "import numpi as npi, no.such.thing\nfrom numpi import array\nfrom numpi import *\n"
RIGHT, NOT_WRITTEN = ("dx", 1, "", ""), ("dx", 0, "not written", "is not written")
IN_PLACE = ("", 0, "in place", "forward changed x in place")
# A text, what its exercises have, and its course and its file where they are others.
WRITTEN = {
    "a function has the name of a table's cache":
        (f"from functools import cache\n{RELU}", [("relu", *RIGHT)]),
    "a number has the name of a table's array":
        (f"{RELU}\ndx, x, out = 1, 2, 3\n{LOSS}", [("relu", *RIGHT), ("softmax_loss", *RIGHT)]),
    "a module that is missing, and not used": (f"{NUMPI}{RELU}", [("relu", *RIGHT)]),
    "a file has the name of a stand-in": (NEG, [("neg", *RIGHT)], "minitorch", "numba.py"),
    "a forward of an object changes x in place, and its gradient counts":
        (OBJECT, [("Sigmoid", *RIGHT), ("Sigmoid", *IN_PLACE)], "deep_learning_from_scratch"),
    "a forward is blank":
        (RELU.replace("return np.maximum(x, 0), x", "pass"), [("relu", *NOT_WRITTEN)]),
    "a forward returns None":
        (RELU.replace("np.maximum(x, 0), x", "None, x"), [("relu", *NOT_WRITTEN)]),
    "a line of a loss that returns its gradient is wrong":
        (f"import numpy as np{HALVED}", [("softmax_loss", "dx", 0, "factor",
            "dx is 3 times too large (line 7)")]),
    "an object's method returns None": (VALUE, [("relu", *NOT_WRITTEN)], "micrograd"),
}  # fmt: skip


@pytest.mark.full(but=("[a number has the name", "[a forward is blank]", "[an object's method"))
@pytest.mark.parametrize("name", WRITTEN)
def test_an_exercise_is_graded_however_it_is_written(name, tmp_path):
    text, expected, *where = WRITTEN[name]
    exercises = {row[0] for row in expected}
    assert [row for row in graded(tmp_path, text, *where) if row[0] in exercises] == expected


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it crashes in another way")
def test_an_exercise_that_crashes_costs_no_other_its_points(tmp_path):
    crashes = RELU.replace("return dout", "import os; os.abort(); return dout")
    rows = graded(tmp_path, f"{crashes}{LOSS}")
    found = {row[0]: (row[2], row[4]) for row in rows if row[1]}
    assert found == {"relu": (0, "crashes (signal 6)"), "softmax_loss": (1, "")}


DOUBLED = """
def times(n): return n
def affine_forward(x, w, b): return x.reshape(len(x), -1) @ w + b, (x, w, b)
def affine_backward(dout, cache):
    x, w, b = cache
    dw = np.multiply(times(2), x.reshape(len(x), -1).T @ dout)
    return (dout @ w.T).reshape(x.shape), dw, dout.sum(0)
"""
CHANGES = {
    "its own file": "globals()['times'] = lambda n: 1",
    "numpy": "np.multiply = lambda n, a: a",
    "the check": """
    from lincoln_fn.grading.courses import graded
    if not hasattr(graded, "kept"):
        graded.kept = graded.checked
        graded.checked = lambda layer, p, x, o: graded.kept(o.reference, p, x, o)""",
    "what it writes": "open('times', 'a')",
}


@pytest.mark.full(but=("[its own file]",))
@pytest.mark.parametrize("change", CHANGES)
def test_an_exercise_gives_no_other_points_and_takes_none(change, tmp_path):
    changing = RELU.replace("return dout", f"{CHANGES[change]}\n    return dout")
    changing = changing.replace("cache): ", "cache):\n    ")
    wrong = DOUBLED.replace("return n", "return 1 if __import__('os').path.exists('times') else n")
    rows = graded(tmp_path, f"{changing}{wrong}{LOSS}")
    found = {row[:2]: row[2] for row in rows if row[1] and row[0] != "relu"}
    right = {("affine", "dx"): 1, ("affine", "db"): 1, ("softmax_loss", "dx"): 1}
    assert found == {**right, ("affine", "dw"): 0}


@pytest.mark.full
def test_a_module_that_is_missing_is_told_where_it_is_used(tmp_path):
    (row,) = (row for row in graded(tmp_path, RELU.replace("numpy", "numpi")) if row[1])
    assert row[:3] == ("relu", "dx", 0)
    rows = graded(tmp_path, "from numpi import relu_forward as f, plot\nplot(3)")
    assert rows[0][3:] == ("does not load", "raises ModuleNotFoundError: No module named 'numpi'")


@pytest.mark.full
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
    main(["cs231n", "ada", "bob", "--csv"])
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    shown = ["ada/layers.py", "bob/layers.py", r"bob/x\n=y\x1b[2J.py", r"bob/\udcff.py"]
    assert [row["file"] for row in rows] == shown
    main(["cs231n", "ada", "bob"])
    assert capsys.readouterr().out.splitlines() == [f"{name}: 1 of 1" for name in shown]


def test_a_file_that_cannot_be_graded_ends_no_other_ones_grading(tmp_path, capsys, monkeypatch):
    def fails(path, *rest):
        if path.name == "a.py":
            raise OSError("no such\ndisk")
        return grade_file(path, *rest)

    monkeypatch.setattr("lincoln_fn.grading.courses.graded.grade_file", fails)
    for name in "ab":
        (tmp_path / f"{name}.py").write_text(RELU)
    main(["cs231n", str(tmp_path)])
    said = ["a.py: 0 of 0", "  file: is not graded: no such disk", "b.py: 1 of 1"]
    assert capsys.readouterr().out.splitlines() == said


WRONG = RELU.replace("dout * (cache > 0)", "dout")


def plant(source, tmp_path, text=RELU, compiled=None):
    """Write compiled code where Python looks for that of a source, and takes it unseen."""
    compiled = compiled or importlib.util.cache_from_source(str(source))
    (tmp_path / "other").write_text(text)
    unchecked = py_compile.PycInvalidationMode.UNCHECKED_HASH
    other, compiled = str(tmp_path / "other"), str(compiled)
    py_compile.compile(other, compiled, str(source), True, invalidation_mode=unchecked)
    return compiled


@pytest.mark.full(but=("[helper-True]",))
@pytest.mark.parametrize("is_package", [False, True])
@pytest.mark.parametrize("name", ["layers", "helper"])
def test_compiled_code_does_not_run_in_place_of_a_source(is_package, name, tmp_path):
    folder = tmp_path / "handed_in"
    folder.mkdir()
    if is_package:
        (folder / "__init__.py").touch()
    helped = "from helper import *" if not is_package else "from .helper import *"
    (folder / f"{name}.py").write_text(WRONG)
    plant(folder / f"{name}.py", tmp_path)
    rows = graded(folder, WRONG if name == "layers" else helped, name="layers.py")
    assert [row[2] for row in rows if row[0]] == [0]


@pytest.mark.parametrize("suffix", [".pyc", EXTENSION_SUFFIXES[0]])
def test_compiled_code_without_a_source_is_not_found(suffix, tmp_path):
    folder = tmp_path / "handed_in"
    folder.mkdir()
    plant(folder / "helper.py", tmp_path, compiled=folder / f"helper{suffix}")
    (row,) = graded(folder, f"{RELU}import helper\nhelper.x")
    assert row[4] == "raises ModuleNotFoundError: No module named 'helper'"


def test_a_file_that_grade_loads_runs_from_its_source(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("def forward(params, x): return x.tanh(), x\ndef backward(params, x, g): 1 / 0")
    compiled = plant(path, tmp_path, "def forward(params, x): 1 / 0\n")
    cases = lf.testing.make_cases(lf.tanh(), lf.keys.normal(lf.Key(0), (3, 2)), count=1)
    graded = lf.testing.grade(path, lf.tanh(), cases)
    assert graded.problems == ("backward raised ZeroDivisionError: division by zero",)
    assert list(path.parent.glob("__pycache__/*")) == [
        tmp_path / "__pycache__" / compiled.rpartition("/")[2]
    ]
