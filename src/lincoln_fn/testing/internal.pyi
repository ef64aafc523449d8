from lincoln_fn.testing.from_numpy import (
    as_array as as_array, from_numpy as from_numpy, returned as returned,
)
from lincoln_fn.testing.point import is_plainly_right as is_plainly_right
from lincoln_fn.testing.precision import Doubled as Doubled, FUNCTIONS as FUNCTIONS
from lincoln_fn.testing.diagnosis import (
    IN_PLACE as IN_PLACE, close_trees as close_trees, html_table as html_table,
    not_finite as not_finite,
)
from lincoln_fn.testing.run import Options as Options, checked as checked
from lincoln_fn.testing.sample import (
    doubled as doubled, floating as floating, on_copies as on_copies, random_like as random_like,
    sample as sample,
)
