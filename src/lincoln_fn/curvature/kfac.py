"""K-FAC: Kronecker factors of each layer's curvature, and its gradient multiplied by their inverse.

Derivation. A layer that multiplies rows by a matrix has, with x~ = (x, 1) for the bias,

    d_n = sum_t x~_(nt)^T g_(nt)

With one row for each example, the layer's block of G = sum_n d_n d_n^T is a sum of Kronecker
products. K-FAC averages the first factor alone, as if inputs and cotangents were independent:

    sum_n (x~_n x~_n^T) ox (g_n g_n^T)  ~~  A ox B
    A = 1/N sum_n x~_n x~_n^T
    B = sum_n g_n g_n^T

It is exact for one example. With T rows, of a sequence or an image, there are two ways:

    expand    every row counts as an example: A = 1/(N T) sum x~ x~^T, B = sum g g^T, over n and t
    reduce    x~_n is the mean of its rows, and g_n their sum

dW~ is the gradient of the layer's weight, with that of its bias as the last row. With the
eigenvectors U and eigenvalues of each factor,

    A = U_A diag(a) U_A^T        B = U_B diag(b) U_B^T

A ox B + lambda I is diagonal in the basis U_A ox U_B, and so

    (A ox B + lambda I)^(-1) dW~ = U_A ((U_A^T dW~ U_B) / (a b^T + lambda)) U_B^T

with the division element by element: the damping lambda is exact. The factors are running means
over the steps. In step k, from 1, each is

    A <- e A + (1 - e) A_k        e = min(1 - 1/k, decay)

B is computed from the g of the batch's own loss, so that A ox B stands for the empirical Fisher
matrix, the mean of the examples' h_n h_n^T.

Sources: for convolutions Grosse and Martens, ICML 2016 (expand); Eschenhagen and others,
"Kronecker-Factored Approximate Curvature for Modern Neural Network Architectures", NeurIPS 2023
(reduce); damping in the eigenbasis as George and others, "Fast Approximate Natural Gradient Descent
in a Kronecker-factored Eigenbasis", NeurIPS 2018.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Literal, TypeAlias

import attrs
import optree
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import Arrays, Decay, Layer, Params, Positive, PositiveInt, Shown, evolve, tree
from lincoln_fn.curvature import columns
from lincoln_fn.curvature.columns import Rows, has_inputs_first, is_site, matrix_classes, rows_of
from lincoln_fn.curvature.duals import fast_for_columns, loss_gradient
from lincoln_fn.layers.common.normalisation import widened
from lincoln_fn.losses.internal import Loss, formula_of
from lincoln_fn.per_example.internal import check_independent, examples_in
from lincoln_fn.runtime import eigh, when_due
from lincoln_fn.training import Gradient
from lincoln_fn.walk.internal import Record, Site, cotangents, grads_at, is_trained

Sharing: TypeAlias = Literal["expand", "reduce"]


@core.record
class Factors:
    """A, with a last row and column for the bias if there is one, and B."""

    a: Float[Tensor, "I I"]
    b: Float[Tensor, "O O"]


@core.checked
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
        g = columns.columns(loss, prediction, target)
    else:
        if not isinstance(prediction, Tensor):
            problem = "expected a prediction of one tensor, with the examples on axis 0"
            raise core.LayerError(loss.name, problem)
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

    columns.column_sites(net, params, cache, g, use)
    return {path: merge(each) for path, each in uses.items()}


def factors_of(rows: Rows, has_bias: bool, sharing: Sharing) -> Factors:
    """Compute A and B of one use of a layer, of half precision in float32."""
    x, g = map(widened, rows)
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


@core.record
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
        return core.cast_like(evolve(d, weight=shaped, bias=bias), d)


@when_due
def _eigen(
    first: Tensor, second: Tensor, *, a: Tensor, a_vectors: Tensor, b: Tensor, b_vectors: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Compute the eigenvalues, without negative rounding errors, and the eigenvectors."""
    (a, a_vectors), (b, b_vectors) = map(eigh, (first, second))
    return a.clamp(min=0), a_vectors, b.clamp(min=0), b_vectors


@core.record
class KfacState:
    """The number of steps, and each layer's factors and eigenvectors, in the parameters' order."""

    step: Int[Tensor, ""]
    factors: tuple[Factors, ...]
    eigen: tuple[Eigen, ...]


@core.constructor
def kfac(
    damping: Shown[Positive] = 1e-3,
    *,
    decay: Decay = 0.95,
    every: PositiveInt = 1,
    sharing: Literal["expand", "reduce"] = "expand",
    reduction: Literal["mean", "sum"] = "mean",
) -> Gradient:
    """Precondition the gradient of dense layers and convolutions by K-FAC.

    dparams = (A ox B + damping I)^-1 dL/dparams, layer by layer. All other layers keep their own
    gradient, and so do convolutions with groups. A ox B stands for the empirical Fisher matrix. The
    source is that of `kfac_factors`.

    Args:
        damping: lambda, added to each eigenvalue of the curvature.
        decay: how much of the running mean of the factors a step keeps.
        every: how many steps use the same eigenvectors. Only the first of them computes the
            eigenvectors, also in a compiled step.
        sharing: as for `kfac_factors`.
        reduction: that of the step's loss.

    Raises:
        LayerError: from the step, if a layer mixes examples, or `init_state` got no gradient.

    Example:
        >>> net, loss = lf.dense(10), lf.losses.softmax_cross_entropy()
        >>> lf.make_step(net, loss, lf.optim.sgd(0.1), gradient=kfac(0.01, every=10)).gradient
        kfac(0.01, every=10)
    """
    compute = partial(_compute, is_mean=reduction == "mean")
    return core.bare(partial(Gradient, reduction=reduction), compute, _init)


