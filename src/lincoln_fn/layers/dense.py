"""Dense layer: y = x W + b, on the last axis of x.

Derivation. For one row, y_j = sum_i x_i W_ij + b_j, so

    dL/dx_i  = sum_j g_j W_ij          dx = g W^T
    dL/dW_ij = x_i g_j                 dW = x^T g, which sums over the rows
    dL/db_j  = g_j                     db = the sum of g over the rows

where every axis of x but the last counts rows. Cache: x.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn.initializers import Fans, Initializer
from lincoln_fn.keys import Key
from lincoln_fn.layers._product import add_outer, laid_out, linear, outer
from lincoln_fn.record import brief, record
from lincoln_fn.shapes import LayerError, check_cotangent, check_input, check_like, check_params


@record
class Params:
    """The matrix W, applied from the right, and the bias b, or None for a layer without one."""

    weight: Float[Tensor, "n_in n_out"]
    bias: Float[Tensor, " n_out"] | None


def init(
    key: Key,
    x: Float[Tensor, "*batch n_in"],
    *,
    n_out: int,
    bias: bool,
    weight_init: Initializer,
    bias_init: Initializer,
) -> Params:
    """Make parameters for inputs like x.

    Args:
        key: what the initial values are drawn from.
        x: an example input, of which only shape, dtype and device count.
        n_out: the number of features of y.
        bias: whether there is a bias.
        weight_init: draws the weight.
        bias_init: draws the bias.

    Returns:
        The parameters, in x's dtype and on its device. A weight that is large, or of few outputs,
        lies by columns in memory.

    Raises:
        LayerError: if x is not a floating tensor with at least one axis.
    """
    name = f"dense({n_out})"
    check_input(name, (), x)
    if x.ndim == 0:
        raise LayerError(name, "expected x of shape (..., n_in), got ()")
    fans = Fans(x.shape[-1], n_out)
    weight_key, bias_key = key.near(x).split()
    return Params(
        laid_out(weight_init.draw(weight_key, (x.shape[-1], n_out), fans, x.dtype)),
        bias_init.draw(bias_key, (n_out,), fans, x.dtype) if bias else None,
    )


def forward(
    params: Params, x: Float[Tensor, "*batch n_in"]
) -> tuple[Float[Tensor, "*batch n_out"], Float[Tensor, "*batch n_in"]]:
    """Compute y = x W + b.

    Args:
        params: weight and bias.
        x: of shape (..., n_in), any number of leading axes.

    Returns:
        y of shape (..., n_out), and the cache x.

    Raises:
        LayerError: if x is not a floating tensor of shape (..., n_in) with the weight's dtype and
            device, or params are another layer's.

    Example:
        >>> params = Params(torch.tensor([[1.0], [2.0]]), torch.tensor([3.0]))
        >>> forward(params, torch.tensor([[10.0, 100.0]]))[0]
        tensor([[213.]])
    """
    check_input("dense", params, x, Params)
    check_like("dense", "x", x, params.weight)
    n_in, n_out = params.weight.shape
    if x.shape[-1:] != (n_in,):
        raise LayerError(
            f"dense({n_out})", f"expected x of shape (..., {n_in}), got {tuple(x.shape)}"
        )
    return linear(x, params.weight.mT, params.bias), x


def backward(
    params: Params, cache: Float[Tensor, "*batch n_in"], g: Float[Tensor, "*batch n_out"]
) -> tuple[Float[Tensor, "*batch n_in"], Params]:
    """Compute dx as `input_grad` does, and dparams as `grads` does.

    Args:
        params: those given to `forward`.
        cache: what `forward` returned.
        g: dL/dy, of y's shape.

    Returns:
        dx and dparams.

    Raises:
        LayerError: if g or the cache do not fit the parameters.

    Example:
        >>> params = Params(torch.tensor([[1.0], [2.0]]), torch.tensor([3.0]))
        >>> backward(params, torch.tensor([[10.0, 100.0]]), torch.tensor([[7.0]]))[0]
        tensor([[ 7., 14.]])
    """
    dparams = grads(params, cache, g)
    return linear(g, params.weight), dparams


def input_grad(
    params: Params, cache: Float[Tensor, "*batch n_in"], g: Float[Tensor, "*batch n_out"]
) -> Float[Tensor, "*batch n_in"]:
    """Compute dx = g W^T, without dparams.

    Args:
        params: those given to `forward`.
        cache: what `forward` returned.
        g: dL/dy, of y's shape.

    Returns:
        dx of x's shape.

    Raises:
        LayerError: if g or the cache do not fit the parameters.

    Example:
        >>> params = Params(torch.tensor([[1.0], [2.0]]), torch.tensor([3.0]))
        >>> input_grad(params, torch.tensor([[10.0, 100.0]]), torch.tensor([[7.0]]))
        tensor([[ 7., 14.]])
    """
    _check_backward(params, cache, g)
    return linear(g, params.weight)


def grads(
    params: Params, cache: Float[Tensor, "*batch n_in"], g: Float[Tensor, "*batch n_out"]
) -> Params:
    """Compute dW = x^T g and db = sum of g over the rows, without dx.

    Args:
        params: those given to `forward`.
        cache: what `forward` returned.
        g: dL/dy, of y's shape.

    Returns:
        dparams.

    Raises:
        LayerError: if g or the cache do not fit the parameters.

    Example:
        >>> params = Params(torch.tensor([[1.0], [2.0]]), torch.tensor([3.0]))
        >>> grads(params, torch.tensor([[10.0, 100.0]]), torch.tensor([[7.0]])).weight
        tensor([[ 70.],
                [700.]])
    """
    _check_backward(params, cache, g)
    x_rows, g_rows = _rows(cache), _rows(g)
    dweight = outer(x_rows, g_rows, like=params.weight)
    return Params(dweight, None if params.bias is None else g_rows.sum(0))


def descend(
    params: Params,
    cache: Float[Tensor, "*batch n_in"],
    g: Float[Tensor, "*batch n_out"],
    rate: float,
    *,
    donate: bool = False,
) -> Params:
    """Compute W - rate x^T g and b - rate db, the product added to W as it is made.

    Args:
        params: those given to `forward`.
        cache: what `forward` returned.
        g: dL/dy, of y's shape.
        rate: the step along the negative gradient.
        donate: whether params may be written over.

    Returns:
        The new parameters; of donated ones, in the same memory.

    Raises:
        LayerError: if g or the cache do not fit the parameters.

    Example:
        >>> params = Params(torch.tensor([[1.0], [2.0]]), torch.tensor([3.0]))
        >>> descend(params, torch.tensor([[10.0, 100.0]]), torch.tensor([[7.0]]), 0.5).bias
        tensor([-0.5000])
    """
    _check_backward(params, cache, g)
    x_rows, g_rows = _rows(cache), _rows(g)
    weight, bias = params.weight, params.bias
    if bias is not None:
        bias = torch.sub(bias, g_rows.sum(0), alpha=rate, out=bias.detach() if donate else None)
    return Params(add_outer(weight, x_rows, g_rows, -rate, donate=donate), bias)


def _rows(x: Tensor) -> Tensor:
    return x if x.ndim == 2 else x.reshape(-1, x.shape[-1])


def _check_backward(params: Params, cache: Tensor, g: Tensor) -> None:
    check_params("dense", params, Params)
    n_in, n_out = params.weight.shape
    if not isinstance(cache, Tensor) or cache.shape[-1:] != (n_in,):
        raise LayerError(
            f"dense({n_out})",
            f"expected the cache of its own forward, x of shape (..., {n_in}), got {brief(cache)}",
        )
    check_cotangent(f"dense({n_out})", g, cache, (*cache.shape[:-1], n_out))
