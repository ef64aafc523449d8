"""What is proven or measured, as a layer with its arguments; and `digits`, which measures it.

`digits` says how many digits of a layer's results survive its rounding. The layer runs in a dtype,
and each number that an operation rounds is changed in its last bit at random, as another processor
or another order of a sum would. In float64 the same layer has the true numbers. With the largest
difference in a few runs,

    digits = -log10((max |given - true|) / (max |true|))
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any, Final, NamedTuple, TypeAlias

import optree
import torch
from torch import Tensor, nn

from lincoln_fn import core
from lincoln_fn.combine import serial
from lincoln_fn.core import Arrays, Cache, Key, Layer, LayerError, Params, cast, keys, tree
from lincoln_fn.losses import Loss
from lincoln_fn.optim import Optimizer
from lincoln_fn.testing.check import as_layer
from lincoln_fn.testing.diagnosis import GradientError
from lincoln_fn.testing.exact.operations import ROUNDED, PlainMode
from lincoln_fn.testing.optimizer import step_of
from lincoln_fn.testing.oracles import differentiated
from lincoln_fn.testing.sample import Sample, Subject, floating, random_like, run_forward, sample

# Of torch: a function of tensors, or an `autograd.Function`.
Function: TypeAlias = Callable[..., Arrays] | type[torch.autograd.Function]
Differentiable: TypeAlias = Layer | Loss | tuple[Layer, Loss] | Optimizer | nn.Module | Function


def subject_of(
    name: str, of: Differentiable, params: Params, x: Arrays, dtype: torch.dtype
) -> Subject:
    """Make the layer of what may be proven, and convert its arguments; `name` asks, for errors."""
    params, x = cast((params, x), dtype)
    if isinstance(of, Optimizer):
        return Subject(*step_of(of, params, 2, Key(0)).as_layer())
    if isinstance(of, Loss):
        return Subject(as_layer(of, x), (), params)
    if isinstance(of, tuple):
        (net, loss), (x, target) = of, x
        return Subject(serial(net, as_layer(loss, target)), (params, ()), x)
    if isinstance(of, nn.Module):
        both = of.named_parameters(), of.named_buffers()
        own, fixed = (cast({key: t.detach() for key, t in named}, dtype) for named in both)
        layer = _by_engine(type(of).__name__, partial(_called, of, fixed))
        return Subject(layer, own, params)
    if core.is_function(of) and not core.is_constructor(of):
        call, called = getattr(of, "apply", of), getattr(of, "__name__", repr(of))
        return Subject(_by_engine(called, lambda _, x: call(*_arguments(x))), (), params)
    return Subject(core.check_argument(name, "subject", Layer, of), params, x)


def _called(module: nn.Module, fixed: dict[str, Tensor], params: Params, x: Arrays) -> Arrays:
    """Call a module with other parameters, and with buffers that it may change."""
    buffers = {name: each.clone() for name, each in fixed.items()}
    y: Arrays = torch.func.functional_call(module, (params, buffers), _arguments(x))
    return y


def _arguments(x: Arrays) -> tuple[Arrays, ...]:
    return x if isinstance(x, tuple) else (x,)


def _by_engine(name: str, call: Callable[[Params, Arrays], Arrays]) -> Layer:
    """Make a layer of a function of torch, whose backward is that of torch's engine."""

    def forward(params: Params, x: Arrays) -> tuple[Arrays, Cache]:
        return call(params, x), (params, x)

    def backward(params: Params, cache: Cache, g: Arrays) -> tuple[Arrays, Params]:
        _, arrays, rebuild = floating(*cache)
        found = differentiated(lambda moved: call(*rebuild(moved)), arrays, g)
        if found is None:
            raise core.LayerError(name, "torch's engine does not follow it")
        pairs = zip(arrays, found, strict=True)
        grads = rebuild([torch.zeros_like(a) if grad is None else grad for a, grad in pairs])
        dparams, dx = tree.map(lambda leaf: leaf if leaf.is_floating_point() else None, grads)
        return dx, dparams

    return Layer(name, forward, backward)


RUNS: Final = 3


