"""Grades of layers that somebody else has written, files of courses, and assignments.

It stands on the checks of `lincoln_fn.testing`, where users find its names.
"""

from lincoln_fn.core.names import export_all as _export_all
from lincoln_fn.grading.cases import make_cases as make_cases
from lincoln_fn.grading.forms import otter_results as otter_results
from lincoln_fn.grading.grade import grade as grade
from lincoln_fn.grading.grades import Grades as Grades
from lincoln_fn.grading.record import Grade as Grade
from lincoln_fn.grading.record import GradeError as GradeError
from lincoln_fn.grading.record import Mark as Mark

_export_all(globals())
