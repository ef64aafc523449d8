"""The cases that lf.fast changes."""

import lincoln_fn as lf
from helpers.cases import CASES
from helpers.cases.case import Case, normal

LARGE = [
    Case(lf.dense(500), normal(256, 300), note="large"),
    Case(lf.dense(10), normal(256, 300), note="large and narrow"),
    Case(lf.conv2d(16, 3, padding=1), normal(8, 8, 20, 20), note="large"),
    Case(lf.lstm(32), normal(16, 12, 24), note="large"),
    Case(lf.multi_head_attention(4), normal(4, 40, 32), note="large"),
]


def changed(layer):
    """Return whether `fast` makes another layer of a layer."""
    fast = lf.fast(layer)
    names = ("forward", "backward", "predict", "input_grad", "grads")
    return any(getattr(fast, name) != getattr(layer, name) for name in names)


ROWS = [case for case in [*CASES, *LARGE] if changed(case.layer)]
