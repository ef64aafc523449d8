"""What is proven or measured, as a layer with its arguments."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from lincoln_fn import core
from lincoln_fn.combine import serial
from lincoln_fn.core import Arrays, Cache, Key, Layer, Params, cast, tree
from lincoln_fn.losses import Loss
from lincoln_fn.optim import Optimizer
from lincoln_fn.testing.check import as_layer
from lincoln_fn.testing.optimizer import step_of
from lincoln_fn.testing.oracles import differentiated
from lincoln_fn.testing.sample import floating

# Of torch: a function of tensors, or an `autograd.Function`.
Function: TypeAlias = Callable[..., Arrays] | type[torch.autograd.Function]
Differentiable: TypeAlias = Layer | Loss | tuple[Layer, Loss] | Optimizer | nn.Module | Function


class Subject(NamedTuple):
    """A layer, or what is judged as one, and its arguments."""

    layer: Layer
    params: Params
    x: Arrays


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
        own, fixed = (
            cast({name: each.detach() for name, each in named}, dtype)
            for named in (of.named_parameters(), of.named_buffers())
        )
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
