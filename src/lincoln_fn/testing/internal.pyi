from lincoln_fn.testing import blame as blame
from lincoln_fn.testing.follow import as_tensor as as_tensor
from lincoln_fn.testing.functions import close_trees as close_trees
from lincoln_fn.testing.held import copies as copies, on_copies as on_copies
from lincoln_fn.testing.plain import is_plainly_right as is_plainly_right
from lincoln_fn.testing.precision import Doubled as Doubled, FUNCTIONS as FUNCTIONS
from lincoln_fn.testing.purity import not_finite as not_finite
from lincoln_fn.testing.report import html_table as html_table
from lincoln_fn.testing.run import IN_PLACE as IN_PLACE
from lincoln_fn.testing.sample import (
    doubled as doubled, floating as floating, random_like as random_like,
    run_backward as run_backward, run_forward as run_forward, sample as sample,
)
