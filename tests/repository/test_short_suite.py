"""The short suite leaves out what it says, and still uses every public function."""

import ast
import inspect
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import short_suite
from helpers import CASES, Case, names_of, normal

import lincoln_fn as lf

TESTS = Path(__file__).parents[1]
LIBRARY = Path(lf.__file__).parent
HOMES = [lf, *(home for home in names_of(lf).values() if hasattr(home, "__path__"))]


def names_in(node):
    """List the names that some code reads, and its texts, which tables look names up by."""
    for part in ast.walk(node):
        match part:
            case ast.Attribute(attr=name) | ast.Name(id=name):
                yield name
            case ast.Constant(str(name)):
                yield name


def names_used():
    """List the names in the tests of the short suite, and in the examples of docstrings."""
    yield from (case.layer.name.partition("(")[0] for case in CASES)
    for path in TESTS.rglob("*.py"):
        if not short_suite.leaves_out(path) and "submissions" not in path.parts:
            for node in ast.parse(path.read_text()).body:
                marks = [ast.unparse(mark) for mark in getattr(node, "decorator_list", ())]
                if "pytest.mark.full" not in marks:
                    yield from names_in(node)
    for path in LIBRARY.rglob("*.py"):
        for line in re.findall(r"^ *(?:>>>|\.\.\.) (.*)$", path.read_text(), re.MULTILINE):
            yield from re.findall(r"\w+", line)


@pytest.mark.full
def test_every_public_function_is_used():
    public = {
        f"{home.__name__}.{name}"
        for home in HOMES
        for name, thing in names_of(home).items()
        if inspect.isfunction(thing)
    }
    used = set(names_used())
    assert len(public) > 300
    assert {name for name in public if name.rpartition(".")[2] not in used} == set()


class Row(SimpleNamespace):
    """A test that can be an element of a set, as pytest's are."""

    __hash__ = object.__hash__
    __eq__ = object.__eq__


def collected(values, **marks):
    """Make what pytest collects of a test with marks, a row for each value."""
    return [
        Row(
            path=Path("walk/test_x.py"),
            originalname="test_it",
            name=f"test_it[{value}]",
            callspec=SimpleNamespace(params={"given": value}),
            get_closest_marker=marks.get,
        )
        for value in values
    ]


def test_of_many_rows_some_stay_the_first_and_the_last_among_them():
    kept, left_out = short_suite.divided(collected(range(100)))
    values = [row.callspec.params["given"] for row in kept]
    assert len(values) == short_suite.ROWS
    assert (values[0], values[-1]) == (0, 99)
    assert len(left_out) == 100 - short_suite.ROWS


def test_of_each_layer_the_first_configuration_stays():
    x = normal(2, 3)
    cases = [Case(lf.dense(3), x), Case(lf.dense(4), x), Case(lf.relu(), x)] * 9
    kept, _ = short_suite.divided(collected(cases))
    assert [row.callspec.params["given"] for row in kept] == [cases[0], cases[2]] * 9


def test_marks_say_what_stays():
    rows = collected(range(100), whole=pytest.mark.whole.mark)
    assert short_suite.divided(rows) == (rows, [])
    rows = collected([False, True], full=pytest.mark.full.mark)
    assert short_suite.divided(rows) == ([], rows)
    rows = collected([False, True], full=pytest.mark.full(but=("False",)).mark)
    assert short_suite.divided(rows) == (rows[:1], rows[1:])


@pytest.mark.parametrize("mark", [
    pytest.mark.full(but=("False", "Treu")), pytest.mark.full(but="False"),
    pytest.mark.full("False"), pytest.mark.full(rows=("False",)),
])  # fmt: skip
def test_a_mark_that_names_no_row_is_refused(mark):
    with pytest.raises(pytest.UsageError, match=r"full.* names no row among .*\[False\]"):
        short_suite.check(collected([False, True], full=mark.mark))
    right = pytest.mark.full(but=("False", "True"))
    short_suite.check(collected([False, True], full=right.mark))


@pytest.mark.parametrize(("head", "expected"), [
    ("pytestmark = pytest.mark.full", True), ("pytestmark = [compiles, pytest.mark.full]", True),
    ("pytestmark = [\n    pytest.mark.full,\n    compiles,\n]", True),
    ("pytestmark = compiles", False), ("@pytest.mark.full\ndef test_it(): ...", False),
])  # fmt: skip
def test_a_file_says_in_its_head_that_it_is_left_out(head, expected, tmp_path):
    path = tmp_path / "test_x.py"
    path.write_text(f"import pytest\n\n{head}\n")
    assert short_suite.leaves_out(path) is expected
