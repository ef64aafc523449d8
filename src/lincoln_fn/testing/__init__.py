"""Checks of gradients, for your own layers and losses and for the library's, and grades."""

import warnings

from lincoln_fn.core.names import export_all as _export_all
from lincoln_fn.testing.check import check_layer as check_layer
from lincoln_fn.testing.check import check_loss as check_loss
from lincoln_fn.testing.diagnosis import GradientError as GradientError
from lincoln_fn.testing.from_numpy import from_numpy as from_numpy
from lincoln_fn.testing.grade import grade as grade
from lincoln_fn.testing.grading.cases import make_cases as make_cases
from lincoln_fn.testing.grading.forms import otter_results as otter_results
from lincoln_fn.testing.grading.grades import Grades as Grades
from lincoln_fn.testing.grading.record import Grade as Grade
from lincoln_fn.testing.grading.record import GradeError as GradeError
from lincoln_fn.testing.grading.record import Mark as Mark
from lincoln_fn.testing.optimizer import check_optimizer as check_optimizer
from lincoln_fn.testing.report import Finding as Finding
from lincoln_fn.testing.report import Report as Report

_export_all(globals())

# `python -m lincoln_fn.testing.grade` runs a module that this package has imported already.
warnings.filterwarnings(
    "ignore", ".*lincoln_fn.testing.grade.* found in sys.modules", RuntimeWarning
)
