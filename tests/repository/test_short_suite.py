"""The short suite leaves out what it says, and still uses every public function."""

import ast
import inspect
import re
from pathlib import Path
from types import SimpleNamespace

import short_suite
from helpers.cases import CASES
from helpers.cases.case import Case, normal
from helpers.names import names_of

import lincoln_fn as lf

TESTS = Path(__file__).parents[1]
LIBRARY = Path(lf.__file__).parent
HOMES = [lf, *(home for home in names_of(lf).values() if hasattr(home, "__path__"))]


def functions_of(file):
    tree = ast.parse((TESTS / file).read_text())
    return {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_what_is_left_out_is_there():
    assert all(any(TESTS.rglob(file)) for file in short_suite.FILES)
    for table in (short_suite.TESTS, short_suite.WHOLE):
        for file, names in table.items():
            assert set(names) <= set(functions_of(file)), file
            assert file not in short_suite.FILES


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
        out = short_suite.TESTS.get(short_suite.key_of(path), {})
        if short_suite.key_of(path) not in short_suite.FILES and "submissions" not in path.parts:
            for node in ast.parse(path.read_text()).body:
                if out.get(getattr(node, "name", None), True):
                    yield from names_in(node)
    for path in LIBRARY.rglob("*.py"):
        for line in re.findall(r"^ *(?:>>>|\.\.\.) (.*)$", path.read_text(), re.MULTILINE):
            yield from re.findall(r"\w+", line)


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


def collected(name, values, file="walk/test_x.py"):
    """Make what pytest collects of a test, a row for each value."""
    return [
        Row(
            path=Path(file),
            originalname=name,
            name=f"{name}[{value}]",
            callspec=SimpleNamespace(params={"given": value}),
            get_closest_marker=lambda marker: None,
        )
        for value in values
    ]


def test_of_many_rows_some_stay_the_first_and_the_last_among_them():
    kept, left_out = short_suite.divided(collected("test_it", range(100)))
    values = [row.callspec.params["given"] for row in kept]
    assert len(values) == short_suite.ROWS
    assert (values[0], values[-1]) == (0, 99)
    assert len(left_out) == 100 - short_suite.ROWS


def test_of_each_layer_the_first_configuration_stays():
    x = normal(2, 3)
    cases = [Case(lf.dense(3), x), Case(lf.dense(4), x), Case(lf.relu(), x)] * 9
    kept, _ = short_suite.divided(collected("test_it", cases))
    assert [row.callspec.params["given"] for row in kept] == [cases[0], cases[2]] * 9


def test_a_test_whose_rows_stay_is_whole_and_another_has_the_rows_that_are_named():
    (name,) = short_suite.WHOLE["repository/test_doctests.py"]
    assert short_suite.divided(collected(name, range(100), "repository/test_doctests.py"))[1] == []
    rows = collected("test_small_steps_are_not_lost", [False, True], "combine/test_in_dtype.py")
    assert short_suite.divided(rows) == (rows[:1], rows[1:])


def test_what_is_marked_is_left_out():
    rows = collected("test_it", [1])
    rows[0].get_closest_marker = {"full": True}.get
    assert short_suite.divided(rows) == ([], rows)
