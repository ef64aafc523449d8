"""Dense layers by the faster library, which `product.py` chooses for each product."""

from __future__ import annotations

from typing import Final

from torch import Tensor

from lincoln_fn.fastpath import product
from lincoln_fn.fastpath.twin import Twin
from lincoln_fn.layers import dense
from lincoln_fn.layers.dense import Params, check_backward, check_forward, rows


def forward(params: Params, x: Tensor) -> tuple[Tensor, Tensor]:
    """Compute y = x W + b in one call."""
    check_forward(params, x)
    return product.linear(x, params.weight.mT, params.bias), x


def backward(params: Params, x: Tensor, g: Tensor) -> tuple[Tensor, Params]:
    """Compute dx as `input_grad` does, and dparams as `grads` does."""
    dparams = grads(params, x, g)
    return product.linear(g, params.weight), dparams


def input_grad(params: Params, x: Tensor, g: Tensor) -> Tensor:
    """Compute dx = g W^T."""
    check_backward(params, x, g)
    return product.linear(g, params.weight)


def grads(params: Params, x: Tensor, g: Tensor) -> Params:
    """Compute dW = x^T g, in the memory layout of W, and db = sum of g over the rows."""
    check_backward(params, x, g)
    x_rows, g_rows = rows(x), rows(g)
    dweight = product.outer(x_rows, g_rows, like=params.weight)
    return Params(dweight, None if params.bias is None else g_rows.sum(0))


TWINS: Final = (
    Twin(dense, forward=forward, backward=backward, input_grad=input_grad, grads=grads),
)
