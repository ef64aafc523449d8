"""Submissions in loops of numpy: mistakes are told, and right ones carry no remark.

`python -m helpers.submissions.loops`, run in `tests`, prints the table.
"""

import re

import pytest
from helpers.submissions.loops import RIGHT, WRONG
from helpers.submissions.table import said


@pytest.mark.full(but=("affine", "rnn, in loops: 1 - y"))
@pytest.mark.parametrize("submission", WRONG, ids=str)
def test_a_mistake_in_loops_is_caught_and_never_misnamed(submission):
    name, sentence = said(submission)
    assert re.search(submission.says, sentence)
    # Backward returns what forward keeps as its gradient: there is no line to tell.
    assert bool(name) == (str(submission) != "cross-entropy, in loops: not normalised")


@pytest.mark.parametrize("submission", RIGHT, ids=str)
def test_right_code_in_loops_carries_no_remark(submission):
    report = submission.report()
    assert (report.verdict, report.remarks) == ("right", ())
