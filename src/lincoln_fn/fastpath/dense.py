"""Dense layers by the faster library, and the update of plain SGD fused with its product.

`product.py` chooses how each product is computed, and says what that gains.

`sgd_update` computes W - lr x^T g, the product added to W as it is computed. dW, which is as large
as W, takes no memory and no pass of its own.
"""

from __future__ import annotations

from typing import Final

import torch
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


def sgd_update(
    params: Params, x: Tensor, g: Tensor, lr: float, *, wants_dx: bool, donate: bool = False
) -> tuple[Tensor | None, Params]:
    """Compute dx, if it is wanted, W - lr x^T g and b - lr db; of donated params, in place."""
    check_backward(params, x, g)
    dx = product.linear(g, params.weight) if wants_dx else None  # before W is updated
    x_rows, g_rows = rows(x), rows(g)
    weight, bias = params.weight, params.bias
    if bias is not None:
        bias = torch.sub(bias, g_rows.sum(0), alpha=lr, out=bias.detach() if donate else None)
    return dx, Params(product.add_outer(weight, x_rows, g_rows, -lr, donate=donate), bias)


TWINS: Final = (
    Twin(dense, forward=forward, backward=backward, input_grad=input_grad, grads=grads),
)
