"""Run tests as on a processor that nobody has: each product's last bit is another.

    LINCOLN_FN_PERTURBED=7 python -m pytest

Products, convolutions and sums of floats are rounded differently from processor to processor.
Here each element of their results is multiplied by 1 + s eps, where s in {-1, 0, 1} is drawn by a
hash of the operation, of the shapes and strides of its tensors, and of a seed. So the same code on
the same shapes gives the same bits, in every process that has the seed, and another way to the
same number does not. What such a run finds is a comparison of bits, or a tolerance too narrow,
that holds on the processor it was written on. A sum that is exact in any order stays what it is:
one of whole numbers, or of one term that counts.

The kernels of ATen's dispatcher are replaced, which C++ calls too. What Inductor and our own C++
compute inside of a loop is not perturbed: it is another way anyway.
"""

from __future__ import annotations

import math
import os
import warnings
import zlib
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

VARIABLE = "LINCOLN_FN_PERTURBED"
# All overloads that compute, also those that write into `out` or in place.
PRODUCTS = (
    *("mm", "mm.out", "bmm", "bmm.out", "addmm", "addmm.out", "addmm_"),
    *("baddbmm", "baddbmm.out", "baddbmm_", "mv", "addmv", "addmv.out", "addmv_", "dot", "vdot"),
    *("convolution", "convolution_backward"),
    *("var.correction", "std.correction", "var_mean.correction", "std_mean.correction"),
)
# `sum` and `mean` of all elements, `logsumexp` and `norm` call these.
REDUCTIONS = (
    *("sum.dim_IntList", "sum.IntList_out", "mean.dim", "mean.out", "linalg_vector_norm"),
    *("prod", "prod.dim_int"),
)
_LENGTH = 1 << 20
_registered: list[torch.library.Library] = []  # for as long as the process runs


@cache
def _signs(seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-1, 2, (_LENGTH,), generator=generator, dtype=torch.int8)


@cache
def _factors(seed: int, dtype: torch.dtype) -> Tensor:
    """Give 1 + s eps for many draws of s, of which each result takes a piece."""
    return 1 + _signs(seed).to(dtype) * torch.finfo(dtype).eps


@cache
def _start(seed: int, *of: object) -> int:
    return zlib.crc32(repr((seed, *of)).encode()) % (_LENGTH // 2)


def _perturb(seed: int, result: Tensor, of: tuple[object, ...], exact: Tensor | None) -> None:
    is_float = result.is_floating_point() or result.is_complex()
    if not is_float or not result.numel() or result._is_zerotensor():
        return
    dtype = result.real.dtype if result.is_complex() else result.dtype
    factors, start, n = _factors(seed, dtype), _start(seed, *of), result.numel()
    if start + n > _LENGTH:
        factors = factors.repeat(1 + n // _LENGTH + 1)
    factors = factors[start : start + n].view(result.shape)
    result.mul_(factors if exact is None else factors.masked_fill(exact, 1))


def _is_exact(x: Tensor, order: object = None, *_: object, n: int) -> bool:
    """Whether any order of sums gives the same: of one term, of whole numbers, of a largest one."""
    if n == x.numel() or order in (math.inf, -math.inf) or not x.is_floating_point():
        return not x.is_complex()
    return bool((x == x.round()).all())


def _largest(x: Tensor, dim: list[int] | None, keepdim: bool = False, **_: object) -> Tensor:
    """Give the largest terms. A sum that equals one has nothing else that counts."""
    return x.abs().amax(dim or (), keepdim)


def _replace(library: torch.library.Library, seed: int, name: str) -> None:
    kernel = torch.library.get_kernel(f"aten::{name}", "CPU")
    keys = torch._C.DispatchKeySet(torch._C.DispatchKey.CPU)
    operation = name.partition(".")[0].rstrip("_")

    def perturbed(*arguments: object, **keywords: object) -> object:
        shapes = [
            (one.dtype, *one.shape, *one.stride()) for one in arguments if isinstance(one, Tensor)
        ]
        results = kernel.call_boxed(keys, *arguments, **keywords)
        several = results if isinstance(results, tuple) else (results,)
        if name in REDUCTIONS and _is_exact(*arguments, n=several[0].numel()):
            return results
        exact = None
        if name == "sum.dim_IntList":
            exact = results.abs() == _largest(*arguments, **keywords)
        for i, result in enumerate(several):
            # The gradient of x does not depend on x, nor that of a filter on the filter.
            used = shapes[: i + 1] + shapes[i + 2 :] if name == "convolution_backward" else shapes
            if result is not None:
                _perturb(seed, result, (operation, i, *used), exact)
        return results

    library.impl(name, perturbed)


def perturb_products(seed: int) -> None:
    """Perturb this process from now on, and the processes of Python that it starts."""
    if _registered:
        return
    here = str(Path(__file__).parent)  # where `sitecustomize` is
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [here, *filter(None, [os.environ.get("PYTHONPATH")])]
    )
    library = torch.library.Library("aten", "IMPL", "CPU")
    _registered.append(library)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that kernels are replaced
        for name in PRODUCTS + REDUCTIONS:
            _replace(library, seed, name)


if seed := os.environ.get(VARIABLE):
    perturb_products(int(seed))
