"""A layer of two functions of numpy."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lincoln_fn.core import Arrays, Cache, Layer, LayerError, Params
from lincoln_fn.testing.follow import as_tensor


def from_numpy(
    forward: Callable[..., Any],  # Any: a course's functions, of arrays and options
    backward: Callable[..., Any] | None = None,
    /,
    **options: Any,
) -> Layer:
    """Make a layer of functions as courses write them, to be checked as they are.

    `forward(x, w, b, ...)` returns `(out, cache)`, or `(out, another, cache)` of several outputs;
    `backward(dout, cache)` returns the gradients of the arrays in their order. A function such as
    `softmax_loss(x, y)`, which returns `(loss, dx)`, has no `backward`. Arrays share their memory
    with the tensors, so that the checker sees what is changed in place.

    Args:
        forward: a function of arrays. The first is the layer's x, the others are its params.
        backward: its backward pass; None if `forward` returns the loss and its gradients.
        options: further arguments by name, such as `conv_param={"stride": 1, "pad": 0}` or labels.
            Each call has a copy.

    Returns:
        The layer. Its params are a tuple of the arrays after the first; its name is that of
        `forward`. Its functions are pure if yours are.

    Raises:
        LayerError: if forward or backward is not a function.

    Example:
        >>> def affine_forward(x, w, b):
        ...     return x @ w + b, (x, w)
        >>> def affine_backward(dout, cache):
        ...     x, w = cache
        ...     return dout @ w.T, x.T @ dout, dout.mean(0)
        >>> layer = from_numpy(affine_forward, affine_backward)
        >>> x, w = lf.keys.normal(lf.Key(0), (5, 3)), lf.keys.normal(lf.Key(1), (3, 4))
        >>> print(lf.testing.check_layer(layer, (w, torch.ones(4)), x, all=True).mistakes[0])
        affine_forward(): dparams.1 is 5 times too small: averaged where it should be summed?
    """
    for function in (forward, backward):
        if function is not None and not callable(function):
            raise LayerError("from_numpy", f"expected a function, got {function!r}")
    name = f"{getattr(forward, '__name__', 'forward')}()"

    def run(params: Params, x: Arrays) -> tuple[Arrays, Cache]:
        returned = forward(*map(_as_array, (x, *params)), **copy.deepcopy(options))
        if backward is None:
            value, *gradients = returned
            return _as_tensor(value), gradients
        *outputs, cache = returned
        y = tuple(map(_as_tensor, outputs))
        return y[0] if len(y) == 1 else y, cache

    def run_back(params: Params, cache: Cache, g: Arrays) -> tuple[Arrays, Params]:
        if backward is None:
            found = [gradient * g.item() for gradient in cache]
        else:
            gs = g if isinstance(g, tuple) else (g,)
            found = backward(*map(_as_array, gs), cache)
        gradients = found if isinstance(found, tuple | list) else (found,)
        dx, *dparams = map(_as_tensor, gradients)
        return dx, tuple(dparams)

    return Layer(name, run, run_back)


def _as_array(tensor: Tensor) -> Any:  # Any: numpy's array
    return tensor.detach().numpy()


def _as_tensor(value: Any) -> Any:  # Any: what is no array stays as it is
    value = as_tensor(value)
    if value is None or isinstance(value, Tensor):
        return value
    array = np.asarray(value)
    return torch.from_numpy(np.array(array)) if array.dtype.kind in "fiub" else value
