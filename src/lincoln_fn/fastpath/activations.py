"""Faster activations: ATen's kernels, which read and write every number once.

A formula of n operations passes n times over its tensors, and `torch.where` takes 3 ns for each
number. The table compares steps of plain SGD of the workload mlp, with each activation in place of
its sigmoid: the time with the kernel, divided by that with the formula, on one thread of a Zen 5.

    0.71 to 0.81    leaky_relu, hardshrink, relu, relu6, elu, selu
    0.84 to 0.89    softshrink, softplus, threshold, hardswish

Others gain less than a tenth, and have no row. silu has one for wide tensors, as language models
have them: forward and backward by themselves take 0.58 of the time for 64 by 128 numbers, 0.37 for
512 by 1,536, on one thread of a Xeon with AMX.

gelu: ATen's kernels take a fifth of the formula's time. In float32, with eps = 2^-23, y is within
4 eps of max(1, |x|), and the slope within 4 eps, or by tanh within 16. Sums over units of a layer
need no more. Below x = -5, where |y| < 2e-6, no digit of y need be correct: the formula in
`layers/gelu.py` keeps them all. It also takes many times as long where e^u or erfc z is below the
normal numbers, for MKL is slow there.
"""

from __future__ import annotations

from functools import partial
from types import ModuleType
from typing import Final, NamedTuple

import attrs
import torch
import torch.nn.functional as F
from torch import Tensor

from lincoln_fn import core, layers
from lincoln_fn.core import check_cache, check_cotangent, check_input, declare
from lincoln_fn.fastpath.twin import Argument, Function, Twin
from lincoln_fn.layers import selu, silu, softplus

aten: Final = torch.ops.aten


class _Kernels(NamedTuple):
    """The kernels (g, cache) -> dx and (x, **options) -> y, None for the formula's own y."""

    # The cache is the formula's record, or else x, or y if `keeps_y`.

    formula: ModuleType
    dx: Function
    y: Function | None = None
    keeps_y: bool = False


def _forward(
    name: str, params: tuple[()], x: Tensor, **options: Argument
) -> tuple[Tensor, Argument]:
    check_input(name, params, x)
    formula, _, kernel, keeps_y = KERNELS[name]
    assert kernel is not None  # otherwise the layer keeps the formula's forward
    options = {**(formula.forward.__kwdefaults__ or {}), **options}
    y = kernel(x, **options)
    record = getattr(formula, "Cache", None)
    return y, record(x, **options) if record else y if keeps_y else x


# Here, since one function serves all of them.
declare(_forward, kind="activation")


def _backward(name: str, params: tuple[()], cache: Argument, g: Tensor) -> tuple[Tensor, tuple[()]]:
    formula, dx, _, _ = KERNELS[name]
    record = getattr(formula, "Cache", None)
    if record:
        check_cache(name, cache, record)
        check_cotangent(name, g, getattr(cache, attrs.fields(record)[0].name))
    else:
        check_cotangent(name, g, cache)
    return dx(g, cache), ()


def _gelu_dx(g: Tensor, cache: layers.gelu.Cache) -> Tensor:
    """Compute dx. Past 50 the slope is 0 or 1; the kernel by tanh gives nan where x^2 overflows."""
    x = cache.x.clamp(-50, 50) if cache.approximate == "tanh" else cache.x
    dx: Tensor = aten.gelu_backward(g, x, approximate=cache.approximate)
    return dx


def _silu_dx(g: Tensor, x: Tensor) -> Tensor:
    """Compute dx; the kernel has no derivative in forward mode."""
    return silu.backward((), x, g)[0] if core.is_transformed(g, x) else aten.silu_backward(g, x)


def _exact(bx: float) -> float:
    return min(bx, softplus.EXACT_PAST)


_ROWS: Final = (
    _Kernels(layers.relu, lambda g, y: aten.threshold_backward(g, y, 0)),
    _Kernels(layers.relu6, lambda g, y: aten.hardtanh_backward(g, y, 0, 6)),
    _Kernels(layers.leaky_relu,
        lambda g, c: aten.leaky_relu_backward(g, c.x, c.negative_slope, False), F.leaky_relu),
    _Kernels(layers.elu, lambda g, c: aten.elu_backward(g, c.alpha, 1, 1, False, c.x), F.elu),
    _Kernels(layers.selu, lambda g, x: aten.elu_backward(g, selu.ALPHA, selu.SCALE, 1, False, x),
        torch.selu),
    _Kernels(softplus, lambda g, c: aten.softplus_backward(g, c.x, c.beta, _exact(c.threshold)),
        lambda x, beta, threshold: F.softplus(x, beta, _exact(threshold))),
    _Kernels(layers.gelu, _gelu_dx, F.gelu),
    _Kernels(layers.hardswish, aten.hardswish_backward, F.hardswish),
    _Kernels(silu, _silu_dx, F.silu),
    _Kernels(layers.hardshrink, lambda g, y: aten.hardshrink_backward(g, y, 0), F.hardshrink, True),
    _Kernels(layers.softshrink, lambda g, y: aten.softshrink_backward(g, y, 0), F.softshrink, True),
    _Kernels(layers.threshold, lambda g, c: aten.threshold_backward(g, c.x, c.threshold)),
)  # fmt: skip
# By the layer's name: a name can be pickled, and a kernel cannot.
KERNELS: Final = {row.formula.__name__.rpartition(".")[2]: row for row in _ROWS}
TWINS: Final = tuple(
    Twin(row.formula, row.y and partial(_forward, name), partial(_backward, name))
    for name, row in KERNELS.items()
)
