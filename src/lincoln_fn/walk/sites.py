"""dx now, dparams later: the backward walk in two halves.

`cotangents` records what each layer's gradient is computed from: a `Site`. `grads_at` computes the
gradients from the sites. Together they give the bits of `backward`, and compute no product twice.
"""

from __future__ import annotations

from lincoln_fn.core import Arrays, Cache, Layer, Params, checked, is_derived, record, static
from lincoln_fn.walk.arrangement import Record
from lincoln_fn.walk.composition import composition_of
from lincoln_fn.walk.visitors import Wants
from lincoln_fn.walk.walks import walk_back


@record
class Site:
    """One use of one layer, as the backward walk recorded it.

    Args:
        path: its position in the network, such as "2.0".
        g: dL/dy of this use; None if it was not needed: the network's dx was not wanted, and
            neither this layer nor one before it is trained.
        dparams: the gradient of this use, if it was computed together with dx, as in norms and
            recurrent layers; else None.
    """

    layer: Layer = static()
    path: str = static()
    params: Params
    cache: Cache
    g: Arrays
    dparams: Params | None


@checked
def cotangents(
    net: Layer, params: Params, cache: Cache, g: Arrays, *, dx: bool = True
) -> tuple[Arrays, Record]:
    """Compute dx of a network, and record what the gradients of its parameters are computed from.

    Args:
        dx: whether the network's dx is wanted. If not, the walk ends at the first trained layer.

    Returns:
        dx or None, and a tree with one `Site` for each use of each single layer. Each composition
        is a tuple in it, with one entry per part or use.

    Example:
        >>> net, x = lf.serial(lf.dense(2), lf.tanh()), torch.ones(1, 3)
        >>> params = net.init(lf.Key(0), x)
        >>> dx, sites = cotangents(net, params, net.forward(params, x)[1], torch.ones(1, 2))
        >>> [(site.path, site.layer.name, site.g.shape) for site in sites]
        [('0', 'dense(2)', torch.Size([1, 2])), ('1', 'tanh()', torch.Size([1, 2]))]
    """
    return walk_back(_site, net, params, cache, g, Wants(dx, True), skip=skipped)


def _site(
    layer: Layer, path: str, params: Params, cache: Cache, g: Arrays, wants: Wants
) -> tuple[Arrays, Site]:
    shares = is_derived(layer, "grads") or is_derived(layer, "input_grad")
    if shares and wants.dparams:
        dx, dparams = layer.backward(params, cache, g)
        return (dx if wants.dx else None), Site(layer, path, params, cache, g, dparams)
    dx = layer.input_grad(params, cache, g) if wants.dx else None
    return dx, Site(layer, path, params, cache, g, None)


def skipped(layer: Layer, path: str, params: Params) -> Site:
    """Return the site of a layer from which nothing is needed."""
    return Site(layer, path, params, None, None, params)


def grads_at(net: Layer, params: Params, sites: Record) -> Params:
    """Compute dparams from the sites of `cotangents`, bit for bit as `net.grads` returns it.

    Example:
        >>> net, x = lf.dense(2), torch.ones(1, 3)
        >>> params = net.init(lf.Key(0), x)
        >>> _, sites = cotangents(net, params, net.forward(params, x)[1], torch.ones(1, 2))
        >>> grads_at(net, params, sites).bias
        tensor([1., 1.])
    """
    if isinstance(sites, Site) and sites.layer is net:
        if sites.dparams is not None:
            return sites.dparams
        return net.grads(sites.params, sites.cache, sites.g)
    made = composition_of(net)
    assert made is not None, "a single layer has one site"
    return made.gather(lambda i, entry, site: grads_at(made.parts[i], entry, site), params, sites)
