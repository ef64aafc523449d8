"""Columns of a square root of a loss's Hessian in the prediction, and how they go back together.

L is a sum of one term for each example, so that H_L has a block H_n for each example n, and zeros
elsewhere. A square root of it is a set of columns s_(kn), each of the prediction's shape, with

    H_n = sum_k s_(kn) s_(kn)^T

Derivation for the cross-entropy of softmax. p is the softmax of the logits, w the weight of the
example in the loss, and r_k = sum_(j>k) p_j the probability of the classes behind k, so that

    r_(k-1) = p_k + r_k        r_(-1) = 1

    H_n = w (diag(p) - p p^T)

Elimination of class 0, with the pivot p_0 (1 - p_0) = p_0 r_0, leaves for j, l > 0

    delta_(jl) p_j - p_j p_l - (p_0 p_j) (p_0 p_l) / (p_0 r_0)
        = delta_(jl) p_j - p_j p_l (1 + p_0 / r_0) = r_0 (delta_(jl) q_j - q_j q_l)

with q = p / r_0: the same matrix again, for the classes behind 0. So the Cholesky factor is

    d_k = sqrt(w p_k r_k / r_(k-1))
    (s_(kn))_j = {(d_k, if j = k), (-d_k p_j / r_k, if j > k), (0, otherwise):}

and C classes have C - 1 columns, since r_(C-1) = 0. One class has a column of zeros.

Any other loss gives H_n column by column, as the derivative of its gradient along e_k. Its
eigenvectors u_k and eigenvalues l_k give s_(kn) = sqrt(l_k) u_k. For a diagonal H_n, such as the
squared error's, they are e_k and the diagonal.

All columns go back at once, each a cotangent. Some layers declare that they multiply rows by a
matrix. With the rows t of example n, such as the positions of a sequence or an image,

    y_(nt) = x_(nt) W + b
    dW = sum_(n,t) x_(nt)^T g_(nt)        db = sum_(n,t) g_(nt)

A convolution's row is what the kernel sees at one position. In its weight the outputs are on axis
0, so that dW is transposed.

Source: Tanabe and Sagae, "An Exact Cholesky Decomposition and the Generalized Inverse of the
Variance-Covariance Matrix of the Multinomial Distribution", 1992.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import attrs
import optree
import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import Arrays, Cache, Layer, Params, evolve, gradients_of, tree, unexpected
from lincoln_fn.curvature.duals import forward_mode, loss_gradient, tangents_of, with_tangents
from lincoln_fn.losses import Loss, softmax_cross_entropy
from lincoln_fn.losses.internal import check_each_alone, check_one_number, formula_of
from lincoln_fn.per_example.internal import check_axes, windows
from lincoln_fn.walk import Site, is_trained
from lincoln_fn.walk.internal import DPARAMS, Record, Wants, paths, skipped, walk_back

# Eigenvalues below this multiple of the largest are rounding errors, if they are negative.
_ROUNDING = 1e-5


def columns(loss: Loss, prediction: Arrays, target: Arrays) -> Float[Tensor, "K N *s"]:
    """Compute a square root of the loss's Hessian in the prediction: columns with H = sum s s^T."""
    if not isinstance(prediction, Tensor) or prediction.ndim == 0:
        problem = "expected a prediction of one tensor, with the examples on axis 0"
        raise core.LayerError(loss.name, problem)
    check_each_alone("curvature", loss, prediction, target, by_target=False)
    if core.made_by(loss, softmax_cross_entropy):
        return _of_softmax(loss, prediction, target)
    h = _blocks(loss, prediction, target)
    diagonal = h.diagonal(dim1=1, dim2=2)
    if torch.equal(h, torch.diag_embed(diagonal)):
        values, vectors = diagonal, torch.eye(h.shape[1]).to(h).expand_as(h)
    else:
        values, vectors = torch.linalg.eigh(h)
    if values.min() < -_ROUNDING * values.abs().max():
        expected = "a loss whose Hessian in the prediction has no negative eigenvalue"
        raise unexpected(loss.name, expected, f"{values.min().item():.3g}")
    roots = vectors * values.clamp(min=0).sqrt().unsqueeze(1)
    return roots.permute(2, 0, 1).reshape(-1, *prediction.shape)


def _blocks(loss: Loss, prediction: Tensor, target: Arrays) -> Float[Tensor, "N D D"]:
    """Compute H_n, column by column, for all examples at once."""
    count = math.prod(prediction.shape[1:])
    of_column = []
    for e_k in torch.eye(count, dtype=prediction.dtype, device=prediction.device):
        with forward_mode():
            along = e_k.reshape(prediction.shape[1:]).expand_as(prediction)
            column = tangents_of(loss_gradient(loss, with_tangents(prediction, along), target))
            of_column.append(column.reshape(len(prediction), count))
    return torch.stack(of_column, 2)


