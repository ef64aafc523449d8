"""Assignments: each file of a layer can be blanked, handed out and graded."""

import json
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch
from helpers import same_bits
from helpers.refusals import refusals

import lincoln_fn as lf
from lincoln_fn.grading.assignment import UNSUITED, files, main, write
from lincoln_fn.grading.handouts import backward_pass, without_terms
from lincoln_fn.grading.isolated import Ran

LAYERS = Path(lf.layers.__path__[0])
NAMES = sorted({path.stem for path in LAYERS.glob("[a-z]*.py")} - {*UNSUITED})


@pytest.fixture
def in_this_process(monkeypatch):
    def run(call, answer, limit):
        try:
            return Ran(call(lambda: None))
        except Exception as error:
            return Ran(problem=str(error))

    monkeypatch.setattr(import_module("lincoln_fn.grading.grade"), "run_isolated", run)


def defined(text):
    names = {"__name__": "assignment"}
    exec(text, names)
    return names


@pytest.mark.full(but=("[elu",))
@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize("name", NAMES)
def test_a_blanked_file_earns_nothing_and_the_file_itself_everything(name, tmp_path):
    made = files(name)
    write(tmp_path, made)
    teacher = defined(made["assignment.py"])
    reference, cases = teacher["reference"], teacher["cases"]
    first, second = ([leaf.shape for leaf in lf.tree.leaves(x)] for _, x in cases)
    assert first != second or name == "alibi"  # whose gradient is 0 for every x
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


# Backward passes that are right for x of the shape (5, 3), and for few others.
FOR_ONE_SHAPE = {
    "batch_norm": """
    d, n = g * params.weight.view(-1, *[1] * (g.ndim - 2)), cache.x_hat
    mean = lambda v: v.mean(0, keepdim=True)
    axes = (0, *range(2, g.ndim))
    dx = cache.rstd * (d - mean(d) - n * mean(d * n))
    return dx, Params((g * n).sum(axes), g.sum(axes), params.running)
""",
    "dense": """
    return g @ params.weight.mT, Params(x.T @ g, g.flatten(0, -2).sum(0))
""",
    "softmax": """
    return cache.y * (g - (g * cache.y).sum(1, keepdim=True)), ()
""",
}  # fmt: skip


@pytest.mark.full(but=("[dense]", "[softmax]"))
@pytest.mark.usefixtures("in_this_process")
@pytest.mark.filterwarnings("ignore:The use of `x.T`:UserWarning")
@pytest.mark.parametrize("name", FOR_ONE_SHAPE)
def test_a_gradient_that_is_right_for_one_shape_alone_has_no_full_marks(name, tmp_path):
    made = files(name, blank=("backward",))
    teacher = defined(made["assignment.py"])
    handed_in, blank = (
        tmp_path / "mine.py",
        "\n    # YOUR CODE HERE\n    raise NotImplementedError()",
    )
    text = made[f"student/{name}.py"].replace(blank, FOR_ONE_SHAPE[name].rstrip())
    handed_in.write_text(text.replace("input_grad=input_grad, grads=grads", ""))
    graded = lf.testing.grade(handed_in, teacher["reference"], teacher["cases"])
    assert graded.points < graded.possible
    alone = lf.testing.grade(handed_in, teacher["reference"], teacher["cases"][:1])
    assert alone.points == alone.possible


@pytest.mark.full
@pytest.mark.parametrize("name", ["softmax", "multi_head_attention", "dropout"])
def test_the_notebooks_are_valid(name):
    nbformat = pytest.importorskip("nbformat")
    made = files(name)
    notebooks = [text for path, text in made.items() if path.endswith(".ipynb")]
    assert len(notebooks) == 2
    for text in notebooks:
        nbformat.validate(nbformat.reads(text, 4))
    cells = json.loads(notebooks[0])["cells"]
    points = [c["metadata"].get("nbgrader", {}).get("points", 0) for c in cells]
    assert sum(points) == made[f"otter/tests/{name}.py"].count("points=1)")


def test_checks_of_arguments_and_public_functions_are_not_blanked():
    blanks = {
        "conv": ("backward", "input_grad", "grads"),
        "dense": ("backward", "input_grad", "grads"),
        "bilinear": ("backward", "input_grad", "grads", "_p"),
        "lstm": ("backward", "_step_backward"),
    }
    for name, functions in blanks.items():
        source = without_terms((LAYERS / f"{name}.py").read_text())
        assert backward_pass(source) == functions


def test_the_derivation_stays_or_is_cut_out():
    kept = files("softmax", derivation=True)["student/softmax.py"]
    assert "Derivation." in kept
    assert '"""Compute dx_k = y_k (g_k - sum_j g_j y_j)."""' in kept
    cut = files("softmax")["student/softmax.py"]
    assert "Derivation." not in cut
    assert "sum_j g_j" not in cut
    assert "Cache: y, and the axis." in cut


@pytest.mark.parametrize("name", NAMES)
def test_what_a_student_is_given_does_not_hold_the_answer(name):
    made = files(name)
    given = [made[f"student/{name}.py"], made[f"otter/{name}.ipynb"]]
    for text in given:
        assert "Derivation." not in text
        assert re.search(r"def terms|terms=", text) is None
        answers = re.findall(
            r"^ *(?:dx|dW|db|dgamma|dbeta|dalpha|dparams)\S* = .*", text, re.MULTILINE
        )
        assert answers == []


