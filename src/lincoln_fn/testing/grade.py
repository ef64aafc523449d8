"""`python -m lincoln_fn.testing.grade cs231n layers.py` grades files of a course as they are."""

import sys

from lincoln_fn.grading import grade as grade
from lincoln_fn.grading.courses.command import main

if __name__ == "__main__":
    main()
else:
    # The import of a file binds its name in the package: to the function, which users call.
    sys.modules[__name__] = grade  # type: ignore[assignment]  # no module
