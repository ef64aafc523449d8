"""Grades: marks, hints, and submissions that raise, print, loop or exit."""

import importlib.util
import json
import os
import re
import sys
import types
import warnings
from pathlib import Path

import attrs
import pytest
import torch
from helpers import assert_says, same_bits, same_number
from helpers.refusals import refusals

import lincoln_fn as lf
from lincoln_fn.errors.errors import LayerError
from lincoln_fn.grading import isolated
from lincoln_fn.layers import dense
from lincoln_fn.testing import GradeError, grade, make_cases, otter_results

REFERENCE = lf.dense(4)
CASES = make_cases(REFERENCE, torch.zeros(5, 3))
SOFTMAX = Path(lf.layers.__path__[0]) / "softmax.py"


def forward(params, x):
    return x @ params.weight + params.bias, x


def right(params, x, g):
    rows, g_rows = x.flatten(0, -2), g.flatten(0, -2)
    return g @ params.weight.mT, dense.Params(rows.mT @ g_rows, g_rows.sum(0))


def half(params, x, g):
    """Average dW over the batch, and do not sum db."""
    dx, dparams = right(params, x, g)
    return dx, dense.Params(dparams.weight / len(x), g)


def handed_in(backward, forward=forward):
    return {"forward": forward, "backward": backward}


def points(graded):
    return {mark.leaf: mark.points for mark in graded.marks}


SAID = {
    0: [(), ()],
    1: [("look at dparams.weight",), ("look at dparams.bias",)],
    2: [("dparams.weight is 5 times too small: averaged where it should be summed?",),
        ("dparams.bias is not summed over the batch: shape (5, 4), expected (4,)",)],
}  # fmt: skip


@pytest.mark.full(but=("[0]",))
@pytest.mark.parametrize("level", SAID)
def test_each_wrong_gradient_loses_its_marks_and_hints_have_levels(level):
    graded = grade(handed_in(half), REFERENCE, CASES, hints=level)
    assert points(graded) == {"dparams.weight": 0, "dparams.bias": 0, "dx": 1}
    assert [mark.hints for mark in graded.marks] == [*SAID[level], ()]
    names = [mark.mistakes for mark in graded.marks]
    assert names == ([("averaged",), ("not summed",), ()] if level == 2 else [()] * 3)


@pytest.mark.full(but=("[1]",))
@pytest.mark.parametrize("level", [0, 1, 2])
def test_no_form_of_a_grade_has_a_number_that_is_expected(level):
    wrong = lf.tanh().replace(backward=lambda params, y, g: (g * (1 - y**2 + torch.sin(5 * y)), ()))
    x = lf.keys.normal(lf.Key(4), (5, 3))
    told = lf.testing.check_layer(wrong, (), x, all=True).mistakes[0].sentence
    assert re.search(r"wrong in \d+ of 15 places, most at \[\d, \d\]: a term", told)
    wrong_everywhere = lf.tanh().replace(backward=lambda params, y, g: (y**2 + torch.sin(g), ()))
    for layer in (wrong, wrong_everywhere):
        graded = grade(layer, lf.tanh(), [((), x)], hints=level)
        assert graded.points == 0
        forms = [str(graded), graded._repr_html_(), graded.to_json(), otter_results(graded)]
        assert not any("expected" in form or re.search(r"\d\.\d{3}", form) for form in forms)


def only_small(params, x, g):
    dx, dparams = right(params, x, g)
    return (dx if x.abs().max() < 4 else 2 * dx), dparams


def sometimes(params, x, g):
    return (right if x.abs().max() < 4 else loops)(params, x, g)


def loops(params, x, g):
    while True:
        pass


def changes_params(params, x, g):
    params.weight.zero_()
    return right(params, x, g)


def scales(which):
    def backward(*given):
        gradients = right(*given)
        given[which].mul_(2)
        return gradients

    return backward


def refuses(params, x):
    raise LayerError("dense(4)", "expected another x")


def changes_x(params, x):
    y, kept = forward(params, x)[0], x.clone()
    x.zero_()
    return y, kept


# By problem, a backward pass that breaks off.
BROKEN = {
    "raises SystemExit: enough": lambda params, x, g: sys.exit("enough"),
    "ends the process (exit code 3)": lambda params, x, g: os._exit(3),
    "crashes (signal 6)": lambda params, x, g: os.abort(),
    "backward raised EOFError: there is nobody to ask": lambda params, x, g: input("dx?"),
    "backward raised KeyError: 'weight'": lambda params, x, g: {}["weight"],
    "backward changed g in place":
        lambda params, x, g: (g.mul_(2) @ params.weight.mT, dense.Params(x.mT @ g, g.sum(0))),
    "expected backward to return (dx, dparams), got a Tensor":
        lambda params, x, g: g @ params.weight.mT,
}  # fmt: skip


