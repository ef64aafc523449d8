"""A linear scan, h_t = a_t h_(t-1) + b_t, by a C++ kernel.

It computes one step after the other, and reads and writes each number once. Each thread computes
its own examples.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor

from lincoln_fn.compiler.inductor.threads import threads_for
from lincoln_fn.compiler.kernels.cpp_kernel import Plan, cpp_kernel


def _plan(a: Tensor, b: Tensor, first: Tensor, reverse: bool) -> Plan:
    batch, length, features = b.shape
    sizes = {"batch": batch, "length": length, "features": features, "reverse": reverse}
    return (torch.empty_like(b),), {**sizes, "threads": threads_for(batch)}


# a and b are (batch, length, features), and first (batch, features).
linear_scan: Final[Callable[[Tensor, Tensor, Tensor, bool], Tensor]] = cpp_kernel(
    "linear_scan_steps(Tensor a, Tensor b, Tensor first, bool reverse) -> Tensor",
    __file__,
    _plan,
)
