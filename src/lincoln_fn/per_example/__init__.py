"""Quantities of single examples, in one walk back.

    gradients       d_n
    squared_norms   ||d_n||^2
    gram            <d_n, d_m>
    weighted_sum    sum_n w_n d_n
    second_moment   1/N sum_n d_n^2
    variance        1/N sum_n d_n^2 - (1/N sum_n d_n)^2
    clipped         the gradient of DP-SGD, for `make_step(..., gradient=...)`

d_n is the gradient of example n's part of the loss. `net.grads` is their sum.
"""

from lincoln_fn.core.names import export_all as _export_all
from lincoln_fn.per_example.clipping import clipped as clipped
from lincoln_fn.per_example.quantities import gradients as gradients
from lincoln_fn.per_example.quantities import gram as gram
from lincoln_fn.per_example.quantities import second_moment as second_moment
from lincoln_fn.per_example.quantities import squared_norms as squared_norms
from lincoln_fn.per_example.quantities import variance as variance
from lincoln_fn.per_example.quantities import weighted_sum as weighted_sum

_export_all(globals())
