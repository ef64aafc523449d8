"""A table of submissions: every mistake is caught, all but one are named, no right one is refused.

`python -m helpers.submissions.table`, run in `tests`, prints the table.
"""

import re

import pytest
from helpers.submissions.table import RIGHT, WRONG, said

# It is caught, and has no name.
UNNAMED = "other: gelu: by the logistic approximation"


@pytest.mark.full(but=("sign", "not "))
@pytest.mark.parametrize("submission", WRONG, ids=str)
def test_a_mistake_is_caught_and_never_misnamed(submission):
    name, sentence = said(submission)
    assert re.search(submission.says, sentence)
    assert not re.search(r"wrong in 0 of|\b1 times", sentence)
    assert bool(name) == (str(submission) != UNNAMED)


def test_each_gradient_of_a_mistake_in_several_has_its_name():
    (overwritten,) = (s for s in WRONG if str(s) == "rnn: gradients overwritten")
    # The first state is zero, and so is dU at it.
    assert [m.name for m in overwritten.report().mistakes] == ["one use", "zero", "one use"]


@pytest.mark.whole
@pytest.mark.parametrize("submission", RIGHT, ids=str)
def test_right_code_written_in_another_way_is_right(submission):
    assert submission.report().mistakes == ()