def marks(weight, bias, dx, **others):
    return {**others, "dparams.weight": weight, "dparams.bias": bias, "dx": dx}


def returning(change):
    """Return the right gradients, changed."""
    return handed_in(lambda params, x, g: change(*right(params, x, g)))


NAMES = "expected gradients dparams.weight, dparams.bias, dx; got "
PURITY, Y = {"points": {"purity": 2}}, {"points": {"y": 1}}
WEIGHED = {"points": {"dx": 4, "y": 2}, "credit": {"averaged": 0.25}}
# The submission, the options, the points, and the problems.
MARKS = {
    "right": (handed_in(right), {}, marks(1, 1, 1), ()),
    "named mistakes": (handed_in(half), WEIGHED, marks(0.25, 0, 4, y=2), ()),
    "right in half of the cases": (handed_in(only_small), {}, marks(1, 1, 0.5), ()),
    "without the bias": (handed_in(right, lambda params, x: (x @ params.weight, x)), Y,
        marks(1, 1, 1, y=0), ()),
    "refuses x": (handed_in(right, refuses), Y, marks(0, 0, 0, y=0), ("expected another x",)),
    "changes nothing": (handed_in(right), PURITY, marks(1, 1, 1, purity=2), ()),
    "changes x": (handed_in(right, changes_x), PURITY, marks(1, 1, 1, purity=0),
        ("forward changed x in place",)),
    # Gradients are judged on copies of what is changed in place.
    "changes params": (handed_in(changes_params), {}, marks(1, 1, 0),
        ("backward changed params.weight in place",)),
    "changes the cache": (handed_in(scales(1)), {}, marks(1, 1, 1),
        ("backward changed cache in place",)),
    "changes g": (handed_in(scales(2)), {}, marks(1, 1, 1), ("backward changed g in place",)),
    "a tuple for Params": (returning(lambda dx, d: (dx, (d.weight, d.bias))), {}, marks(0, 0, 1),
        (f"{NAMES}dparams.0, dparams.1, dx",)),
    "a dict for Params, with credit": (returning(
        lambda dx, d: (dx, attrs.asdict(d, recurse=False))), {"credit": {"container": 0.5}},
        marks(0.5, 0.5, 1), (f"{NAMES}dparams.bias, dparams.weight, dx",)),
    "None for Params": (returning(lambda dx, d: (dx, None)), {}, marks(0, 0, 1), (f"{NAMES}dx",)),
    "a tuple for dx": (returning(lambda dx, d: ((dx,), d)), {}, marks(1, 1, 0),
        (f"{NAMES}dparams.weight, dparams.bias, dx.0",)),
    "swapped, with credit": (returning(lambda dx, d: (d, dx)), {"credit": {"swapped": 0.75}},
        marks(0.75, 0.75, 0.75), (f"{NAMES}dparams, dx.weight, dx.bias",)),
    "does not end": (handed_in(sometimes), {"time_limit": 1.5}, marks(0.5, 0.5, 0.5),
        ("case 1: does not end within 1.5 s",)),
    **{told: (handed_in(back), {}, marks(0, 0, 0), (told,)) for told, back in BROKEN.items()},
}  # fmt: skip


SLIPS = {
    "dparams.weight is in the place of dx: backward returns (dparams, dx)":
        lambda dx, d: (d, dx),
    "dparams.weight has the right values in another container: dparams is a list, expected a"
    " Params": lambda dx, d: (dx, [d.weight, d.bias]),
    "dparams.weight has the right values in another container: dparams is a dict, expected a"
    " Params": lambda dx, d: (dx, {"weight": d.weight, "bias": d.bias}),
    "dparams.weight is missing: dparams is a NoneType, expected a Params":
        lambda dx, d: (dx, None),
    "dparams.weight is 5 times too small: averaged where it should be summed?":
        lambda dx, d: (dx, (d.weight / 5, d.bias)),
}  # fmt: skip


@pytest.mark.parametrize("told", SLIPS)
def test_a_gradient_in_another_container_is_told(told):
    graded = grade(returning(SLIPS[told]), REFERENCE, CASES[:1], hints=2)
    assert graded.mark("dparams.weight").hints == (told,)


@pytest.mark.parametrize("dparams", [None, [], {}])
def test_a_layer_without_params_loses_no_point_for_another_container_of_nothing(dparams):
    cases = make_cases(lf.tanh(), torch.zeros(3), count=1)
    submission = handed_in(
        lambda params, y, g: (g * (1 - y * y), dparams), lambda params, x: (x.tanh(), x.tanh())
    )
    graded = grade(submission, lf.tanh(), cases)
    assert graded.points == 1
    kind = type(dparams).__name__
    assert graded.problems == (f"dparams is a {kind}, expected a tuple as params is",)


