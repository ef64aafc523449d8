"""Assignments: each file of a layer can be blanked, handed out and graded."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers.compare import same_bits

import lincoln_fn as lf
from lincoln_fn.errors.errors import LayerError
from lincoln_fn.testing.assignment import Options, files, main, write
from lincoln_fn.testing.grading.blanks import backward_pass
from lincoln_fn.testing.grading.isolated import Ran

LAYERS = Path(lf.layers.__path__[0])
NAMES = sorted(path.stem for path in LAYERS.glob("[a-z]*.py"))


@pytest.fixture
def in_this_process(monkeypatch):
    def run(function, arguments, limit):
        try:
            return Ran(function(*arguments, lambda: None))
        except Exception as error:
            return Ran(problem=str(error))

    monkeypatch.setattr(sys.modules["lincoln_fn.testing.grade"], "run_isolated", run)


def defined(text):
    names = {"__name__": "assignment"}
    exec(text, names)
    return names


@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize("name", NAMES)
def test_a_blanked_file_earns_nothing_and_the_file_itself_everything(name, tmp_path):
    made = files(Options(name))
    write(tmp_path, made)
    teacher = defined(made["assignment.py"])
    reference, cases = teacher["reference"], teacher["cases"]
    assert "backward" in teacher["blanks"]
    blank = lf.testing.grade(tmp_path / "student" / f"{name}.py", reference, cases)
    assert (blank.points, blank.problems) == (0, ("backward raised NotImplementedError",))
    assert blank.possible >= 1
    right = lf.testing.grade(LAYERS / f"{name}.py", reference, cases)
    assert (right.points, right.problems, right.remarks) == (right.possible, (), ())
    # nbgrader's source has the solution.
    cells = json.loads(made[f"nbgrader/{name}.ipynb"])["cells"]
    code = [cell["source"] for cell in cells if cell["cell_type"] == "code"]
    solved = tmp_path / f"solved_{name}.py"
    assert all(c.count("BEGIN SOLUTION") == c.count("END SOLUTION") for c in code)
    of_the_layer = [c for c in code if "lf.testing" not in c and not c.startswith("result.")]
    solved.write_text("\n\n\n".join(of_the_layer))
    assert lf.testing.grade(solved, reference, cases).points == right.possible


@pytest.mark.parametrize("name", ["softmax", "multi_head_attention", "alpha_dropout"])
def test_the_notebooks_are_valid(name):
    nbformat = pytest.importorskip("nbformat")
    made = files(Options(name))
    notebooks = [text for path, text in made.items() if path.endswith(".ipynb")]
    assert len(notebooks) == 2
    for text in notebooks:
        nbformat.validate(nbformat.reads(text, 4))
    cells = json.loads(notebooks[0])["cells"]
    points = [c["metadata"].get("nbgrader", {}).get("points", 0) for c in cells]
    assert sum(points) == made[f"otter/tests/{name}.py"].count("points=1)")


def test_checks_of_arguments_and_public_functions_are_not_blanked():
    blanks = {
        "conv": ("backward", "input_grad", "grads", "terms"),
        "dense": ("backward", "input_grad", "grads", "terms"),
        "bilinear": ("backward", "input_grad", "grads", "_p", "_dx", "_dparams", "terms"),
        "lstm": ("backward", "_step_backward"),
        "alpha_dropout": ("backward",),
    }
    for name, functions in blanks.items():
        assert backward_pass((LAYERS / f"{name}.py").read_text()) == functions


def test_the_derivation_stays_or_is_cut_out():
    kept = files(Options("softmax"))["student/softmax.py"]
    assert "Derivation." in kept
    assert '"""Compute dx_k = y_k (g_k - sum_j g_j y_j)."""' in kept
    cut = files(Options("softmax", derivation=False))["student/softmax.py"]
    assert "Derivation." not in cut
    assert "sum_j g_j" not in cut
    assert "Cache: y, and the axis." in cut


def test_the_functions_and_the_case_can_be_chosen():
    options = Options(
        "dense", blank=("grads", "forward"), reference="lf.dense(2)", x="torch.zeros(7, 3)", seed=4
    )
    made = files(options)
    student = made["student/dense.py"]
    assert student.count("raise NotImplementedError()") == 2
    assert "return g @ params.weight.mT, dparams" in student
    teacher = defined(made["assignment.py"])
    assert teacher["blanks"] == ("grads", "forward")
    params, x = teacher["cases"][0]
    assert (params.weight.shape, x.shape) == ((3, 2), (7, 3))
    again = lf.testing.make_cases(lf.dense(2), torch.zeros(7, 3), key=lf.Key(4))
    assert same_bits(x, again[0][1])


REFUSED = {
    "got sofmax; write softmax": Options("sofmax"),
    "such as softmax, got zzz$": Options("zzz"),
    "such as softmax, got os.path$": Options("os.path"),
    "a function to blank, got backwards; write backward": Options("tanh", ("backwards",)),
    "a function to blank, got q; the file has forward, backward, tanh": Options("tanh", ("q",)),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_does_not_exist_is_refused(message):
    with pytest.raises(LayerError, match=message):
        files(REFUSED[message])


def test_nothing_is_overwritten(tmp_path, capsys):
    main(["tanh", "--to", str(tmp_path / "tanh")])
    assert len(capsys.readouterr().out.splitlines()) == 5
    with pytest.raises(SystemExit):
        main(["tanh", "--to", str(tmp_path / "tanh")])
    assert "choose another by --to" in capsys.readouterr().err


def test_a_teacher_makes_an_assignment_and_grades_a_file(tmp_path):
    def run(*arguments):
        ran = subprocess.run(
            [sys.executable, "-W", "error", *arguments],
            cwd=tmp_path, capture_output=True, text=True, check=True,
        )  # fmt: skip
        return ran.stdout

    run("-m", "lincoln_fn.testing.assignment", "softmax", "--no-derivation")
    student = tmp_path / "softmax" / "student" / "softmax.py"
    body = "return cache.y * (g - (g * cache.y).sum(cache.dim, keepdim=True)), ()"
    student.write_text(student.read_text().replace("raise NotImplementedError()", body))
    said = run("softmax/assignment.py", "softmax/student/softmax.py", str(LAYERS / "tanh.py"))
    assert "softmax(): 1 of 1\n  ✓ dx  1 of 1" in said
    assert "softmax(): 0 of 1" in said