class Digits(NamedTuple):
    """How many decimal digits are left, of 7.2 and of 2.4; nan if the layer does not run so."""

    float32: float
    bfloat16: float


class _LastBits(PlainMode):
    """While it is active, numbers that are rounded are changed in their last bit at random."""

    def __init__(self, key: Key) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's
        self._keys = (key.fold_in(i) for i in count())

    # Any: of every operation of torch.
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func.overloadpacket.__name__.rstrip("_") not in ROUNDED:
            return func(*args, **kwargs)
        given: Any = (args, kwargs)
        wide_args, wide_kwargs = optree.tree_map(_widened, given, none_is_leaf=True)
        wide = func(*wide_args, **wide_kwargs)
        made = func(*args, **kwargs)
        for each, exact in zip(optree.tree_leaves(made), optree.tree_leaves(wide), strict=True):
            if each.is_floating_point() and not each.is_meta:  # shapes alone, in forward mode
                signs = keys.bits(next(self._keys), tuple(each.shape)) % 3 - 1
                signs = torch.where(each == exact, 0, signs).to(each.dtype)
                each.mul_(1 + signs * torch.finfo(each.dtype).eps)
        return made


def _widened(argument: Any) -> Any:  # Any: of every operation of torch
    """Copy a tensor, which the operation may change, in float64."""
    if not isinstance(argument, Tensor):
        return argument
    return argument.to(torch.float64 if argument.is_floating_point() else argument.dtype, copy=True)


def digits(
    subject: Differentiable, params: Params, x: Arrays = None, *, key: Key = Key(0)
) -> dict[str, Digits]:
    """Measure how many digits of y and of each gradient survive rounding, in float32 and bfloat16.

    They are counted from the largest number of a leaf, -log10 of max |given - true| / max |true|,
    and are the least of a few runs, each of which changes the last bits at random. params and x,
    as the dtype has them, are exact. What overflows in the dtype has 0 digits.

    Args:
        subject: a layer, or another that `prove` takes with these arguments.

    Returns:
        By leaf: y, dx, and each of dparams.

    Example:
        >>> net = lf.serial(lf.shift(1e4), lf.shift(-1e4))  # of 10000 + x, 3 digits are x's
        >>> found = digits(net, ((), ()), torch.tensor([1 / 3, 2.0]))
        >>> round(found["y"].float32), round(found["dx"].float32)
        (3, 7)
    """
    wide = _surviving(subject, params, x, torch.float32, key)
    try:
        narrow = _surviving(subject, params, x, torch.bfloat16, key)
    except (GradientError, LayerError):  # it has no kernel, or the layer refuses it
        narrow = {}
    return {leaf: Digits(of, narrow.get(leaf, math.nan)) for leaf, of in wide.items()}


def _surviving(
    subject: Differentiable, params: Params, x: Arrays, dtype: torch.dtype, key: Key
) -> dict[str, float]:
    given = cast((params, x), dtype)
    low, true = (subject_of("digits", subject, *given, kind) for kind in (dtype, torch.float64))
    g = random_like(run_forward(*low)[0], key)
    # An output may have a dtype of its own.
    expected = _leaves(sample(*true, core.cast_like(g, run_forward(*true)[0])))
    found = dict.fromkeys(expected, math.inf)
    for i in range(RUNS):
        with _LastBits(key.fold_in(i)):
            results = _leaves(sample(*low, g))
        for leaf, result in results.items():
            found[leaf] = min(found[leaf], _equal_digits(result, expected[leaf]))
    return found


def _leaves(at: Sample) -> dict[str, Tensor]:
    ys = {name: leaf for name, leaf in core.named_leaves({"y": at.y}) if leaf.is_floating_point()}
    return ys | dict(zip(at.names, at.given, strict=True))


def _equal_digits(given: Tensor, true: Tensor) -> float:
    best = -math.log10(torch.finfo(given.dtype).eps / 2)
    if not true.numel():
        return best
    error = torch.where(given == true, 0.0, given - true).abs().max().item()
    size = torch.where(true.isfinite(), true, 0.0).abs().max().item()
    if not error:
        return best
    return min(max(math.log10(size / error), 0.0), best) if size > error else 0.0