def test_credit_for_a_mistake_that_there_is_not_is_refused():
    with pytest.raises(LayerError, match=r"has a name, got 'avraged'; write 'averaged'$"):
        grade(handed_in(right), REFERENCE, CASES, credit={"avraged": 0.5})


@pytest.mark.parametrize("name", MARKS)
def test_a_submission_has_its_marks_and_its_problems(name):
    submission, options, expected, problems = MARKS[name]
    graded = grade(submission, REFERENCE, CASES[:1] if name in BROKEN else CASES, **options)
    assert (points(graded), graded.points) == (expected, sum(expected.values()))
    assert graded.possible == sum({**marks(1, 1, 1), **options.get("points", {})}.values())
    assert (graded.problems, graded.remarks) == (problems, ())
    assert CASES[0][0].weight.any()


def test_the_check_has_more_time_than_the_code(monkeypatch):
    calls = []

    def slow_when_checked(params, x, g):
        calls.append(0)
        return right(params, x, g) if len(calls) == 1 else loops(params, x, g)

    monkeypatch.setattr(isolated, "PATIENCE", 2)
    graded = grade(handed_in(slow_when_checked), REFERENCE, CASES[:1], time_limit=0.5)
    assert (graded.points, graded.problems) == (0, ("is not checked within 1 s",))


def test_what_is_printed_is_kept_and_not_shown(capfd):
    def talks(params, x, g):
        print("secret" * 1000)
        os.write(1, b"secret")
        os.system("echo secret")
        return right(params, x, g)

    graded = grade(handed_in(talks), REFERENCE, CASES)
    assert graded.points == 3
    (remark,) = graded.remarks
    assert remark.startswith("prints ")
    assert remark.endswith("characters")
    assert len(graded.output) == isolated.KEPT
    assert graded.output.startswith("secret")
    assert graded.output.isprintable()
    assert "secret" not in f"{graded}{graded!r}{graded.to_json()}{graded._repr_html_()}"
    assert "secret" in graded.to_json(output=True)
    assert capfd.readouterr() == ("", "")


def test_what_is_warned_of_a_fork_is_no_teachers_matter():
    warned = ["os.fork() is incompatible with multithreaded code"]  # as JAX says
    os.register_at_fork(before=lambda: [warnings.warn(told, stacklevel=1) for told in warned])
    assert grade(lf.tanh(), lf.tanh(), TANH).points == 1
    warned.clear()


def test_gradients_are_held_against_the_reference_if_forward_is_another():
    graded = grade(handed_in(lambda p, x, g: (g, p), lambda p, x: (x, x)), lf.tanh(), TANH, hints=2)
    assert points(graded) == {"y": 0, "dx": 0}
    assert graded.mark("y").hints == ("forward does not compute y",)


TANH = make_cases(lf.tanh(), torch.zeros(5, 3))


def test_a_composition_is_told_its_wrong_part():
    mine = lf.tanh().replace(name="mine()", backward=lambda params, y, g: (g, ()))
    reference = lf.serial(lf.dense(4), lf.tanh())
    cases = make_cases(reference, torch.zeros(5, 3), count=1)
    graded = grade(lf.serial(lf.dense(4), mine), reference, cases)
    assert {mark.hints for mark in graded.marks} == {("look at 1 dx",)}
    graded = grade(lf.serial(lf.dense(4), mine), reference, cases, hints=2)
    said = "1 mine(): dx lacks the derivative of tanh()"
    assert graded.mark("dx").hints == (said,)


def test_hyperparameters_of_the_reference_reach_a_submission_that_takes_them():
    def softmax(params, x, *, dim):
        y = torch.softmax(x, dim)
        return y, (y, dim)

    def backward(params, cache, g):
        y, dim = cache
        return y * (g - (g * y).sum(dim, keepdim=True)), ()

    reference = lf.softmax(dim=0)
    cases = make_cases(reference, torch.zeros(5, 3))
    assert grade(handed_in(backward, softmax), reference, cases).points == 1


@pytest.mark.full
def test_a_file_a_module_and_its_names_are_submissions():
    spec = importlib.util.spec_from_file_location("own_softmax", SOFTMAX)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    named = types.SimpleNamespace(**vars(module))
    reference = lf.softmax(dim=0)
    cases = make_cases(reference, torch.zeros(5, 3), count=1)
    for submission in (SOFTMAX, str(SOFTMAX), module, vars(module), named, reference):
        assert grade(submission, reference, cases).points == 1, submission


