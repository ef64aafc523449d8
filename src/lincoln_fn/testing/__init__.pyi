from lincoln_fn.grading import (
    Grade as Grade, GradeError as GradeError, Grades as Grades, Mark as Mark,
    make_cases as make_cases, otter_results as otter_results,
)
from lincoln_fn.testing.check import check_layer as check_layer, check_loss as check_loss
from lincoln_fn.testing.diagnosis import (
    Finding as Finding, GradientError as GradientError, Proof as Proof, Refutation as Refutation,
    Report as Report, Undecided as Undecided,
)
from lincoln_fn.testing.subject import Digits as Digits, digits as digits
from lincoln_fn.testing.from_numpy import from_numpy as from_numpy
from lincoln_fn.testing.functions.check import (
    check_function as check_function, check_vjp as check_vjp,
)
from lincoln_fn.testing.grade import grade as grade
from lincoln_fn.testing.optimizer import check_optimizer as check_optimizer
from lincoln_fn.testing.prove import prove as prove
