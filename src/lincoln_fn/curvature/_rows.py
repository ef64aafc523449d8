"""The rows that a layer multiplies by its matrix, as it declares them.

With the rows t of example n, such as the positions of a sequence or an image,

    y_(nt) = x_(nt) W + b
    dW = sum_(n,t) x_(nt)^T g_(nt)        db = sum_(n,t) g_(nt)

A convolution's row is what the kernel sees at one position. In its weight the outputs are on axis
0, so that dW is transposed. `column_sites` finds the g of several cotangents at once, each a column
of a matrix.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs
import optree
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import unfold

from lincoln_fn import core
from lincoln_fn.core import Arrays, Cache, Layer, Outer, Params, evolve, gradients_of, tree
from lincoln_fn.per_example.internal import check_axes, windows
from lincoln_fn.walk import Site, is_trained
from lincoln_fn.walk.internal import DPARAMS, Record, Wants, paths, walk_back


@attrs.frozen(eq=False)
class Rows:
    """The rows of one use of a layer's weight."""

    x: Float[Tensor, "N T I"]
    g: Float[Tensor, "K N T O"]


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
        case Outer(x=x):
            return Rows(x, g)
        case core.Correlation(groups=1) as term:
            return Rows(_windows(term, params.weight), g.flatten(3).mT)
    return None


def _windows(term: core.Correlation, weight: Tensor) -> Float[Tensor, "N positions window"]:
    """Put what the kernel sees at each position into a row."""
    kernel = weight.shape[2:]
    if len(kernel) != 2:
        return windows(term, weight)
    # torch's kernel, for planes alone
    return unfold(term.x, kernel, term.dilation, 0, term.stride).mT


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

    def skipped(layer: Layer, path: str, params: Params) -> Site:
        return Site(layer, path, params, None, None, params)

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
