"""Checks of gradients, for your own layers and losses and for the library's, and grades."""

import importlib
import typing

from lincoln_fn.core.names import export_all as _export_all
from lincoln_fn.testing.check import check_layer as check_layer
from lincoln_fn.testing.check import check_loss as check_loss
from lincoln_fn.testing.diagnosis import GradientError as GradientError
from lincoln_fn.testing.from_numpy import from_numpy as from_numpy
from lincoln_fn.testing.optimizer import check_optimizer as check_optimizer
from lincoln_fn.testing.report import Finding as Finding
from lincoln_fn.testing.report import Report as Report

if typing.TYPE_CHECKING:
    from lincoln_fn.grading import Grade as Grade
    from lincoln_fn.grading import GradeError as GradeError
    from lincoln_fn.grading import Grades as Grades
    from lincoln_fn.grading import Mark as Mark
    from lincoln_fn.grading import make_cases as make_cases
    from lincoln_fn.grading import otter_results as otter_results
    from lincoln_fn.testing.grade import grade as grade

_export_all(globals())
# What users find here and `lincoln_fn.grading` makes: it is loaded when it is first named.
_GRADING = ("Grade", "GradeError", "Grades", "Mark", "grade", "make_cases", "otter_results")
__all__: list[str] = sorted([*globals()["__all__"], *_GRADING])


def __getattr__(name: str) -> object:
    if name in _GRADING:
        return getattr(importlib.import_module("lincoln_fn.grading"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_GRADING})
