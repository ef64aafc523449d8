"""Dense layer: y = x W + b, on the last axis of x.

Derivation. For one row,

    y_j = sum_i x_i W_(ij) + b_j

so that, with g_j for dL/dy_j,

    (dL)/(dx_i) = sum_j g_j W_(ij)
    (dL)/(dW_(ij)) = x_i g_j
    (dL)/(db_j) = g_j

All axes of x except the last are axes of rows. With all rows in one matrix,

    dx = g W^T
    dW = x^T g    which sums over the rows
    db = sum g    over the rows

Cache: x.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import Features, Key, Layer, Outer, Outputs, PositiveInt, bare, unexpected
from lincoln_fn.initializers import Fans, Initializer, fan_in_uniform


@core.record
class Params:
    """The matrix W, applied from the right, and the bias b, or None for a layer without one."""

    weight: Float[Tensor, "n_in n_out"]
    bias: Float[Tensor, " n_out"] | None


def init(
    key: Key, x: Features, *, n_out: int, bias: bool, weight_init: Initializer,
    bias_init: Initializer, fan_out: int | None = None,
) -> Params:  # fmt: skip
    """Draw W of shape (n_in, n_out), and b; fan_out is n_out, or that of several layers as one."""
    if x.ndim == 0:
        raise core.wrong_shape(f"dense({n_out})", "x", x, "(..., n_in)")
    shape, fans = (x.shape[-1], n_out), Fans(x.shape[-1], fan_out or n_out)
    return Params(*drawn(key, x, shape, fans, n_out, bias, weight_init, bias_init))


def forward(params: Params, x: Features) -> tuple[Outputs, Features]:
    """Compute y = x W + b."""
    check_forward(params, x)
    y = x @ params.weight
    return y if params.bias is None else y + params.bias, x


def backward(params: Params, x: Features, g: Outputs) -> tuple[Features, Params]:
    """Compute dx = g W^T, dW = x^T g and db = sum of g over the rows."""
    dparams = grads(params, x, g)
    return g @ params.weight.mT, dparams


def input_grad(params: Params, x: Features, g: Outputs) -> Features:
    """Compute dx = g W^T."""
    check_backward(params, x, g)
    return g @ params.weight.mT


def grads(params: Params, x: Features, g: Outputs) -> Params:
    """Compute dW = x^T g and db = sum of g over the rows."""
    check_backward(params, x, g)
    x_rows, g_rows = rows(x), rows(g)
    return Params(x_rows.mT @ g_rows, None if params.bias is None else g_rows.sum(0))


def terms(params: Params, x: Tensor, g: Tensor) -> Params:
    """Return dW_n = sum_t x_nt^T g_nt and db_n = sum_t g_nt, over the rows t of example n."""
    core.check_batched("dense", g)
    return core.mirror(params, weight=Outer(x, g), bias=core.sum_rows(g))


core.declare(input_grad, reads=())


@core.constructor(kind="dense", params=Params, terms=terms)
def dense(
    n_out: PositiveInt, *, bias: bool = True, weight_init: Initializer = fan_in_uniform(),
    bias_init: Initializer = fan_in_uniform(),
) -> Layer:  # fmt: skip
    """Multiply by a matrix of weights, and add a bias: y = x W + b on the last axis of x.

    x has shape (..., n_in), with any number of leading axes, and y has shape (..., n_out).

    Args:
        n_out: the number of features of y. That of x is found from the example input.
        weight_init: draws W. The default is torch's: uniform within 1 / sqrt(n_in).

    Example:
        >>> params = Params(torch.tensor([[1.0], [2.0]]), torch.tensor([3.0]))
        >>> dense(1).predict(params, torch.tensor([[10.0, 100.0]]))
        tensor([[213.]])
    """
    return bare(Layer, forward, backward, init, input_grad=input_grad, grads=grads)


def drawn(
    key: Key, x: Tensor, shape: tuple[int, ...], fans: Fans, n_out: int, bias: bool,
    weight_init: Initializer, bias_init: Initializer,
) -> tuple[Tensor, Tensor | None]:  # fmt: skip
    """Draw a weight of a shape, and a bias of n_out numbers or None, in x's dtype."""
    weight_key, bias_key = map(key.fold_in, range(2))
    weight = weight_init.draw(weight_key, shape, fans, x.dtype)
    return weight, bias_init.draw(bias_key, (n_out,), fans, x.dtype) if bias else None


def rows(x: Float[Tensor, "*batch n"]) -> Float[Tensor, "rows n"]:
    """Put all rows into one matrix."""
    return x.flatten(0, -2) if x.ndim > 1 else x.unsqueeze(0)


def check_forward(params: Params, x: Tensor) -> None:
    """Check that x fits the params."""
    weight = params.weight
    n_in, n_out = core.shape_of("dense", weight, "(n_in, n_out)")
    core.check_like("dense", "x", x, weight)
    if params.bias is not None:
        core.check_bias("dense", params.bias, weight, n_out)
    if x.shape[-1:] != (n_in,):
        raise core.wrong_shape(f"dense({n_out})", "x", x, f"(..., {n_in})")


def check_backward(params: Params, x: object, g: object) -> None:
    """Check that x is the cache of the layer's forward, and g mirrors y."""
    n_in, n_out = params.weight.shape
    if not isinstance(x, Tensor) or x.shape[-1:] != (n_in,):
        expected = f"the cache of its own forward, x of shape (..., {n_in})"
        raise unexpected(f"dense({n_out})", expected, core.format_briefly(x))
    core.check_cotangent(f"dense({n_out})", g, x, (*x.shape[:-1], n_out))
