"""A table of submissions: every mistake is caught, nine of ten are named, no right one is refused.

`python -m helpers.submissions.table`, run in `tests`, prints the table.
"""

import re

import pytest
from helpers.submissions.table import RIGHT, WRONG, said


@pytest.mark.parametrize("submission", WRONG, ids=str)
def test_a_mistake_is_caught_and_never_misnamed(submission):
    assert re.search(submission.says, said(submission)[1])
    assert not re.search(r"wrong in 0 of|\b1 times", said(submission)[1])


def test_each_gradient_of_a_mistake_in_several_has_its_name():
    (overwritten,) = (s for s in WRONG if str(s) == "rnn: gradients overwritten")
    # The first state is zero, and so is dU at it.
    assert [m.name for m in overwritten.report().mistakes] == ["one use", "zero", "one use"]


@pytest.mark.parametrize("submission", RIGHT, ids=str)
def test_right_code_written_in_another_way_is_right(submission):
    assert submission.report().mistakes == ()


@pytest.mark.full
def test_nine_of_ten_mistakes_have_a_name():
    assert len(WRONG) >= 100
    assert len(RIGHT) >= 20
    named = [submission for submission in WRONG if said(submission)[0]]
    assert len(named) >= 0.9 * len(WRONG)
