"""The short suite, which `pytest` runs where neither `--full` nor a file is given.

README says how long it takes. It uses every public name, and docs/mutations.md says which share of
a sample of the mutants of layers/ and losses/ it kills. What it leaves out was chosen by what most
tests take and show, and is marked:

    @pytest.mark.full                       a test that compiles, or starts processes, or trains
    pytestmark = pytest.mark.full           a file of such tests; of each kind the cheapest stays
    @pytest.mark.full(but=("sgd", "adam"))  the rows whose names have one of these stay
    @pytest.mark.whole                      every row stays

Of another test that has many rows, those of a layer's or a loss's first configuration stay, or,
where the rows are of neither, a few. The tables with torch's answers stay whole.

A new test that takes more than half a second is marked `@pytest.mark.full`. A name in `but` that no
row has is refused.
"""

import re

import pytest

# Rows that stay of a test that has more, unless its rows are of layers or losses.
ROWS = 4

# A file whose tests are all left out says so in its head, and is not imported.
_ALL = re.compile(r"^pytestmark = (\[[^]]*)?pytest\.mark\.full\b", re.MULTILINE)


def leaves_out(path):
    """Whether all of a file is left to `--full`."""
    return path.suffix == ".py" and _ALL.search(path.read_text()) is not None


def divided(items):
    """Divide the tests that were collected into those of the short suite and the others."""
    kept = {item for rows in _by_test(items) for item in _kept(rows)}
    return [item for item in items if item in kept], [item for item in items if item not in kept]


def check(items):
    """Refuse a mark that names no row of its test, which then has none in the short suite.

    Args:
        items: every test that there is.
    """
    for rows in _by_test(items):
        names = " ".join(row.name for row in rows)
        for mark in filter(None, (row.get_closest_marker("full") for row in rows)):
            is_read = not mark.args and mark.kwargs.keys() <= {"but"} and type(_but(mark)) is tuple
            if not is_read or any(part not in names for part in _but(mark)):
                raise pytest.UsageError(f"{mark} names no row among {names}")


def _by_test(items):
    """Give the rows of each test."""
    by_test = {}
    for item in items:
        by_test.setdefault((item.path, item.originalname), []).append(item)
    return by_test.values()


def _kept(rows):
    """Give the rows of a test that stay."""
    marks = [(row, row.get_closest_marker("full")) for row in rows]
    named = [row for row, mark in marks if any(part in row.name for part in _but(mark))]
    is_whole = len(rows) <= ROWS or rows[0].get_closest_marker("whole")
    few = rows if is_whole else _few(rows)
    return named or [row for row, mark in marks if not mark and row in few]


def _but(mark):
    """Give what the names have of the rows that stay in spite of `full`."""
    return mark.kwargs.get("but", ()) if mark else ()


def _few(rows):
    """Give the rows of each layer's or loss's first configuration; of others, a few."""
    about = [_layer_or_loss(row) for row in rows]
    first = {of: thing for of, thing in reversed(about) if thing is not None}
    of_first = [row for row, (of, thing) in zip(rows, about, strict=True) if first.get(of) is thing]
    if first:
        return of_first
    return [rows[i * (len(rows) - 1) // (ROWS - 1)] for i in range(ROWS)]


def _layer_or_loss(row):
    """Give the name of the constructor that a row is about, and the configuration."""
    for given in row.callspec.params.values() if hasattr(row, "callspec") else ():
        match given:
            case (
                object(layer=made, x=_)
                | object(loss=object(backward=_) as made)
                | (object(forward=_, backward=_) as made)
            ):
                return repr(made).partition("(")[0], given
            case object(name=name, prediction=_):
                return name, given
    return None, None
