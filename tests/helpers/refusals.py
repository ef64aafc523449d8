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


def refused(rows):
    """Make a test of rows of (call, message)."""
    assert rows

    @pytest.mark.parametrize(("call", "message"), rows)
    def test(call, message):
        assert_refused(message, call)

    return test
