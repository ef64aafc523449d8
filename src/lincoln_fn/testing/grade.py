"""`python -m lincoln_fn.testing.grade cs231n layers.py` grades files of a course as they are."""

from lincoln_fn.grading.courses.graded import main
from lincoln_fn.grading.grade import grade as grade

if __name__ == "__main__":
    main()
