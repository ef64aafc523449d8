"""Products of a curvature matrix and a vector, without the matrix.

theta is all parameters, L the loss of a batch, f the network's prediction, J = df/(d theta), and
H_L the Hessian of the loss in the prediction.

Derivation. Both matrices follow from the gradient, by the chain rule:

    (dL)/(d theta) = J^T (dL)/(df)
    H = J^T H_L J + sum_k (dL)/(df_k) (d^2 f_k)/(d theta^2)
    G = J^T H_L J    the generalised Gauss-Newton matrix: H without the curvature of the network

The Hessian's product is the derivative of the gradient along v. Forward mode through the layers'
own forward and backward computes it, without a tape:

    H v = d/(dt) (dL)/(d theta) (theta + t v)    at t = 0

The Gauss-Newton product is three products, from right to left: J v is the derivative of the
prediction along v, H_L times it that of the loss's own gradient, and J^T is the backward pass.

For a loss that is convex in the prediction, G is positive semidefinite; H may not be.
"""

from __future__ import annotations

from lincoln_fn.core import Arrays, Layer, Params, checked, format_briefly, tree, unexpected
from lincoln_fn.curvature import duals
from lincoln_fn.losses import Loss
from lincoln_fn.walk.internal import DPARAMS


@checked
def hessian_vector_product(
    net: Layer, params: Params, x: Arrays, loss: Loss, target: Arrays, v: Params
) -> Params:
    """Compute H v, with H the Hessian of the loss in all parameters.

    H v = d/dt grad(params + t v) at t = 0. The network runs as in training: for the curvature of
    what `predict` computes, give `lf.inference(net)`.

    Args:
        loss: the loss, with reduction mean or sum.
        v: the vector, a tree that mirrors params.

    Raises:
        LayerError: under autograd or torch.func: the product is a derivative in forward mode.

    Source:
        Pearlmutter, "Fast Exact Multiplication by the Hessian", 1994.

    Example:
        >>> net, loss, one = lf.dense(1, bias=False), lf.losses.mse(), torch.ones(1, 1)
        >>> params = lf.layers.dense.Params(one, None)
        >>> hessian_vector_product(net, params, one, loss, one, params).weight
        tensor([[2.]])
    """
    _check("hessian_vector_product", params, x, target, v)
    net = duals.fast_for_forward_mode(net)
    with duals.forward_mode():
        at = duals.with_tangents(params, v)
        prediction, cache = net.forward(at, x)
        g = duals.loss_gradient(loss, prediction, target)
        del prediction
        return duals.walk_of(duals.tangents_leaf)(net, at, cache, g, DPARAMS)[1]


@checked
def gauss_newton_vector_product(
    net: Layer, params: Params, x: Arrays, loss: Loss, target: Arrays, v: Params
) -> Params:
    """Compute G v, with G = J^T H_L J the generalised Gauss-Newton matrix of all parameters.

    J is the derivative of the prediction, and H_L the Hessian of the loss in it. The arguments are
    those of `hessian_vector_product`. For cross-entropies and mse, G is the Fisher matrix, too.

    Source:
        Schraudolph, "Fast Curvature Matrix-Vector Products for Second-Order Gradient Descent",
        2002.

    Example:
        >>> net, loss, one = lf.dense(1, bias=False), lf.losses.mse(), torch.ones(1, 1)
        >>> params = lf.layers.dense.Params(one, None)
        >>> gauss_newton_vector_product(net, params, one, loss, one, params).weight
        tensor([[2.]])
    """
    _check("gauss_newton_vector_product", params, x, target, v)
    net = duals.fast_for_forward_mode(net)
    with duals.forward_mode():
        prediction, cache = net.forward(duals.with_tangents(params, v), x)
        g = duals.tangents_of(duals.loss_gradient(loss, prediction, target))
        cache = duals.values_of(cache)
    return net.grads(params, cache, g)


def _check(where: str, params: Params, x: Arrays, target: Arrays, v: Params) -> None:
    def kinds(of: Params) -> list[object]:
        return [(leaf.shape, leaf.dtype) for leaf in tree.leaves(of)]

    if not tree.same_structure(params, v) or kinds(params) != kinds(v):
        expected = f"v to mirror params, {format_briefly(params)}"
        mend = f"the order is {where}(net, params, x, loss, target, v)"
        raise unexpected(where, expected, format_briefly(v), mend)
    duals.check_not_nested(where, params, x, target, v)
