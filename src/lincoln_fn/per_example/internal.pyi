from lincoln_fn.per_example import forms as forms
from lincoln_fn.per_example.checks import (
    check_axes as check_axes, check_independent as check_independent, examples_in as examples_in,
)
from lincoln_fn.per_example.forms import windows as windows
from lincoln_fn.per_example.network import dx_and_terms as dx_and_terms
