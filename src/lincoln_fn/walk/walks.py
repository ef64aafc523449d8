"""The two walks through a network, into all its compositions, and those of a training step.

A training step keeps only the caches that it reads: of a part that is trained, or whose dx a part
before it needs, or that advances a state. Where only `input_grad` reads a cache, or only `advance`,
it keeps what that function declares to read.

**dx now, dparams later.** `cotangents` records what each layer's gradient is computed from: a
`Site`. `grads_at` computes the gradients from the sites. Together they give the bits of `backward`,
and compute no product twice.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final, TypeAlias

from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import Arrays, Cache, Layer, Params, check_pair, declared_by, tree, unchanged
from lincoln_fn.walk.arrangement import Record
from lincoln_fn.walk.composition import Composition, composition_of
from lincoln_fn.walk.parts import is_trained
from lincoln_fn.walk.visitors import ALL, DPARAMS, DX, FORWARD, VisitBack, VisitThere, Walk, Wants

ThereVisitor: TypeAlias = Callable[[Layer, str, Params, Arrays], tuple[Arrays, Record]]
BackVisitor: TypeAlias = Callable[[Layer, str, Params, Cache, Arrays], tuple[Arrays, Record]]
# How a state advances between two uses of one layer, from the visitor's record of the first.
Advance: TypeAlias = Callable[[Layer, Params, Record], Params]
Walked: TypeAlias = tuple[Arrays, Record]
Wrap: TypeAlias = Callable[[Layer, str, Params, Callable[[], Walked]], Walked]


def _into_parts(advance: Advance) -> Advance:

    def at(part: Layer, params: Params, record: Record) -> Params:
        made = composition_of(part)
        if part.advance is unchanged:
            return params
        if made is None:
            return advance(part, params, record)
        return made.advance(VisitThere(made, walk), params, record)

    walk = Walk(FORWARD.visit, advance=at)
    return at


def there(
    visit: ThereVisitor,
    net: Layer,
    params: Params,
    x: Arrays,
    *,
    advance: Advance = FORWARD.advance,
    around: Wrap | None = None,
) -> tuple[Arrays, Record]:
    """Walk through a network from input to output, and visit every single layer.

    Args:
        visit: (layer, path, params, x) -> (y, record). A path such as "2.0" is that of the first
            part of the third part; "" is the network's own.
        advance: (layer, params, record) -> params: advances the state of a single layer between two
            uses of it, if records are not caches.
        around: (layer, path, params, walk) -> walk(): called around the walk of each composition.

    Returns:
        y, and the records in the structure of the network's cache.

    Example:
        >>> net = lf.serial(lf.relu(), lf.residual(lf.tanh()))
        >>> def shown(layer, path, params, x):
        ...     print(path, layer)
        ...     return layer.forward(params, x)
        >>> y, cache = there(shown, net, net.init(lf.Key(0), torch.ones(2)), torch.ones(2))
        0 relu()
        1.0 tanh()
        1.1 identity()
        1.2 add()
    """

    def at(
        part: Layer, path: str, params: Params, x: Arrays, wants: Wants
    ) -> tuple[Arrays, Record]:
        made = composition_of(part)
        if made is None:
            return visit(part, path, params, x)
        parts = VisitThere(made, walk, path)
        run = partial(parts.run, made.there, params, x)
        return around(part, path, params, run) if around else run()

    walk = Walk(at, advance=_into_parts(advance))
    return at(net, "", params, x, ALL)


def back(
    visit: BackVisitor,
    net: Layer,
    params: Params,
    cache: Cache,
    g: Arrays,
    *,
    advance: Advance = FORWARD.advance,
) -> tuple[Arrays, Record]:
    """Walk through a network from output to input, and visit every single layer.

    Args:
        visit: (layer, path, params, cache, g) -> (dx, record). dx goes on to the layer before it.
        advance: as `there` takes it.

    Returns:
        dx, and the records: a composition's are a tuple with an entry for each part or use.

    Example:
        >>> net, x = lf.serial(lf.dense(2), lf.tanh()), torch.ones(1, 3)
        >>> params = net.init(lf.Key(0), x)
        >>> def norm_of_g(layer, path, params, cache, g):
        ...     return layer.input_grad(params, cache, g), g.norm()
        >>> dx, norms = back(norm_of_g, net, params, net.forward(params, x)[1], torch.ones(1, 2))
        >>> norms[1]
        tensor(1.4142)
    """
    return walk_back(lambda *given: visit(*given[:-1]), net, params, cache, g, ALL, advance=advance)


def walk_back(
    leaf: Callable[..., tuple[Arrays, Record]],
    net: Layer,
    params: Params,
    cache: Cache,
    g: Arrays,
    wants: Wants,
    *,
    skip: Callable[[Layer, str, Params], Record] | None = None,
    advance: Advance = FORWARD.advance,
    gather: Callable[[Composition, Params, Record], Record] | None = None,
    add: Callable[[Record, tuple[Record, ...]], tuple[Record, ...]] = FORWARD.add,
    enters: Callable[[Composition], bool] | None = None,
) -> tuple[Arrays, Record]:
    """Walk back for what is wanted of a network; a dx that is not is None.

    Args:
        leaf: (layer, path, params, cache, g, wants) -> (dx, record), for a single layer.
        skip: as `Walk` takes it, and so is `add`; `advance` is as `there` takes it.
        gather: (composition, params, records) -> record of the composition, where dparams are
            wanted. None keeps the records as they are.
        enters: whether the walk goes into a composition, or visits it as a single layer. None goes
            into all of them.
    """

    def at(
        part: Layer, path: str, params: Params, cache: Cache, g: Arrays, wants: Wants
    ) -> tuple[Arrays, Record]:
        made = composition_of(part)
        if made is None or (enters is not None and not enters(made)):
            return leaf(part, path, params, cache, g, wants)
        dx, records = VisitBack(made, walk, path, params, wants).run(made.back, params, cache, g)
        if gather is not None:
            records = gather(made, params, records) if wants.dparams else None
        return (dx if wants.dx else None), records

    walk = Walk(at, advance=_into_parts(advance), skip=skip, add=add)
    return at(net, "", params, cache, g, wants)


def forward_to_train(net: Layer, params: Params, x: Arrays) -> tuple[Arrays, Cache]:
    """Compute y, as `net.forward` does, and the part of the cache that a training step reads.

    The cache is for `gradients` and `net.advance`: of a part that is not trained, and whose dx
    nobody needs, it holds nothing.

    Example:
        >>> net, x = lf.serial(lf.frozen(lf.dense(2)), lf.dense(3)), torch.ones(1, 4)
        >>> forward_to_train(net, net.init(lf.Key(0), x), x)[1][0]
    """
    if len(tree.leaves(params)) < len(tree.leaves(params, states=True)):  # some may be frozen
        return _to_train(net, "", params, x, DPARAMS)
    return net.forward(params, x)


def _to_train(
    part: Layer, path: str, params: Params, x: Arrays, wants: Wants
) -> tuple[Arrays, Cache]:
    """Compute y, and what the walk back reads if it has to compute `wants`."""
    if wants.dx and wants.dparams and not is_trained(params):
        wants = DX
    made = composition_of(part)
    if made is None:
        result = part.forward(params, x)
        check_pair(part.name, "forward", result)
    else:
        result = VisitThere(made, _TRAINING, path, params, wants).run(made.there, params, x)
    y, cache = result
    is_still = part.advance is unchanged
    if not wants.dparams and not wants.dx and is_still:
        return y, None
    if wants.dparams or made is not None or (wants.dx and not is_still):
        return y, cache
    reader = core.input_grad_of(part) if wants.dx else declared_by(part.advance)
    return y, cache if reader.reads is None else _keep_entries(cache, reader.reads)


_TRAINING: Final = Walk(_to_train, allows_loops=True)


def _keep_entries(cache: Cache, reads: tuple[str, ...]) -> Cache:
    """Keep some tensors of a cache, and of the others only the shapes."""
    paths = iter(tree.paths(cache, states=True))

    def keep(leaf: Tensor) -> Tensor:
        return leaf if next(paths) in reads else leaf.new_zeros(()).expand(leaf.shape)

    return tree.map(keep, cache, states=True)


def gradients(net: Layer, params: Params, cache: Cache, g: Arrays) -> Params:
    """Compute dparams, as `net.grads` does, from the cache of `forward` or `forward_to_train`.

    Example:
        >>> net, x = lf.dense(2), torch.ones(1, 3)
        >>> params = net.init(lf.Key(0), x)
        >>> gradients(net, params, net.forward(params, x)[1], torch.ones(1, 2)).bias
        tensor([1., 1.])
    """
    return net.grads(params, cache, g)


@core.record
class Site:
    """One use of one layer, as the backward walk recorded it.

    Args:
        path: its position in the network, such as "2.0".
        g: dL/dy of this use; None if it was not needed: the network's dx was not wanted, and
            neither this layer nor one before it is trained.
        dparams: the gradient of this use, if it was computed together with dx, as in norms and
            recurrent layers; else None.
    """

    layer: Layer = core.static()
    path: str = core.static()
    params: Params
    cache: Cache
    g: Arrays
    dparams: Params | None


@core.checked
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
    shares = core.is_derived(layer, "grads") or core.is_derived(layer, "input_grad")
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
        if not is_trained(sites.params):
            return sites.params
        own = sites.dparams
        return net.grads(sites.params, sites.cache, sites.g) if own is None else own
    made = composition_of(net)
    assert made is not None, "a single layer has one site"
    return made.gather(lambda i, entry, site: grads_at(made.parts[i], entry, site), params, sites)
