"""Checks of gradients, for your own layers and losses and for the library's, and grades."""

from lincoln_fn.testing.check import check_layer, check_loss
from lincoln_fn.testing.diagnosis import GradientError
from lincoln_fn.testing.grade import grade
from lincoln_fn.testing.grading.cases import make_cases
from lincoln_fn.testing.grading.forms import otter_results
from lincoln_fn.testing.grading.record import Grade, GradeError, Mark
from lincoln_fn.testing.report import Finding, Report

__all__ = [
    "Finding",
    "Grade",
    "GradeError",
    "GradientError",
    "Mark",
    "Report",
    "check_layer",
    "check_loss",
    "grade",
    "make_cases",
    "otter_results",
]
