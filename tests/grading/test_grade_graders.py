"""One assignment through nbgrader and through otter-grader: right, half right and hanging."""

import csv
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import lincoln_fn
from lincoln_fn.grading.assignment import files, write

pytestmark = pytest.mark.full

RIGHT = """
    x_rows, g_rows = x.flatten(0, -2), g.flatten(0, -2)
    return g @ params.weight.mT, Params(x_rows.mT @ g_rows, g_rows.sum(0))
"""
# dx is right. dW lacks its factor x, and db is averaged.
HALF = """
    return g @ params.weight.mT, Params(0 * params.weight, g.flatten(0, -2).mean(0))
"""
HANGING = """
    while True:
        pass
"""
SUBMISSIONS = {"right": (RIGHT, 3), "half": (HALF, 1), "hanging": (HANGING, 0)}


def needs(package):
    is_there = importlib.util.find_spec(package) is not None
    return pytest.mark.skipif(not is_there, reason=f"{package} is not installed")


def run(folder, *command):
    """Run a program that lies beside Python."""
    beside = Path(sys.executable).parent
    source = str(Path(lincoln_fn.__file__).parent.parent)
    path = os.pathsep.join([str(beside), os.environ["PATH"]])
    ran = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PATH": path, "PYTHONPATH": source, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-3000:] + ran.stdout[-3000:]
    return ran.stdout


@pytest.fixture(scope="module")
def assignment(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dense")
    write(folder, files("dense"))
    return folder


def handed_in(notebook, body):
    """Write a student's functions into a notebook; the others return what `backward` computes."""
    bodies = {
        "backward": body,
        "input_grad": "\n    return backward(params, x, g)[0]\n",
        "grads": "\n    return backward(params, x, g)[1]\n",
    }
    made = json.loads(notebook.read_text())
    filled = set()
    for cell in made["cells"]:
        source = "".join(cell["source"])
        for name, lines in bodies.items():
            if source.startswith(f"def {name}("):
                head = source.partition("# YOUR CODE HERE")[0].rstrip()
                cell["source"] = head + lines.rstrip()
                filled.add(name)
    assert filled == set(bodies)
    return json.dumps(made)


def in_short_time(path):
    path.write_text(path.read_text().replace("time_limit=5", "time_limit=2"))


@needs("nbgrader")
def test_nbgrader_gives_the_marks(assignment, tmp_path):
    source = tmp_path / "source" / "dense" / "dense.ipynb"
    source.parent.mkdir(parents=True)
    source.write_text((assignment / "nbgrader" / "dense.ipynb").read_text())
    in_short_time(source)
    (tmp_path / "nbgrader_config.py").write_text(
        'c = get_config()\nc.CourseDirectory.course_id = "course"\n'
    )
    run(tmp_path, "nbgrader", "generate_assignment", "dense")
    release = tmp_path / "release" / "dense" / "dense.ipynb"
    assert "SOLUTION" not in release.read_text()
    for student, (body, _) in SUBMISSIONS.items():
        submitted = tmp_path / "submitted" / student / "dense" / "dense.ipynb"
        submitted.parent.mkdir(parents=True)
        submitted.write_text(handed_in(release, body))
    run(tmp_path, "nbgrader", "autograde", "dense")
    run(tmp_path, "nbgrader", "export", "--to", "grades.csv")
    with open(tmp_path / "grades.csv") as file:
        scores = {row["student_id"]: float(row["score"]) for row in csv.DictReader(file)}
    assert scores == {student: points for student, (_, points) in SUBMISSIONS.items()}


@needs("otter")
def test_otter_gives_the_marks(assignment, tmp_path):
    (tmp_path / "tests").mkdir()
    test_file = tmp_path / "tests" / "dense.py"
    test_file.write_text((assignment / "otter" / "tests" / "dense.py").read_text())
    in_short_time(test_file)
    run(tmp_path, "otter", "generate", "-t", "tests", "-o", "autograder.zip", "--no-environment")
    scores = {}
    for student, (body, _) in SUBMISSIONS.items():
        notebook = tmp_path / student / "dense.ipynb"
        notebook.parent.mkdir()
        notebook.write_text(handed_in(assignment / "otter" / "dense.ipynb", body))
        run(tmp_path, "otter", "run", "-a", "autograder.zip", "-o", student, str(notebook))
        results = json.loads((notebook.parent / "results.json").read_text())
        scores[student] = sum(test.get("score", 0) for test in results["tests"])
    assert scores == {student: points for student, (_, points) in SUBMISSIONS.items()}
