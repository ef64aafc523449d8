"""The Kronecker factors of a layer's curvature: A of its inputs, B of its cotangents.

Derivation. A layer that multiplies rows by a matrix has, with x~ = (x, 1) for the bias,

    d_n = sum_t x~_(nt)^T g_(nt)

With one row for each example, the layer's block of G = sum_n d_n d_n^T is a sum of Kronecker
products. K-FAC takes the mean of the first factor outside, as if inputs and cotangents were
independent:

    sum_n (x~_n x~_n^T) ox (g_n g_n^T)  ~~  A ox B
    A = 1/N sum_n x~_n x~_n^T
    B = sum_n g_n g_n^T

It is exact for one example. With T rows, where a sequence or an image shares the weight, there are
two ways:

    expand    every row counts as an example: A = 1/(N T) sum x~ x~^T, B = sum g g^T, over n and t
    reduce    x~_n is the mean of its rows, and g_n their sum

Sources: for convolutions Grosse and Martens, ICML 2016 (expand); Eschenhagen and others,
"Kronecker-Factored Approximate Curvature for Modern Neural Network Architectures", NeurIPS 2023
(reduce).
"""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn.core import Arrays, Layer, LayerError, Params, cast_like, checked, evolve, record
from lincoln_fn.curvature.columns import Rows, column_sites, columns, has_inputs_first, rows_of
from lincoln_fn.curvature.duals import fast_for_columns, loss_gradient
from lincoln_fn.layers.common.normalisation import widened
from lincoln_fn.losses.internal import Loss, formula_of
from lincoln_fn.per_example.internal import check_independent
from lincoln_fn.runtime import eigh, when_due
from lincoln_fn.walk import Site

Sharing: TypeAlias = Literal["expand", "reduce"]


@record
class Factors:
    """A, with a last row and column for the bias if there is one, and B."""

    a: Float[Tensor, "I I"]
    b: Float[Tensor, "O O"]


@checked
def kfac_factors(
    net: Layer,
    params: Params,
    x: Arrays,
    loss: Loss,
    target: Arrays,
    *,
    fisher: Literal["exact", "empirical"] = "exact",
    sharing: Sharing = "expand",
) -> dict[str, Factors]:
    """Compute the Kronecker factors of each dense layer and each convolution.

    A layer's block of the curvature is about A ox B. A is the mean of x~ x~^T with x~ = (x, 1), and
    B the sum of g g^T. A convolution's x~ is what the kernel sees at one position.

    Args:
        loss: with reduction mean or sum.
        fisher: "exact" for the Gauss-Newton matrix, whose g come from the loss's Hessian;
            "empirical" for the second moment of the examples' own gradients. For a loss that is a
            mean, both are means over the examples.
        sharing: how rows that share the weight are counted: each as an example, "expand", or by
            their mean x and their summed g, "reduce".

    Returns:
        The factors by the layer's path, such as "2.0"; float32 for half precision. Convolutions
        with groups have none. If a layer is used several times, A is the mean over the uses, and B
        the sum.

    Source:
        Martens and Grosse, "Optimizing Neural Networks with Kronecker-factored Approximate
        Curvature", ICML 2015.

    Example:
        >>> net, loss = lf.dense(1), lf.losses.mse(reduction="sum")
        >>> x = torch.tensor([[1.0, 3.0]])
        >>> params = net.init(lf.Key(0), x)
        >>> kfac_factors(net, params, x, loss, torch.ones(1, 1))[""].a[0]
        tensor([1., 3., 1.])
    """
    check_independent(net)
    net = fast_for_columns(net)
    prediction, cache = net.forward(params, x)
    if fisher == "exact":
        g = columns(loss, prediction, target)
    else:
        if not isinstance(prediction, Tensor):
            problem = "expected a prediction of one tensor, with the examples on axis 0"
            raise LayerError(loss.name, problem)
        formula = formula_of(loss)
        is_mean = formula is not None and formula.is_mean
        g = loss_gradient(loss, prediction, target).unsqueeze(0)
        g = g * math.sqrt(len(prediction)) if is_mean else g
    uses: dict[str, list[Factors]] = {}

    def use(site: Site) -> Params:
        rows = rows_of(site.layer, site.params, site.cache, site.g)
        if rows is not None:
            has_bias = site.params.bias is not None
            uses.setdefault(site.path, []).append(factors_of(rows, has_bias, sharing))
        return site.params

    column_sites(net, params, cache, g, use)
    return {path: merge(each) for path, each in uses.items()}


def factors_of(rows: Rows, has_bias: bool, sharing: Sharing) -> Factors:
    """Compute A and B of one use of a layer, of half precision in float32."""
    x, g = widened(rows.x), widened(rows.g)
    if sharing == "reduce":
        x, g = x.mean(1, keepdim=True), g.sum(2, keepdim=True)
    x, g = x.flatten(0, 1), g.flatten(0, 2)
    if has_bias:
        x = torch.nn.functional.pad(x, (0, 1), value=1.0)
    return Factors(x.mT @ x / len(x), g.mT @ g)


def merge(uses: list[Factors]) -> Factors:
    """Take the mean of the inputs over several uses of a layer, and the sum of the cotangents."""
    a, b = (torch.stack([getattr(use, name) for use in uses]) for name in ("a", "b"))
    return Factors(a.mean(0), b.sum(0))


@record
class Eigen:
    """Eigenvalues, ascending, and eigenvectors as columns, of both factors."""

    a: Float[Tensor, " I"]
    a_vectors: Float[Tensor, "I I"]
    b: Float[Tensor, " O"]
    b_vectors: Float[Tensor, "O O"]

    def when_due(self, is_due: Tensor, factors: Factors) -> Eigen:
        """Compute those of new factors where that is due."""
        kept = {field: getattr(self, field) for field in ("a", "a_vectors", "b", "b_vectors")}
        return Eigen(*_eigen(is_due, factors.a, factors.b, **kept))

    def natural(self, d: Params, damping: float) -> Params:
        """Compute U_A ((U_A^T dW~ U_B) / (a b^T + lambda)) U_B^T, for a weight and a bias."""
        inputs_first = has_inputs_first(d.weight)
        rows = d.weight if inputs_first else d.weight.flatten(1).mT
        if d.bias is not None:
            rows = torch.cat([rows, d.bias.unsqueeze(0)])
        rows = widened(rows)
        u_a, u_b = self.a_vectors, self.b_vectors
        scaled = (u_a.mT @ rows @ u_b) / (torch.outer(self.a, self.b) + damping)
        rows = u_a @ scaled @ u_b.mT
        weight, bias = (rows, None) if d.bias is None else (rows[:-1], rows[-1])
        shaped = weight if inputs_first else weight.mT.reshape(d.weight.shape)
        return cast_like(evolve(d, weight=shaped, bias=bias), d)


@when_due
def _eigen(
    first: Tensor, second: Tensor, *, a: Tensor, a_vectors: Tensor, b: Tensor, b_vectors: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Compute the eigenvalues, without negative rounding errors, and the eigenvectors."""
    (a, a_vectors), (b, b_vectors) = map(eigh, (first, second))
    return a.clamp(min=0), a_vectors, b.clamp(min=0), b_vectors
