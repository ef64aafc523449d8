"""Calls that are refused by an error of the library, which says what was expected."""

import inspect
import re

import numpy as np
import pytest
import torch

import lincoln_fn as lf
from lincoln_fn import LayerError

KIND = r"(?s)(?:(\w+Error): )?(.*)"
KNOWN = {"torch": torch, "nn": torch.nn, "np": np}


def error_of(call, /, *arguments, **options):
    """Give the LayerError that a call raises: its kind and its text."""
    with pytest.raises(LayerError) as caught:
        call(*arguments, **options)
    return type(caught.value), str(caught.value)


def assert_refused(message, call, /, *arguments, **options):
    assert error_of(call, *arguments, **options)[1] == message


def assert_says(part, call, /, *arguments, **options):
    """Call a function: it raises a LayerError whose text has this part, as a row of `refusals`.

    An error of Python's, or another one of the library's, is named as there.
    """
    kind, message = re.fullmatch(KIND, part).groups()
    with pytest.raises(Exception, match=_pattern(message)) as caught:
        call(*arguments, **options)
    assert (kind or LayerError.__name__) in [each.__name__ for each in caught.type.__mro__]


def assert_told(errors, parts):
    """Check errors of other processes by the parts of their texts, written as in `refusals`."""
    assert errors.keys() == parts.keys()
    wrong = [told for name, told in errors.items() if not re.search(_pattern(parts[name]), told)]
    assert not wrong, "\n\n".join(wrong)


def refusals(table, names=None):
    """Make a test of a table: a row is code, " -> ", and what its error says.

    "^" is the beginning of the error's text, "$" its end, and " ... " any text within. The error is
    a LayerError, if the row does not begin with the name of another, as in "TypeError: ". A row
    goes on in lines that are indented. A line with "#" is a heading.

    Args:
        table: the rows.
        names: those that the code uses; None for those of the module that calls. The library's own
            are known, and `torch`, `nn` and `np`.
    """
    names = inspect.currentframe().f_back.f_globals if names is None else names
    rows = [row for row in re.sub(r"\n {4}", " ", table).splitlines() if row and row[0] != "#"]
    assert rows
    assert all(" -> " in row for row in rows)

    def test():
        wrong = [*filter(None, (_other_than_said(row, names) for row in rows))]
        assert not wrong, "\n\n".join(wrong)

    return test


def _other_than_said(row, names):
    """Run a row's code: what it does that the row does not say, or nothing."""
    code, _, said = row.partition(" -> ")
    words = re.findall(r"\w+", code)
    own = {word: getattr(lf, word) for word in words if word in lf.__all__}
    names = KNOWN | own | names
    kind, message = re.fullmatch(KIND, said).groups()
    try:
        eval(code, names)
    except Exception as error:
        is_kind = type(error).__name__ == (kind or LayerError.__name__)
        # Nothing of Python's own, which says where an object is and not what.
        is_own = not re.search(r" at 0x|has no attribute '(forward|update|near)'", str(error))
        is_said = re.search(_pattern(message), str(error))
        return "" if is_kind and is_own and is_said else f"{row}\n{error!r}"
    return f"{row}\nis not refused"


def _pattern(message):
    parts = map(re.escape, message.removeprefix("^").removesuffix("$").split(" ... "))
    end = r"\Z" if message[-1] == "$" else ""
    return "(?s)" + ("^" if message[0] == "^" else "") + ".*".join(parts) + end
