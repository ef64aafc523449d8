"""Bilinear layer: y_k = sum_ij u_i A_kij v_j + b_k, on the last axes of two inputs x = (u, v).

Derivation. For one row,

    dL/du_i   = sum_kj g_k A_kij v_j = sum_k g_k q_ki,    q_ki = sum_j A_kij v_j
    dL/dv_j   = sum_ki p_ki A_kij,                        p_ki = g_k u_i
    dL/dA_kij = p_ki v_j                                  which sums over the rows
    dL/db_k   = g_k                                       which sums over the rows

where every axis of u and v but the last counts rows. With (k, i) as one axis of A, of q and of p,
each sum over j or over (k, i) is one matrix product: q = v A^T, dv = p A, dA = p^T v. The forward
pass computes y_k = sum_i u_i q_ki + b_k. Cache: x.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn.initializers import Fans, Initializer
from lincoln_fn.keys import Key
from lincoln_fn.record import brief, record
from lincoln_fn.shapes import LayerError, check_cotangent, check_input, check_like, check_params

Inputs = tuple[Float[Tensor, "*batch n_u"], Float[Tensor, "*batch n_v"]]


@record
class Params:
    """The matrices A, one for each output, and the bias b, or None for a layer without one."""

    weight: Float[Tensor, "n_out n_u n_v"]
    bias: Float[Tensor, " n_out"] | None


def init(
    key: Key,
    x: Inputs,
    *,
    out_features: int,
    bias: bool,
    weight_init: Initializer,
    bias_init: Initializer,
) -> Params:
    """Make parameters for inputs like x.

    Args:
        key: what the initial values are drawn from.
        x: example inputs, of which only shape, dtype and device count.
        out_features: the number of features of y.
        bias: whether there is a bias.
        weight_init: draws the weight; the fan-in is the number of features of u, as in torch.
        bias_init: draws the bias.

    Returns:
        The parameters, in the inputs' dtype and on their device.

    Raises:
        LayerError: if x is not two floating tensors of shapes (..., n_u) and (..., n_v).
    """
    u, v = _check_inputs((), x, None)
    fans = Fans(u.shape[-1], out_features)
    weight_key, bias_key = key.near(u).split()
    shape = (out_features, u.shape[-1], v.shape[-1])
    return Params(
        weight_init.draw(weight_key, shape, fans, u.dtype),
        bias_init.draw(bias_key, (out_features,), fans, u.dtype) if bias else None,
    )


def forward(params: Params, x: Inputs) -> tuple[Float[Tensor, "*batch n_out"], Inputs]:
    """Compute y_k = sum_ij u_i A_kij v_j + b_k.

    Args:
        params: weight and bias.
        x: u of shape (..., n_u) and v of shape (..., n_v), any number of equal leading axes.

    Returns:
        y of shape (..., n_out), and the cache x.

    Raises:
        LayerError: if x is not two floating tensors of those shapes with the weight's dtype and
            device, or params are another layer's.

    Example:
        >>> params = Params(torch.tensor([[[1.0, 2.0]]]), torch.tensor([3.0]))
        >>> forward(params, (torch.tensor([10.0]), torch.tensor([1.0, 1.0])))[0]
        tensor([33.])
    """
    u, v = _check_inputs(params, x, Params)
    check_like("bilinear", "u", u, params.weight)
    n_out, n_u, n_v = params.weight.shape
    if u.shape[-1] != n_u or v.shape[-1] != n_v:
        wanted = f"expected x of shapes (..., {n_u}) and (..., {n_v})"
        raise LayerError(f"bilinear({n_out})", f"{wanted}, got {_shapes(x)}")
    y = (_q(params, v) @ u.unsqueeze(-1)).squeeze(-1)
    return y if params.bias is None else y + params.bias, x


def backward(
    params: Params, cache: Inputs, g: Float[Tensor, "*batch n_out"]
) -> tuple[Inputs, Params]:
    """Compute dx as `input_grad` does, and dparams as `grads` does.

    Args:
        params: those given to `forward`.
        cache: what `forward` returned.
        g: dL/dy, of y's shape.

    Returns:
        dx, a tuple of du and dv, and dparams.

    Raises:
        LayerError: if g or the cache do not fit the parameters.

    Example:
        >>> params = Params(torch.tensor([[[1.0, 2.0]]]), torch.tensor([3.0]))
        >>> cache = (torch.tensor([10.0]), torch.tensor([1.0, 1.0]))
        >>> backward(params, cache, torch.tensor([1.0]))[0]
        (tensor([3.]), tensor([10., 20.]))
    """
    p = _p(params, cache, g)
    return _dx(params, cache, g, p), _dparams(params, cache, g, p)


def input_grad(params: Params, cache: Inputs, g: Float[Tensor, "*batch n_out"]) -> Inputs:
    """Compute du_i = sum_k g_k q_ki and dv_j = sum_ki p_ki A_kij, without dparams.

    Args:
        params: those given to `forward`.
        cache: what `forward` returned.
        g: dL/dy, of y's shape.

    Returns:
        dx, a tuple of du and dv.

    Raises:
        LayerError: if g or the cache do not fit the parameters.
    """
    return _dx(params, cache, g, _p(params, cache, g))


def grads(params: Params, cache: Inputs, g: Float[Tensor, "*batch n_out"]) -> Params:
    """Compute dA = p^T v and db = sum of g over the rows, without dx.

    Args:
        params: those given to `forward`.
        cache: what `forward` returned.
        g: dL/dy, of y's shape.

    Returns:
        dparams.

    Raises:
        LayerError: if g or the cache do not fit the parameters.
    """
    return _dparams(params, cache, g, _p(params, cache, g))


def _q(params: Params, v: Tensor) -> Tensor:
    """Compute q = v A^T, of shape (..., n_out, n_u)."""
    n_out, n_u, _ = params.weight.shape
    q = torch.nn.functional.linear(v, params.weight.flatten(0, 1))
    return q.reshape(*v.shape[:-1], n_out, n_u)


def _p(params: Params, cache: Inputs, g: Tensor) -> Tensor:
    """Compute p_ki = g_k u_i, of shape (..., n_out n_u)."""
    check_params("bilinear", params, Params)
    if type(cache) is not tuple or len(cache) != 2:
        problem = f"expected the cache of its own forward, got {brief(cache)}"
        raise LayerError("bilinear", problem)
    u = cache[0]
    n_out = len(params.weight)
    check_cotangent(f"bilinear({n_out})", g, u, (*u.shape[:-1], n_out))
    return (g.unsqueeze(-1) * u.unsqueeze(-2)).flatten(-2)


def _dx(params: Params, cache: Inputs, g: Tensor, p: Tensor) -> Inputs:
    du = (g.unsqueeze(-2) @ _q(params, cache[1])).squeeze(-2)
    return du, p @ params.weight.flatten(0, 1)


def _dparams(params: Params, cache: Inputs, g: Tensor, p: Tensor) -> Params:
    p_rows, v_rows = p.reshape(-1, p.shape[-1]), cache[1].reshape(-1, cache[1].shape[-1])
    dweight = (p_rows.mT @ v_rows).view(params.weight.shape)
    return Params(dweight, None if params.bias is None else g.reshape(-1, g.shape[-1]).sum(0))


def _check_inputs(params: object, x: object, expected: type | None) -> Inputs:
    if type(x) is not tuple or len(x) != 2:
        raise LayerError("bilinear", f"expected x to be a tuple of two tensors, got {brief(x)}")
    for part in x:
        check_input("bilinear", params, part, expected)
    u, v = x
    check_like("bilinear", "v", v, u)
    if 0 in (u.ndim, v.ndim) or u.shape[:-1] != v.shape[:-1]:
        wanted = "x of shapes (..., n_u) and (..., n_v) with the same leading axes"
        raise LayerError("bilinear", f"expected {wanted}, got {_shapes(x)}")
    return u, v


def _shapes(x: tuple[Tensor, ...]) -> str:
    return " and ".join(str(tuple(part.shape)) for part in x)
