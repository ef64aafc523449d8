"""Checks of gradients, for your own layers and losses and for the library's, and grades."""

import warnings

from lincoln_fn.testing.check import check_layer, check_loss
from lincoln_fn.testing.diagnosis import GradientError
from lincoln_fn.testing.from_numpy import from_numpy
from lincoln_fn.testing.grade import grade
from lincoln_fn.testing.grading.cases import make_cases
from lincoln_fn.testing.grading.forms import otter_results
from lincoln_fn.testing.grading.grades import Grades
from lincoln_fn.testing.grading.record import Grade, GradeError, Mark
from lincoln_fn.testing.optimizer import check_optimizer
from lincoln_fn.testing.report import Finding, Report

__all__ = [
    "Finding",
    "Grade",
    "GradeError",
    "Grades",
    "GradientError",
    "Mark",
    "Report",
    "check_layer",
    "check_loss",
    "check_optimizer",
    "from_numpy",
    "grade",
    "make_cases",
    "otter_results",
]

# `python -m lincoln_fn.testing.grade` runs a module that this package has imported already.
warnings.filterwarnings(
    "ignore", ".*lincoln_fn.testing.grade.* found in sys.modules", RuntimeWarning
)
