"""The backward walk for several cotangents at once, each a column of a matrix."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn.core import Arrays, Cache, Layer, Params, evolve, tree
from lincoln_fn.per_example.internal import check_axes
from lincoln_fn.walk import Site, is_trained
from lincoln_fn.walk.internal import DPARAMS, Record, Wants, walk_back


def column_sites(
    net: Layer,
    params: Params,
    cache: Cache,
    g: Float[Tensor, "K N *s"],
    use: Callable[[Site], Params],
) -> Record:
    """Send K cotangents back together, and record the sites of the trained layers."""
    sites: list[Site] = []
    structure: Record = None  # of positions in the list

    def add(site: Site) -> int:
        sites.append(site)
        return len(sites) - 1

    def leaf(
        layer: Layer, path: str, params: Params, cache: Cache, g: Arrays, wants: Wants
    ) -> tuple[Arrays, int]:
        check_axes(layer, params, cache, g)
        dx = layer.input_grad(params, cache, g) if wants.dx else None
        if wants.dparams and is_trained(params):
            return dx, add(Site(layer, path, params, cache, g, None))
        return dx, add(Site(layer, path, params, None, None, params))

    def skipped(layer: Layer, path: str, params: Params) -> int:
        return add(Site(layer, path, params, None, None, params))

    def walk(g: Tensor) -> list[Tensor]:
        nonlocal structure
        _, structure = walk_back(leaf, net, params, cache, g, DPARAMS, skip=skipped)
        return tree.leaves([site.g for site in sites])

    # vmap returns the cotangents of all columns; the rest of a site does not depend on the column.
    leaves = iter(torch.func.vmap(walk)(g))

    def used(site: Site) -> Site:
        if site.g is None:
            return site
        whole = evolve(site, g=tree.map(lambda _: next(leaves), site.g))
        return evolve(whole, dparams=use(whole))

    sites_used = list(map(used, sites))
    return tree.map(lambda at: sites_used[at], structure)
