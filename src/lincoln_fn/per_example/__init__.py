"""Quantities of single examples, in one walk back.

    gradients       d_n
    squared_norms   ||d_n||^2
    gram            <d_n, d_m>
    weighted_sum    sum_n w_n d_n
    second_moment   1/N sum_n d_n^2
    variance        1/N sum_n d_n^2 - (1/N sum_n d_n)^2
    clipped         the gradient of DP-SGD, for `make_step(..., gradient=...)`
    noise_scale     the gradient itself, beside how noisy it is, for the same
    with_noise      the noise of each step of a run, by path

d_n is the gradient of example n's part of the loss. `net.grads` is their sum.
"""

from lincoln_fn.faces import face

face(__name__)
