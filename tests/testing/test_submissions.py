"""A table of submissions: every mistake is caught, most are named, no right one is refused."""

import re
from functools import partial

import pytest
from helpers.submissions import loops, planted
from helpers.submissions.table import RIGHT, WRONG, said

from lincoln_fn.grading.grade import MISTAKES

# It is caught, and has neither a name nor a line.
UNNAMED = "two layers: the last row left out"


@pytest.mark.full(but=("sign",))
@pytest.mark.parametrize("submission", WRONG, ids=str)
def test_a_mistake_is_caught_and_never_misnamed(submission):
    name, sentence = said(submission)
    assert re.search(submission.says, sentence)
    assert not re.search(r"wrong in 0 of|\b1 times", sentence)
    assert bool(name) == (str(submission) != UNNAMED)
    assert name in {"", "another default of g", *MISTAKES}  # of a loss, which `grade` does not take


@pytest.mark.full
def test_each_gradient_of_a_mistake_in_several_has_its_name():
    (overwritten,) = (s for s in WRONG if str(s) == "rnn: gradients overwritten")
    # The first state is zero, and so is dU at it.
    assert [m.name for m in overwritten.report().mistakes] == ["one use", "zero", "one use"]


@pytest.mark.whole
@pytest.mark.parametrize("submission", RIGHT, ids=str)
def test_right_code_written_in_another_way_is_right(submission):
    assert submission.report().mistakes == ()


@pytest.mark.full
@pytest.mark.parametrize(("mistakes", "least"), [
    (partial(planted.strange, 1), 60), (partial(planted.strange, 2), 60), (planted.twice, 56),
], ids=["in a strange layer", "two in a strange layer", "two mutants of right code"])  # fmt: skip
def test_of_planted_mistakes_most_are_told(mistakes, least):
    made = mistakes()
    assert len(made) >= least
    assert sum(one.is_told() for one in made) >= 0.7 * len(made)


@pytest.mark.full(but=("gated norm in numpy", "walker"))
@pytest.mark.parametrize("right", planted.RIGHT, ids=str)
def test_a_strange_layer_is_right(right):
    assert right.report().mistakes == ()


@pytest.mark.full(but=("affine", "rnn: 1 - y"))
@pytest.mark.parametrize("submission", loops.WRONG, ids=str)
def test_a_mistake_in_loops_is_caught_and_never_misnamed(submission):
    name, sentence = said(submission)
    assert re.search(submission.says, sentence)
    # Backward returns what forward keeps as its gradient: there is no line to tell.
    assert bool(name) == (str(submission) != "cross-entropy: not normalised")


@pytest.mark.parametrize("submission", loops.RIGHT, ids=str)
def test_right_code_in_loops_carries_no_remark(submission):
    report = submission.report()
    assert (report.verdict, report.remarks) == ("right", ())