def _init(net: Layer, params: Params) -> KfacState:
    factors = tuple(map(_zeros, _matrix_params(net, params)))
    eigen = tuple(
        Eigen(f.a.new_zeros(len(f.a)), f.a, f.b.new_zeros(len(f.b)), f.b) for f in factors
    )
    device = factors[0].a.device if factors else None
    return KfacState(torch.zeros((), dtype=torch.int64, device=device), factors, eigen)


def _zeros(layer: Params) -> Factors:
    weight, matrix = layer.weight, layer.weight.flatten(1)
    n_in, n_out = matrix.shape if has_inputs_first(weight) else matrix.mT.shape
    sizes = n_in + (layer.bias is not None), n_out
    dtype = torch.promote_types(weight.dtype, torch.float32)
    return Factors(*(weight.new_zeros(size, size, dtype=dtype) for size in sizes))


def _matrix_params(net: Layer, params: Params) -> list[Params]:
    classes = matrix_classes(net)
    leaves = optree.tree_leaves(
        params, is_leaf=lambda node: isinstance(node, classes), namespace=core.TRAINED
    )
    return [leaf for leaf in leaves if isinstance(leaf, classes)]


def _compute(
    net: Layer, params: Params, cache: core.Cache, g: core.Arrays, state: KfacState, key: core.Key,
    *, damping: float, decay: float, every: int, sharing: Sharing, is_mean: bool,
) -> tuple[Params, KfacState]:  # fmt: skip
    check_independent(net)
    if not isinstance(state, KfacState):
        expected = "the state of a gradient with factors"
        mend = "write init_state(..., gradient=gradient)"
        raise core.unexpected("kfac", expected, core.format_briefly(state), mend)
    _, sites = cotangents(net, params, cache, g, dx=False)
    dparams = grads_at(net, params, sites)
    now = _factors(net, params, sites, sharing, examples_in(g) if is_mean else 1)
    step = state.step + 1
    factors = _running(state.factors, now, (1 - 1 / step).clamp(max=decay))
    is_due = state.step % every == 0
    pairs = zip(state.eigen, factors, strict=True)
    eigen = tuple(old.when_due(is_due, of_layer) for old, of_layer in pairs)
    return _precondition(net, dparams, now, eigen, damping), KfacState(step, factors, eigen)


@attrs.frozen(eq=False)
class Uses(core.Addable):
    """The factors of each use of a layer; a use in a layer without rows has none."""

    factors: tuple[Factors, ...]

    def to(self, dtype: torch.dtype) -> Uses:
        """Return the factors in another dtype."""
        return Uses(tree.map(lambda leaf: leaf.to(dtype), self.factors))

    def joined(self, other: Uses) -> Uses:
        """List the uses of both."""
        return Uses((*self.factors, *other.factors))


def _factors(
    net: Layer, params: Params, sites: Record, sharing: Sharing, count: int
) -> list[Factors | None]:
    """Compute the factors of each dense or convolutional layer; None for one that has no rows."""

    def use(site: Site) -> Site:
        if not is_trained(site.params):
            return site
        uses = tree.map(lambda _: Uses(()), site.params)
        rows = None
        if isinstance(site.g, Tensor):
            rows = rows_of(site.layer, site.params, site.cache, site.g.unsqueeze(0))
        if rows is not None:
            of_use = factors_of(rows, site.params.bias is not None, sharing)
            # B of a mean loss is a mean: N sum_n g_n g_n^T, since each g_n is divided by N.
            uses = evolve(uses, weight=Uses((evolve(of_use, b=of_use.b * count),)))
        return evolve(site, dparams=uses)

    marked = optree.tree_map(use, sites, is_leaf=is_site)
    each = [layer.weight for layer in _matrix_params(net, grads_at(net, params, marked))]
    return [merge(list(use.factors)) if use.factors else None for use in each]


def _running(
    factors: tuple[Factors, ...], now: list[Factors | None], kept: Tensor
) -> tuple[Factors, ...]:
    """Compute e A + (1 - e) A_k."""

    def mean(old: Tensor, new: Tensor) -> Tensor:
        return old + (1 - kept).to(old.dtype) * (new - old)

    pairs = zip(factors, now, strict=True)
    return tuple(old if new is None else tree.map(mean, old, new) for old, new in pairs)


def _precondition(
    net: Layer, dparams: Params, now: list[Factors | None], eigen: tuple[Eigen, ...], damping: float
) -> Params:
    each, classes = iter(zip(now, eigen, strict=True)), matrix_classes(net)

    def multiply(layer: Params) -> Params:
        if not isinstance(layer, classes):
            return layer
        factors, basis = next(each)
        return layer if factors is None else basis.natural(layer, damping)

    return optree.tree_map(
        multiply, dparams, is_leaf=lambda node: isinstance(node, classes), namespace=core.TRAINED
    )
