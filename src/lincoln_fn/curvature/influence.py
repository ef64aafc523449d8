"""Products with a curvature matrix, without the matrix, and the influence of a training example.

theta is all parameters, L the loss of a batch, f the network's prediction, J = df/(d theta), and
H_L the Hessian of the loss in the prediction.

Derivation of the products. Both matrices follow from the gradient, by the chain rule:

    (dL)/(d theta) = J^T (dL)/(df)
    H = J^T H_L J + sum_k (dL)/(df_k) (d^2 f_k)/(d theta^2)
    G = J^T H_L J    the generalised Gauss-Newton matrix: H without the curvature of the network

The Hessian's product is the derivative of the gradient along v. Forward mode through the layers'
own forward and backward computes it, without a tape:

    H v = d/(dt) (dL)/(d theta) (theta + t v)    at t = 0

The Gauss-Newton product is three products, from right to left: J v is the derivative of the
prediction along v, H_L times it that of the loss's own gradient, and J^T is the backward pass.
For a loss that is convex in the prediction, G is positive semidefinite; H may not be.

Derivation of the influence. theta minimises L + lambda/2 ||theta||^2, with L = sum_n L_n the
training loss. With the weight of example n raised by a small e, the gradient there stays zero:

    grad L(theta(e)) + lambda theta(e) + e grad L_n(theta(e)) = 0
    (H + lambda I) (d theta)/(de) + d_n = 0    at e = 0, with d_n = grad L_n

So the test loss M changes by

    (dM)/(de) = - (grad M)^T (H + lambda I)^(-1) d_n

s = (H + lambda I)^(-1) grad M is the same for all n. Conjugate gradients compute it from products
H v, without H. Its products with all d_n are one forward pass along s:

    s^T d_n = s^T J_n^T g_n = g_n . (J s)_n

Source: Hestenes and Stiefel, "Methods of Conjugate Gradients for Solving Linear Systems", 1952.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import Arrays, Layer, NonNegative, Params, Positive, PositiveInt, checked, tree
from lincoln_fn.curvature import duals
from lincoln_fn.losses.internal import Loss, check_each_alone
from lincoln_fn.per_example.internal import check_independent
from lincoln_fn.rules.internal import with_true_gradient
from lincoln_fn.training import Batch
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
    if not core.mirrors(params, v):
        expected = f"v to mirror params, {core.format_briefly(params)}"
        mend = f"the order is {where}(net, params, x, loss, target, v)"
        raise core.unexpected(where, expected, core.format_briefly(v), mend)
    duals.check_not_nested(where, params, x, target, v)


@checked
def influence(
    net: Layer,
    params: Params,
    x: Arrays,
    loss: Loss,
    target: Arrays,
    test: Batch,
    *,
    damping: NonNegative = 1e-3,
    curvature: Literal["gauss_newton", "hessian"] = "gauss_newton",
    tolerance: Positive = 1e-6,
    max_iterations: PositiveInt = 1000,
) -> Float[Tensor, " N"]:
    """Compute the influence of each training example on the test loss.

    influence_n = - (grad M)^T (H + damping I)^-1 d_n, with M the test loss and d_n the gradient of
    example n's part of the training loss. Without example n, M changes by about - influence_n. A
    positive influence is that of an example that does harm.

    Args:
        net: the network, which computes each example alone. It runs as in training: give
            `lf.inference(net)` for what `predict` computes.
        params: a minimum of the training loss.
        x: the training inputs, with the examples on axis 0, and `target` theirs.
        loss: with reduction mean or sum. For a mean, d_n is divided by the number of examples.
        test: x and target of the test examples.
        damping: lambda, which includes the weight of an L2 penalty, lambda/2 ||params||^2.
        curvature: H is the Gauss-Newton matrix, which is never negative, or the Hessian.
        tolerance: conjugate gradients stop when the residual is this part of grad M.
        max_iterations: or after as many products.

    Raises:
        LayerError: if H + damping I has a direction of negative curvature, conjugate gradients do
            not converge, or a layer mixes examples.

    Source:
        Koh and Liang, "Understanding Black-box Predictions via Influence Functions", ICML 2017.

    Example:
        >>> net, loss = lf.dense(1, bias=False), lf.losses.mse(reduction="sum")
        >>> x, t = torch.tensor([[1.0], [1.0]]), torch.tensor([[0.0], [2.0]])
        >>> params = lf.layers.dense.Params(torch.tensor([[1.0]]), None)
        >>> influence(net, params, x, loss, t, (x[:1], t[:1]), damping=0.0)
        tensor([-1.,  1.])
    """
    duals.check_not_nested("influence", params, x, target, test)
    check_independent(net)
    net = with_true_gradient(net)
    if not tree.leaves(params):
        raise core.unexpected("influence", "a network with trained parameters", net)
    if loss.mixes_examples is not False:
        predicted, _ = net.forward(params, x)
        check_each_alone("influence", loss, predicted, target, by_target=False)
    prediction, cache = net.forward(params, test[0])
    of_test = net.grads(params, cache, duals.loss_gradient(loss, prediction, test[1]))
    is_hessian = curvature == "hessian"
    product_of = hessian_vector_product if is_hessian else gauss_newton_vector_product
    product = partial(product_of, net, params, x, loss, target)
    s = conjugate_gradients(product, of_test, damping, tolerance, max_iterations)
    with duals.forward_mode():
        dual, _ = net.forward(duals.with_tangents(params, s), x)
        along, prediction = duals.tangents_of(dual), duals.values_of(dual)
    g = duals.loss_gradient(loss, prediction, target)
    each = tree.map(lambda a, b: (a * b).flatten(1).sum(1), g, along)
    return -torch.stack(tree.leaves(each)).sum(0)


def conjugate_gradients(
    product: Callable[[Params], Params],
    b: Params,
    damping: float,
    tolerance: float,
    max_iterations: int,
) -> Params:
    """Solve (A + damping I) s = b for a positive definite matrix."""
    s, r, p = tree.map(torch.zeros_like, b), b, b
    r_r = first = _inner(r, r)
    for iteration in itertools.count():
        if r_r <= tolerance**2 * first:
            break
        if iteration == max_iterations:
            expected = f"conjugate gradients to converge in {max_iterations} iterations"
            got = f"a residual of {(r_r / first).sqrt().item():.2g}"
            mend = "raise damping, tolerance or max_iterations"
            raise core.unexpected("influence", expected, got, mend)
        a_p = _plus(product(p), damping, p)
        curvature = _inner(p, a_p)
        if curvature <= 0:
            got = "a direction of negative curvature"
            mend = "raise damping, or use gauss_newton"
            raise core.unexpected("influence", "a positive definite matrix", got, mend)
        alpha = r_r / curvature
        s, r = _plus(s, alpha, p), _plus(r, -alpha, a_p)
        r_r, before = _inner(r, r), r_r
        p = _plus(r, r_r / before, p)
    return s


def _plus(a: Params, factor: Tensor | float, b: Params) -> Params:
    return tree.map(lambda x, y: x + factor * y, a, b)


def _inner(a: Params, b: Params) -> Tensor:
    pairs = zip(tree.leaves(a), tree.leaves(b), strict=True)
    return torch.stack([(x * y).sum() for x, y in pairs]).sum()