@pytest.mark.full
def test_where_a_process_cannot_be_copied_a_new_one_is_started(monkeypatch):
    monkeypatch.setattr(isolated, "_can_fork", lambda: False)
    cases = make_cases(lf.softmax(), torch.zeros(5, 3), count=1)
    assert grade(SOFTMAX, lf.softmax(), cases).points == 1
    monkeypatch.setitem(sys.modules, "cloudpickle", None)
    with pytest.raises(LayerError, match=r"another process can be given, .* give the path of its"):
        grade({"backward": lambda: 0}, lf.softmax(), cases)


BAD_FILES = {
    "x = 1 +": "raises SyntaxError",
    "import nothing_of_this_name": "raises ModuleNotFoundError: No module named",
    "def forward(params, x): return x, x": "raises LayerError: .* got no backward",
    "def softmax(): return 3": r"raises LayerError: .*expected softmax\(\) to make a Layer, got 3",
    "while True: pass": "does not end within 0.5 s",
    "raise SystemExit": "raises SystemExit",
}


@pytest.mark.full(but=("[import nothing", "[while True"))
@pytest.mark.parametrize("text", BAD_FILES)
def test_a_file_that_cannot_be_loaded_is_marked(text, tmp_path):
    (tmp_path / "mine.py").write_text(text)
    cases = make_cases(lf.softmax(), torch.zeros(5, 3), count=1)
    graded = grade(tmp_path / "mine.py", lf.softmax(), cases, time_limit=0.5)
    assert points(graded) == {"dx": 0}
    (problem,) = graded.problems
    assert pytest.raises(AssertionError, match=BAD_FILES[text]).matches(AssertionError(problem))


def test_a_place_at_a_kink_costs_nothing():
    graded = grade(lf.relu(), lf.relu(), [((), torch.tensor([-1.0, 0.0, 2.0]))])
    assert (graded.points, graded.remarks) == (1, ("x lies on a kink at [1]",))


def test_the_forms_of_a_grade():
    graded = grade(handed_in(half), REFERENCE, CASES)
    assert str(graded).splitlines() == [
        "dense(4): 1 of 3",
        "  ✗ dparams.weight  0 of 1: look at dparams.weight",
        "  ✗ dparams.bias  0 of 1: look at dparams.bias",
        "  ✓ dx  1 of 1",
    ]
    fields = json.loads(graded.to_json())
    assert (fields["name"], fields["points"], fields["possible"]) == ("dense(4)", 1, 3)
    assert fields["marks"][0] == {
        "leaf": "dparams.weight",
        "points": 0,
        "possible": 1,
        "mistakes": [],
        "hints": ["look at dparams.weight"],
    }
    assert graded._repr_html_().count("<tr>") == 4
    tests = json.loads(otter_results(graded))["tests"]
    assert [(test["score"], test["max_score"]) for test in tests] == [(0, 1), (0, 1), (1, 1)]
    graded.check("dx")
    for leaf in ("dparams.weight", "dz"):
        with pytest.raises(GradeError, match=f"^{leaf}  0 of"):
            graded.check(leaf)


def graded(**changes):
    return grade(**{"submission": lf.tanh(), "reference": lf.tanh(), "cases": TANH, **changes})


test_a_teachers_mistake_is_an_error = refusals("""
graded(reference=relu) -> expected reference to be a Layer, got the constructor relu
graded(submission=3) -> expected a submission, got 3; give a Layer, a module
graded(submission='no.py') -> expected the path of a file, got 'no.py'
graded(cases=[]) -> expected cases (params, x), got list; lf.testing.make_cases
graded(cases=(torch.ones(2),)) -> cases (params, x), got (float32[2],); lf.testing.make_cases
graded(hints=3) -> expected hints of 0, 1 or 2, got 3
graded(time_limit=0) -> expected time_limit above 0, in seconds, got 0
graded(points={'dw': 1}) -> expected points of dx, y, purity; got 'dw'
graded(cases=[((1,), torch.ones(2))]) -> expected params ()
graded(cases=[((), torch.tensor([torch.nan]))]) -> gives finite numbers
""")


def test_cases_have_numbers_that_hide_nothing():
    x = (torch.zeros(5, 3), torch.tensor([3, 1]))
    (params, first), (_, second) = make_cases(lf.prelu(3), torch.zeros(5, 3))
    assert not same_number(params.weight, torch.full((3,), 0.25))
    assert 2 < second.std() / first.std() < 8
    echo = lf.Layer("echo()", lambda params, x: (x, x), lambda params, x, g: (g, params))
    (_, (floats, integers)) = make_cases(echo, x, count=1)[0]
    assert floats.any()
    assert same_bits(integers, x[1])
    assert_says("expected count of at least 1, got 0", make_cases, echo, x, count=0)
