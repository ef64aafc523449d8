"""Files are graded from their sources alone: compiled code beside them does not run."""

import importlib.util
import py_compile
from importlib.machinery import EXTENSION_SUFFIXES

import pytest

import lincoln_fn as lf
from lincoln_fn.grading.courses import course
from lincoln_fn.grading.courses.graded import grade_file

# JAX, which the tests of the benchmarks import, warns of every fork from then on.
pytestmark = pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")

RIGHT = """
import numpy as np
def relu_forward(x): return np.maximum(x, 0), x
def relu_backward(dout, cache): return dout * (cache > 0)
"""
WRONG = RIGHT.replace("dout * (cache > 0)", "dout")


def plant(source, compiled, tmp_path):
    """Write compiled code where Python looks for that of a source, and takes it unseen."""
    other = tmp_path / "other"
    other.write_text(RIGHT)
    unchecked = py_compile.PycInvalidationMode.UNCHECKED_HASH
    py_compile.compile(str(other), str(compiled), str(source), True, invalidation_mode=unchecked)


def points(path):
    return [row.points for row in grade_file(path, course.read("cs231n"), 10.0) if row.exercise]


@pytest.mark.parametrize("is_package", [False, True])
@pytest.mark.parametrize("name", ["layers", "helper"])
def test_compiled_code_does_not_run_in_place_of_a_source(is_package, name, tmp_path):
    folder = tmp_path / "handed_in"
    folder.mkdir()
    if is_package:
        (folder / "__init__.py").touch()
    helped = "from helper import *" if not is_package else "from .helper import *"
    (folder / "layers.py").write_text(WRONG if name == "layers" else helped)
    (folder / f"{name}.py").write_text(WRONG)
    compiled = importlib.util.cache_from_source(str(folder / f"{name}.py"))
    plant(folder / f"{name}.py", compiled, tmp_path)
    assert points(folder / "layers.py") == [0]


@pytest.mark.parametrize("suffix", [".pyc", EXTENSION_SUFFIXES[0]])
def test_compiled_code_without_a_source_is_not_found(suffix, tmp_path):
    folder = tmp_path / "handed_in"
    folder.mkdir()
    (folder / "layers.py").write_text(RIGHT + "import helper\nhelper.x")
    plant(folder / "helper.py", folder / f"helper{suffix}", tmp_path)
    (row,) = grade_file(folder / "layers.py", course.read("cs231n"), 10.0)
    assert row.said == "raises ModuleNotFoundError: No module named 'helper'"


def test_a_file_that_grade_loads_runs_from_its_source(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("def forward(params, x): return x.tanh(), x\ndef backward(params, x, g): 1 / 0")
    compiled = importlib.util.cache_from_source(str(path))
    (tmp_path / "other").write_text("def forward(params, x): 1 / 0\n")
    py_compile.compile(
        str(tmp_path / "other"), compiled, str(path), True,
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )  # fmt: skip
    cases = lf.testing.make_cases(lf.tanh(), lf.keys.normal(lf.Key(0), (3, 2)), count=1)
    graded = lf.testing.grade(path, lf.tanh(), cases)
    assert graded.problems == ("backward raised ZeroDivisionError: division by zero",)
    assert list(path.parent.glob("__pycache__/*")) == [
        tmp_path / "__pycache__" / compiled.rpartition("/")[2]
    ]
