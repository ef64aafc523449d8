from lincoln_fn.per_example import forms as forms
from lincoln_fn.per_example.forms import windows as windows
from lincoln_fn.per_example.network import (
    check_axes as check_axes, check_independent as check_independent, dx_and_terms as dx_and_terms,
    examples_in as examples_in, only as only,
)