def _of_softmax(
    loss: Loss, x: Float[Tensor, "N C *s"], target: Arrays
) -> Float[Tensor, "K N C *s"]:
    """Compute the Cholesky factor's columns; each position has columns of its own."""
    formula = formula_of(loss)
    assert formula is not None
    value, cache = loss.forward(x, target)
    check_one_number(loss.name, value)
    dim, w = cache.formula.dim, cache.formula.w
    if formula.is_mean:
        w = w / (math.prod(cache.shape) if cache.n is None else cache.n)
    p, w = (t.movedim(dim, 1) for t in (torch.exp(cache.formula.z), w))
    shape = p.shape
    p, w = (t.flatten(2).transpose(1, 2) if t.ndim > 2 else t.unsqueeze(1) for t in (p, w))
    roots = _cholesky(p) * w.sqrt()  # (k, N, positions, C)
    positions = torch.eye(p.shape[1], dtype=p.dtype, device=p.device)
    apart = roots.unsqueeze(1) * positions[:, None, :, None]
    return apart.transpose(-1, -2).reshape(-1, *shape).movedim(2, dim % x.ndim + 1)


def _cholesky(p: Float[Tensor, "N P C"]) -> Float[Tensor, "K N P C"]:
    """Compute the C - 1 columns of the Cholesky factor of diag(p) - p p^T."""
    columns = []
    for k in range(p.shape[-1] - 1):
        p_k, behind = p[..., k : k + 1], p[..., k + 1 :]
        r_k = behind.sum(-1, keepdim=True)
        d_k = (p_k * r_k / (p_k + r_k)).nan_to_num(0)
        below = -d_k.sqrt() * (behind / r_k).nan_to_num(0)
        zeros = torch.zeros_like(p[..., :k])
        columns.append(torch.cat([zeros, d_k.sqrt(), below], -1))
    return torch.stack(columns) if columns else torch.zeros_like(p).unsqueeze(0)


# The rows x and g of one use of a layer's weight.
Rows: TypeAlias = tuple[Float[Tensor, "N T I"], Float[Tensor, "K N T O"]]


def matrix_classes(net: Layer) -> tuple[type, ...]:
    """List the classes of params that layers of a network declare to multiply rows by a matrix."""
    declared = {gradients_of(layer).params for _, layer in paths(net)}
    return tuple(params for params in declared if params is not None)


def has_inputs_first(weight: Tensor) -> bool:
    """Return whether a weight is a matrix (n_in, n_out), and not kernels (n_out, n_in, *kernel)."""
    return weight.ndim == 2


def rows_of(layer: Layer, params: Params, cache: Cache, g: Float[Tensor, "K N *s"]) -> Rows | None:
    """Return the rows of x and of g, for K cotangents; None for a layer that declares none."""
    declared = gradients_of(layer)
    if declared.params is None or declared.terms is None:
        return None
    terms, found = declared.terms, []

    def factor(g: Tensor) -> Tensor:
        found.append(terms(params, cache, g).weight)
        of_g: Tensor = found[0].g
        return of_g

    g = torch.func.vmap(factor)(g)
    match attrs.evolve(found[0], g=g[0]):
        case core.Outer(x=x):
            return x, g
        case core.Correlation(groups=1) as term:
            return windows(term, params.weight), g.flatten(3).mT
    return None


def column_sites(
    net: Layer,
    params: Params,
    cache: Cache,
    g: Float[Tensor, "K N *s"],
    use: Callable[[Site], Params],
) -> Record:
    """Send K cotangents back together; at a trained layer's `Site`, dparams is what `use` makes."""
    record: Record = None

    def leaf(
        layer: Layer, path: str, params: Params, cache: Cache, g: Arrays, wants: Wants
    ) -> tuple[Arrays, Site]:
        check_axes(layer, params, cache, g)
        dx = layer.input_grad(params, cache, g) if wants.dx else None
        if wants.dparams and is_trained(params):
            return dx, Site(layer, path, params, cache, g, None)
        return dx, skipped(layer, path, params)

    def walk(g: Tensor) -> list[Tensor]:
        nonlocal record
        _, record = walk_back(leaf, net, params, cache, g, DPARAMS, skip=skipped)
        return tree.leaves([site.g for site in optree.tree_leaves(record, is_leaf=is_site)])

    # vmap returns the cotangents of all columns; the rest of a site does not depend on the column.
    leaves = iter(torch.func.vmap(walk)(g))

    def used(site: Site) -> Site:
        if site.g is None:
            return site
        whole = evolve(site, g=tree.map(lambda _: next(leaves), site.g))
        return evolve(whole, dparams=use(whole))

    return optree.tree_map(used, record, is_leaf=is_site)


def is_site(node: object) -> bool:
    """Return whether a node of a walk's record is of one layer."""
    return isinstance(node, Site)
