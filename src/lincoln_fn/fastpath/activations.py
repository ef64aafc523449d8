"""Faster activations: ATen's kernels, which read and write every number once.

A formula of n operations passes n times over its tensors, and `torch.where` takes 3 ns for each
number. The table compares steps of plain SGD of the workload mlp, with each activation in place of
its sigmoid: the time with the kernel, divided by that with the formula, on one thread of a Zen 5.

    0.71 to 0.81    leaky_relu, hardshrink, relu, relu6, elu, selu
    0.84 to 0.89    softshrink, softplus, threshold, hardswish

Others gain less than a tenth, and have no row: sigmoid, hardtanh, hardsigmoid, softmax, log_softmax
and all else. silu has one for wide tensors, as language models have them: forward and backward by
themselves take 0.58 of the time for 64 by 128 numbers, 0.37 for 512 by 1,536, on one thread of a
Xeon with AMX.

ATen's kernel for gelu takes a fifth of the time of the function here, but has no correct digit
below x = -5. The function here keeps the slope p + x p' in place of x, because y and the slope need
the same p: a step takes 0.88 of its time for gpt-nano, 0.93 for gpt-pico, on one thread of a Xeon
with AMX.

MKL takes many times as long where e^u or erfc z is below the normal numbers. Here it is 0 there:
forward takes 1.1 ms in place of 12.8 for 768 by 512 numbers of scale 20. And a 0 makes no denormals
in the products that follow.
"""

from __future__ import annotations

import math
from functools import partial
from types import ModuleType
from typing import Final, Literal, NamedTuple

import attrs
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from lincoln_fn import core, layers
from lincoln_fn.core import check_cache, check_cotangent, check_input, declare, record
from lincoln_fn.fastpath.twin import Argument, Function, Twin, unless_transformed
from lincoln_fn.layers import gelu, selu, silu, softplus

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


@record
class GeluCache:
    """The slope p + x p'."""

    slope: Float[Tensor, "*s"]


@unless_transformed(gelu.forward)
def _gelu_forward(
    params: tuple[()], x: Tensor, *, approximate: Literal["none", "tanh"]
) -> tuple[Tensor, GeluCache]:
    """Compute y = x p, and the slope."""
    check_input("gelu", params, x)
    p = _gelu_p(x, approximate)
    if approximate == "tanh":
        # x p (1 - p) comes first: where it is 0, x^2 may have overflowed.
        slope = aten.sigmoid_backward(x, p)
        slope = slope.addcmul(slope * x, x, value=3 * gelu.CUBIC).mul_(gelu.SQRT_8_BY_PI)
    else:
        end = _end(x)
        slope = (x * x).mul_(-0.5).clamp_(min=end.u).exp_()
        slope = torch.threshold_(slope, end.least, 0).mul_(x).mul_(1 / math.sqrt(2 * math.pi))
    slope.add_(p)
    return p.mul_(x), GeluCache(slope)


@unless_transformed(gelu.backward, GeluCache)
def _gelu_backward(params: tuple[()], cache: GeluCache, g: Tensor) -> tuple[Tensor, tuple[()]]:
    """Compute dx = g (p + x p')."""
    check_cotangent("gelu", g, cache.slope)
    return g * cache.slope, ()


@unless_transformed(lambda params, x, **options: gelu.forward(params, x, **options)[0])
def _gelu_predict(params: tuple[()], x: Tensor, *, approximate: Literal["none", "tanh"]) -> Tensor:
    """Compute y = x p."""
    check_input("gelu", params, x)
    return _gelu_p(x, approximate).mul_(x)


def _gelu_p(x: Tensor, approximate: str) -> Tensor:
    if approximate == "tanh":
        return (x * x).mul_(gelu.CUBIC).add_(1).mul_(x * gelu.SQRT_8_BY_PI).sigmoid_()
    end = _end(x)
    twice = (x * -math.sqrt(0.5)).clamp_(max=end.z).erfc_()
    return torch.threshold_(twice, end.least, 0).mul_(0.5)


class _End(NamedTuple):
    """The u and z where e^u and erfc z end, and what they must exceed not to be taken for 0."""

    u: float
    z: float
    least: float


def _end(x: Tensor) -> _End:
    if x.dtype == torch.float64:
        return _End(-707.5, 26.53, 8e-308)
    return _End(-86.5, 9.15, 4e-38)


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
    _Kernels(layers.hardswish, aten.hardswish_backward, F.hardswish),
    _Kernels(silu, _silu_dx, F.silu),
    _Kernels(layers.hardshrink, lambda g, y: aten.hardshrink_backward(g, y, 0), F.hardshrink, True),
    _Kernels(layers.softshrink, lambda g, y: aten.softshrink_backward(g, y, 0), F.softshrink, True),
    _Kernels(layers.threshold, lambda g, c: aten.threshold_backward(g, c.x, c.threshold)),
)  # fmt: skip
# By the layer's name: a name can be pickled, and a kernel cannot.
KERNELS: Final = {row.formula.__name__.rpartition(".")[2]: row for row in _ROWS}
TWINS: Final = (
    *(
        Twin(row.formula, row.y and partial(_forward, name), partial(_backward, name))
        for name, row in KERNELS.items()
    ),
    Twin(gelu, _gelu_forward, _gelu_backward, _gelu_predict),
)
