"""Pairs of functions of arrays, forward and backward, as functions of torch."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import attrs
import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lincoln_fn.core import describe
from lincoln_fn.testing.diagnosis import GradientError
from lincoln_fn.testing.from_numpy import as_tensor
from lincoln_fn.testing.functions.function import (
    Function,
    function_of,
    gradient_of,
    names_of,
    shape_told,
)


class Pair(NamedTuple):
    """A forward, (inputs) -> (y, saved), and a backward, (saved, g) -> gradients."""

    forward: Callable[..., Any]
    backward: Callable[..., Any]
    # A `jax.custom_vjp` of which the two were made.
    of: Callable[..., Any] | None = None


def pair_of_vjp(f: object) -> Pair | None:
    """Make a pair of a `jax.custom_vjp`; None if it is none."""
    jax: Any = sys.modules.get("jax")
    if jax is None or not isinstance(f, jax.custom_vjp):
        return None
    of: Any = f
    return Pair(lambda *inputs: jax.vjp(of, *inputs), lambda pull, g: pull(g), of)


def function_of_pair(pair: Pair, inputs: Sequence[Any]) -> Function:
    """Make the function that torch's engine differentiates by a pair."""
    of = pair.of or pair.forward
    to_arrays: Callable[[Any], Any] = _to_numpy
    precisely: Callable[[Sequence[object]], AbstractContextManager[object]] = nullcontext
    if any(map(_is_of_jax, (of, *inputs))):
        to_arrays, precisely = _to_jax, _x64_of_jax
    elif any(isinstance(value, Tensor) for value in inputs):
        to_arrays = _detached
    names = names_of(of, len(inputs))

    def forward(*tensors: Any) -> tuple[bool, tuple[Any, ...], Any]:
        with precisely(tensors):
            result = pair.forward(*map(to_arrays, tensors))
        if not isinstance(result, tuple) or len(result) != 2:
            raise TypeError(f"expected forward to return (y, saved), got {describe(result)}")
        is_one = not isinstance(result[0], tuple | list)
        return is_one, tuple(map(_tensor, result[:1] if is_one else result[0])), result[1]

    class Both(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *tensors: Any) -> Any:
            ctx.is_one, y, ctx.saved = forward(*tensors)
            ctx.kinds = [(t.shape, t.dtype) if isinstance(t, Tensor) else None for t in tensors]
            return y[0] if ctx.is_one else y

        @staticmethod
        @once_differentiable
        def backward(ctx: Any, *g: Tensor) -> Any:
            with precisely(g):
                arrays = tuple(map(to_arrays, g))
                grads = pair.backward(ctx.saved, arrays[0] if ctx.is_one else arrays)
            return _checked(names, ctx.kinds, grads)

    made = function_of(Both, [_tensor(each) if _is_array(each) else each for each in inputs])
    own, back = (getattr(f, "__name__", type(f).__name__) for f in (of, pair.backward))
    return attrs.evolve(
        made, name=own if pair.of else f"{back} of {own}", names=names, backward=pair.backward,
        forward=lambda *tensors: forward(*tensors)[1],
    )  # fmt: skip


def _checked(names: Sequence[str], kinds: Sequence[Any], grads: Any) -> tuple[Tensor | None, ...]:
    """Convert the gradients of all inputs, and check their shapes and dtypes."""
    grads = list(grads) if isinstance(grads, tuple | list) else [grads]
    floating = [kind is not None and kind[1].is_floating_point for kind in kinds]
    if len(grads) == sum(floating) != len(kinds):
        each = iter(grads)
        grads = [next(each) if is_due else None for is_due in floating]
    if len(grads) != len(kinds):
        raise GradientError(f"backward returns {len(grads)} gradients for {len(kinds)} inputs")
    pairs = zip(grads, floating, strict=True)
    found = [_tensor(grad) if is_due and grad is not None else None for grad, is_due in pairs]
    for name, kind, grad in zip(names, kinds, found, strict=True):
        if grad is not None and grad.shape != kind[0]:
            raise GradientError(f"{gradient_of(name)} {shape_told(grad.shape, kind[0])}")
        if grad is not None and grad.dtype != kind[1]:
            told = f"{gradient_of(name)} has dtype {grad.dtype}, expected {kind[1]}"
            raise GradientError(told.replace("torch.", ""))
    return tuple(found)


def _detached(value: Any) -> Any:
    return value.detach() if isinstance(value, Tensor) else value


def _to_numpy(value: Any) -> Any:
    return value.detach().numpy() if isinstance(value, Tensor) else value


def _to_jax(value: Any) -> Any:
    jax: Any = sys.modules["jax"]
    return jax.numpy.asarray(_to_numpy(value)) if isinstance(value, Tensor) else value


def _x64_of_jax(tensors: Sequence[object]) -> AbstractContextManager[object]:
    jax: Any = sys.modules["jax"]  # Any: its versions have it in two places
    is_needed = any(isinstance(t, Tensor) and t.dtype is torch.float64 for t in tensors)
    enable = jax.enable_x64 if hasattr(jax, "enable_x64") else jax.experimental.enable_x64
    return enable(True) if is_needed else nullcontext()


def _tensor(array: Any) -> Tensor:
    found = as_tensor(array)
    return found if isinstance(found, Tensor) else torch.from_numpy(np.array(array))


def _is_array(value: object) -> bool:
    return isinstance(value, np.ndarray) or _is_of_jax(value)


def _is_of_jax(value: object) -> bool:
    # What is of jax exists only if somebody has imported it.
    jax: Any = sys.modules.get("jax")
    return jax is not None and isinstance(value, jax.Array | jax.custom_vjp)
