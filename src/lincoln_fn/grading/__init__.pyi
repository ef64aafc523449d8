from lincoln_fn.grading.cases import make_cases as make_cases
from lincoln_fn.grading.grade import grade as grade
from lincoln_fn.grading.record import (
    Grade as Grade, GradeError as GradeError, Grades as Grades, Mark as Mark,
    otter_results as otter_results,
)