# What helps the backward pass alone.
INTERNALS = {
    "dense": r"def rows|core\.declare", "log_softmax": "minus_one_hot",
    "max_pool": "dy_of|given_back", "pad": "def fold", "linear_scan": "def before",
    "broadcast": "summed_to",
}  # fmt: skip


@pytest.mark.parametrize("name", INTERNALS)
def test_what_only_the_backward_pass_uses_is_not_handed_out(name):
    assert re.search(INTERNALS[name], (LAYERS / f"{name}.py").read_text())
    made = files(name)
    assert not re.search(INTERNALS[name], made[f"student/{name}.py"] + made[f"otter/{name}.ipynb"])


def test_each_blank_says_what_it_returns():
    student = files("dense")["student/dense.py"]
    told = re.findall(r'"""(.*)"""\n    # YOUR CODE HERE', student)
    assert told == ["Return dx and dparams.", "Return dx alone.", "Return dparams alone."]


def test_a_student_who_fills_backward_alone_is_told_what_is_missing(tmp_path):
    write(tmp_path, files("dense"))
    teacher = defined((tmp_path / "assignment.py").read_text())
    student = tmp_path / "student" / "dense.py"
    blank, dx, dparams = (
        "raise NotImplementedError()",
        "g @ params.weight.mT",
        "Params(x.flatten(0, -2).mT @ g.flatten(0, -2), g.flatten(0, -2).sum(0))",
    )
    first = student.read_text().replace(blank, f"return {dx}, {dparams}", 1)
    student.write_text(first)
    reference, cases = teacher["reference"], teacher["cases"]
    graded = lf.testing.grade(student, reference, cases, hints=2)
    assert (graded.points, graded.possible) == (0, 3)
    assert graded.mark("dx").hints == ("input_grad raised NotImplementedError",)
    assert graded.mark("dparams.bias").hints == ("grads raised NotImplementedError",)
    second = first.replace(blank, f"return {dx}", 1)
    student.write_text(second.replace(blank, f"return {dparams}", 1))
    assert lf.testing.grade(student, reference, cases).points == 3
    student.write_text(second.replace(blank, "return Params(x.mT @ g, g)", 1))
    graded = lf.testing.grade(student, reference, cases, hints=2)
    assert [mark.points for mark in graded.marks] == [0, 0, 1]
    assert graded.mark("dparams.weight").hints == ("grads differs from backward(...)[1]",)


def test_the_functions_and_the_case_can_be_chosen():
    options = {"reference": "lf.dense(2)", "x": "torch.zeros(7, 3)", "seed": 4}
    made = files("dense", blank=("grads", "forward"), **options)
    student = made["student/dense.py"]
    assert student.count("raise NotImplementedError()") == 2
    assert "return g @ params.weight.mT, dparams" in student
    teacher = defined(made["assignment.py"])
    assert teacher["blanks"] == ("grads", "forward")
    params, x = teacher["cases"][0]
    assert (params.weight.shape, x.shape) == ((3, 2), (7, 3))
    again = lf.testing.make_cases(lf.dense(2), torch.zeros(7, 3), key=lf.Key(4))
    assert same_bits(x, again[0][1])


test_what_does_not_exist_is_refused = refusals("""
files('sofmax') -> got sofmax; write softmax
files('zzz') -> such as softmax, got zzz$
files('pairwise') -> got pairwise, whose table holds every gradient
files('alpha_dropout') -> got alpha_dropout, whose backward is that of dropout
files('os.path') -> such as softmax, got os.path$
files('tanh', blank=('backwards',)) -> a function to blank, got backwards; write backward
files('tanh', blank=('q',)) -> a function to blank, got q; the file has forward, backward, tanh
""")


def test_nothing_is_overwritten(tmp_path, capsys):
    main(["tanh", "--to", str(tmp_path / "tanh")])
    assert len(capsys.readouterr().out.splitlines()) == 5
    with pytest.raises(SystemExit):
        main(["tanh", "--to", str(tmp_path / "tanh")])
    assert "choose another by --to" in capsys.readouterr().err


@pytest.mark.full
def test_a_teacher_makes_an_assignment_and_grades_a_file(tmp_path):
    def run(*arguments):
        ran = subprocess.run(
            [sys.executable, "-W", "error", *arguments],
            cwd=tmp_path, capture_output=True, text=True, check=True,
        )  # fmt: skip
        return ran.stdout

    run("-m", "lincoln_fn.testing.assignment", "softmax")
    student = tmp_path / "softmax" / "student" / "softmax.py"
    body = "return cache.y * (g - (g * cache.y).sum(cache.dim, keepdim=True)), ()"
    student.write_text(student.read_text().replace("raise NotImplementedError()", body))
    named = tmp_path / "bob\x1b[2J" / "softmax.py"
    named.parent.mkdir()
    named.write_text((LAYERS / "tanh.py").read_text())
    said = run(
        "softmax/assignment.py", "softmax/student/softmax.py", str(named.relative_to(tmp_path))
    )
    assert "softmax(): 1 of 1\n  ✓ dx  1 of 1" in said
    assert "softmax(): 0 of 1" in said
    assert said.splitlines()[-3:] == [
        "submission                  dx  points",
        "softmax/student/softmax.py  1   1 of 1",
        r"bob\x1b[2J/softmax.py       0   0 of 1",
    ]
    assert "\x1b" not in said
