"""Calls that are refused by a LayerError, with the whole text of the error."""

import pytest

from lincoln_fn import LayerError


def assert_refused(message, call, *arguments):
    with pytest.raises(LayerError) as caught:
        call(*arguments)
    assert str(caught.value) == message


def assert_says(part, call, *arguments, **options):
    """Call a function: it raises a LayerError whose text has this part."""
    with pytest.raises(LayerError) as caught:
        call(*arguments, **options)
    assert part in str(caught.value)


def refused(rows, *, whole=True):
    """Make a test of rows of (call, message), the whole message or a part of it."""
    assert rows

    def test():
        for call, message in rows:
            said = _said_by(call)
            assert said == message if whole else message in said

    return test


def _said_by(call):
    try:
        call()
    except LayerError as error:
        return str(error)
    return "nothing: it was not refused"
