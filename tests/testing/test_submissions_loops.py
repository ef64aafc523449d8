"""Submissions in loops of numpy: mistakes have names, and right ones carry no remark.

`python -m helpers.submissions.loops`, run in `tests`, prints the table and the figures; the
page of the checker shows them.
"""

import re
from pathlib import Path

import pytest
from helpers.submissions.loops import RIGHT, WRONG
from helpers.submissions.table import rows, said

PAGE = Path(__file__).parents[2] / "docs/guides/checker-measured.md"


@pytest.mark.parametrize("submission", WRONG, ids=str)
def test_a_mistake_in_loops_is_caught_and_never_misnamed(submission):
    assert re.search(submission.says, said(submission)[1])


@pytest.mark.parametrize("submission", RIGHT, ids=str)
def test_right_code_in_loops_carries_no_remark(submission):
    report = submission.report()
    assert (report.verdict, report.remarks) == ("right", ())


@pytest.mark.full
def test_most_mistakes_have_names_and_the_page_shows_them():
    assert len(WRONG) >= 60
    assert len(RIGHT) >= 60
    named = sum(bool(said(submission)[0]) for submission in WRONG)
    assert named >= 0.85 * len(WRONG)
    page = PAGE.read_text()
    print("\n".join(rows(WRONG)))
    assert "\n".join(rows(WRONG)) in page
    assert f"| names | {named} of {len(WRONG)} wrong ones |" in page
    assert f"| alarms | 0 of {len(RIGHT)} right ones |" in page
