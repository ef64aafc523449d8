"""K-FAC: each layer's gradient multiplied by the inverse of its Kronecker-factored curvature.

Derivation. dW~ is the gradient of a layer's weight, with that of its bias as the last row, and its
curvature A ox B is that of `kfac_factors.py`. With the eigenvectors U and eigenvalues of each,

    A = U_A diag(a) U_A^T        B = U_B diag(b) U_B^T

A ox B + lambda I is diagonal in the basis U_A ox U_B, and so

    (A ox B + lambda I)^(-1) dW~ = U_A ((U_A^T dW~ U_B) / (a b^T + lambda)) U_B^T

with the division element by element: the damping lambda is exact. The factors are running means
over the steps. In step k, from 1, each is

    A <- e A + (1 - e) A_k        e = min(1 - 1/k, decay)

B is computed from the g of the batch's own loss, so that A ox B stands for the empirical Fisher
matrix, the mean of the examples' h_n h_n^T.

Source: damping in the eigenbasis as George and others, "Fast Approximate Natural Gradient Descent
in a Kronecker-factored Eigenbasis", NeurIPS 2018.
"""

from __future__ import annotations

from functools import partial
from typing import Literal

import attrs
import optree
import torch
from jaxtyping import Int
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import Decay, Layer, Params, Positive, PositiveInt, Shown, evolve, record, tree
from lincoln_fn.curvature.columns import has_inputs_first, is_site, matrix_classes, rows_of
from lincoln_fn.curvature.kfac_factors import Eigen, Factors, Sharing, factors_of, merge
from lincoln_fn.per_example.internal import check_independent, examples_in
from lincoln_fn.training import Gradient
from lincoln_fn.walk.internal import Record, Site, cotangents, grads_at, is_trained


@record
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
    gradient, and so do convolutions with groups. A ox B stands for the empirical Fisher matrix.

    Args:
        damping: lambda, added to each eigenvalue of the curvature.
        decay: how much of the running mean of the factors a step keeps.
        every: how many steps use the same eigenvectors. Only the first of them computes the
            eigenvectors, also in a compiled step.
        sharing: as for `kfac_factors`.
        reduction: that of the step's loss.

    Raises:
        LayerError: from the step, if a layer mixes examples, or `init_state` was not given the
            gradient.

    Source:
        Martens and Grosse, "Optimizing Neural Networks with Kronecker-factored Approximate
        Curvature", ICML 2015.

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
