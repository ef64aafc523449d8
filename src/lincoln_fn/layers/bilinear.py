"""Bilinear layer: y_k = sum_(ij) u_i A_(kij) v_j + b_k, on the last axes of two inputs x = (u, v).

Derivation. For one row,

    q_(ki) = sum_j A_(kij) v_j
    y_k = sum_i u_i q_(ki) + b_k

so that, with g_k for dL/dy_k,

    du_i = sum_k g_k q_(ki)
    p_(ki) = g_k u_i
    dv_j = sum_(ki) p_(ki) A_(kij)
    dA_(kij) = sum p_(ki) v_j    over the rows
    db_k = sum g_k    over the rows

All axes of u and v except the last are axes of rows. With (k, i) as one axis of A, of q and of p,
each sum over j, over (k, i) or over the rows is one matrix product:

    q = v A^T
    dv = p A
    dA = p^T v

Cache: x.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import Key, Layer, Outer, Outputs, PositiveInt, bare, record, unexpected
from lincoln_fn.initializers import Fans, Initializer, fan_in_uniform
from lincoln_fn.layers.common.inputs import check_form, check_inputs
from lincoln_fn.layers.dense import drawn, rows

Inputs = tuple[Float[Tensor, "*batch n_u"], Float[Tensor, "*batch n_v"]]


@record
class Params:
    """The matrices A, one for each output, and the bias b, or None for a layer without one."""

    weight: Float[Tensor, "n_out n_u n_v"]
    bias: Float[Tensor, " n_out"] | None


def init(
    key: Key, x: Inputs, *, out_features: int, bias: bool, weight_init: Initializer,
    bias_init: Initializer,
) -> Params:  # fmt: skip
    """Draw A and b; the fan-in is the number of features of u, as in torch."""
    u, v = _check_pair(x)
    shape, fans = (out_features, u.shape[-1], v.shape[-1]), Fans(u.shape[-1], out_features)
    return Params(*drawn(key, u, shape, fans, out_features, bias, weight_init, bias_init))


def forward(params: Params, x: Inputs) -> tuple[Outputs, Inputs]:
    """Compute y_k = sum_i u_i q_ki + b_k."""
    u, v = _check_pair(x)
    n_out, n_u, n_v = core.shape_of("bilinear", params.weight, "(n_out, n_u, n_v)")
    core.check_like("bilinear", "u", u, params.weight)
    core.check_bias("bilinear", params.bias, params.weight, n_out)
    if u.shape[-1] != n_u or v.shape[-1] != n_v:
        expected = f"x of shapes (..., {n_u}) and (..., {n_v})"
        raise unexpected(f"bilinear({n_out})", expected, _shapes(x))
    y = (_q(params, v) @ u.unsqueeze(-1)).squeeze(-1)
    return y if params.bias is None else y + params.bias, x


def backward(params: Params, x: Inputs, g: Outputs) -> tuple[Inputs, Params]:
    """Compute dx = (du, dv) as `input_grad` does, and dparams as `grads` does."""
    return input_grad(params, x, g), grads(params, x, g)


def input_grad(params: Params, x: Inputs, g: Outputs) -> Inputs:
    """Compute du_i = sum_k g_k q_ki and dv = p A."""
    p = _p(params, x, g)
    return (g.unsqueeze(-2) @ _q(params, x[1])).squeeze(-2), p @ params.weight.flatten(0, 1)


def grads(params: Params, x: Inputs, g: Outputs) -> Params:
    """Compute dA = p^T v and db = sum of g over the rows."""
    dweight = (rows(_p(params, x, g)).mT @ rows(x[1])).reshape(params.weight.shape)
    return Params(dweight, None if params.bias is None else rows(g).sum(0))


def _q(params: Params, v: Tensor) -> Tensor:
    """Compute q = v A^T, of shape (..., n_out, n_u)."""
    n_out, n_u, _ = params.weight.shape
    return (v @ params.weight.flatten(0, 1).mT).reshape(*v.shape[:-1], n_out, n_u)


def _p(params: Params, x: Inputs, g: Tensor) -> Tensor:
    """Compute p_ki = g_k u_i, of shape (..., n_out n_u)."""
    if type(x) is not tuple or len(x) != 2:
        raise core.unexpected("bilinear", "the cache of its own forward", core.format_briefly(x))
    n_out = len(params.weight)
    core.check_cotangent(f"bilinear({n_out})", g, x[0], (*x[0].shape[:-1], n_out))
    return (g.unsqueeze(-1) * x[0].unsqueeze(-2)).flatten(-2)


def terms(params: Params, x: Inputs, g: Tensor) -> Params:
    """Return dA_n = sum_t p_nt^T v_nt and db_n = sum_t g_nt, over the rows t of example n."""
    core.check_batched("bilinear", g)
    return core.mirror(params, weight=Outer(_p(params, x, g), x[1]), bias=core.sum_rows(g))


@core.constructor(kind="bilinear", terms=terms)
def bilinear(
    out_features: PositiveInt, *, bias: bool = True, weight_init: Initializer = fan_in_uniform(),
    bias_init: Initializer = fan_in_uniform(),
) -> Layer:  # fmt: skip
    """Multiply two inputs (u, v) with a matrix for each output: y_k = sum_ij u_i A_kij v_j + b_k.

    u has shape (..., n_u) and v (..., n_v), with the same leading axes; y has (..., out_features).

    Args:
        weight_init: draws A. The default is torch's: uniform within 1 / sqrt(features of u).

    Example:
        >>> params = Params(torch.tensor([[[1.0, 2.0]]]), torch.tensor([3.0]))
        >>> bilinear(1).predict(params, (torch.tensor([10.0]), torch.tensor([1.0, 1.0])))
        tensor([33.])
    """
    return bare(Layer, forward, backward, init, input_grad=input_grad, grads=grads)


def _check_pair(x: Inputs) -> Inputs:
    check_form("bilinear", x, "(u, v)")
    check_inputs("bilinear", x)
    u, v = x
    if 0 in (u.ndim, v.ndim) or u.shape[:-1] != v.shape[:-1]:
        expected = "x of shapes (..., n_u) and (..., n_v) with the same leading axes"
        raise unexpected("bilinear", expected, _shapes(x))
    return u, v


def _shapes(x: tuple[Tensor, ...]) -> str:
    return " and ".join(str(tuple(part.shape)) for part in x)
