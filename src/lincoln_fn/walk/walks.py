"""The two walks through a network, for a visitor of your own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import attrs

from lincoln_fn.core.layer import Arrays, Cache, Layer, Params, unchanged
from lincoln_fn.walk.composition import Composition, composition_of
from lincoln_fn.walk.parts import make_readable, take_ownership, to_tuple
from lincoln_fn.walk.visits import FORWARD, Forward, PartsBack, PartsThere, Record, keep
from lincoln_fn.walk.wants import ALL, Wants

ThereVisitor: TypeAlias = Callable[[Layer, str, Params, Arrays], tuple[Arrays, Record]]
BackVisitor: TypeAlias = Callable[[Layer, str, Params, Cache, Arrays], tuple[Arrays, Record]]
# How a state advances between two uses of one layer, from the visitor's record of the first.
Advance: TypeAlias = Callable[[Layer, Params, Record], Params]
# Any: (y, record), as the walk through the composition returns them.
Around: TypeAlias = Callable[[Layer, str, Params, Callable[[], Any]], Any]


# Any: as `Around` says.
def _straight(layer: Layer, path: str, params: Params, walk: Callable[[], Any]) -> Any:
    return walk()


def there(
    visit: ThereVisitor,
    net: Layer,
    params: Params,
    x: Arrays,
    *,
    advance: Advance = FORWARD.advance,
    around: Around = _straight,
) -> tuple[Arrays, Record]:
    """Walk through a network from input to output, and visit every single layer.

    Args:
        visit: (layer, path, params, x) -> (y, record). A path such as "2.0" is that of the first
            part of the third part; "" is the network's own.
        net: the network.
        params: its parameters.
        x: its input.
        advance: (layer, params, record) -> params: advances the state of a single layer between two
            uses of it, if records are not caches.
        around: (layer, path, params, walk) -> walk(): called around the walk of each composition.

    Returns:
        y, and the records in the structure of the network's cache. If they are caches, they are the
        cache.

    Raises:
        LayerError: as the layers and the visitor raise it, with the position.

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
    return _Walker(advance, visit, around).run(net, "", params, x, ALL)


@attrs.frozen(eq=False)
class _Advancing(Forward):
    """A forward walk that advances states from the records of a visitor."""

    advance_layer: Advance

    def advance(self, part: Layer, params: Params, record: Record) -> Params:
        """Advance a layer, or all its parts."""
        if part.advance is unchanged:
            return params
        made = composition_of(part)
        if made is None:
            return self.advance_layer(part, params, to_tuple(record))
        return made.advance(PartsThere(made, self), params, make_readable(record, made.label))


@attrs.frozen(eq=False)
class _Walker(_Advancing):
    """A forward walk with a visitor of single layers."""

    visit: ThereVisitor
    around: Around
    allows_loops = False

    def run(
        self, part: Layer, path: str, params: Params, x: Arrays, wants: Wants
    ) -> tuple[Arrays, Record]:
        """Visit a layer, or all its parts."""
        made = composition_of(part)
        if made is None:
            return self.visit(part, path, params, x)
        visit = PartsThere(made, self, path)
        result: tuple[Arrays, Record] = self.around(
            part, path, params, lambda: made.there(visit, params, x)
        )
        return result


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
        net: the network.
        params: those given to `forward`.
        cache: what `forward`, or `there`, returned beside y.
        g: dL/dy.
        advance: as `there` takes it.

    Returns:
        dx, and the records: a composition's are a tuple with an entry for each part, or for each
        use of a part.

    Raises:
        LayerError: as the layers and the visitor raise it, with the position.

    Example:
        >>> net, x = lf.serial(lf.dense(2), lf.tanh()), torch.ones(1, 3)
        >>> params = net.init(lf.Key(0), x)
        >>> def norm_of_g(layer, path, params, cache, g):
        ...     return layer.input_grad(params, cache, g), g.norm()
        >>> dx, norms = back(norm_of_g, net, params, net.forward(params, x)[1], torch.ones(1, 2))
        >>> norms[1]
        tensor(1.4142)
    """

    def leaf(
        layer: Layer, path: str, params: Params, cache: Cache, g: Arrays, wants: Wants
    ) -> tuple[Arrays, Record]:
        return visit(layer, path, params, cache, g)

    return BackWalker(leaf, skip=None, advance_layer=advance).run(net, "", params, cache, g, ALL)


@attrs.frozen(eq=False)
class BackWalker:
    """A backward walk."""

    allows_loops = False

    # (layer, path, params, cache, g, wants) -> (dx, record), for a single layer
    leaf: Callable[[Layer, str, Params, Cache, Arrays, Wants], tuple[Arrays, Record]]
    # (layer, path, params) -> record, for a part from which nothing is needed; None visits it
    # anyway
    skip: Callable[[Layer, str, Params], Record] | None
    # whether there are no other references to the caches: each is freed when its part is done
    owns_cache: bool = False
    advance_layer: Advance = FORWARD.advance  # as `there` takes it
    # (composition, params, records) -> record of the composition, where dparams are wanted; None
    # keeps the records as they are
    gather: Callable[[Composition, Params, Record], Record] | None = None
    # (record, later) -> records of a part that is used several times, as `VisitBack.add` says
    add: Callable[[Record, tuple[Record, ...]], tuple[Record, ...]] = keep

    def advance(self, part: Layer, params: Params, cache: Cache) -> Params:
        """Advance a layer, or all its parts."""
        return _Advancing(self.advance_layer).advance(part, params, cache)

    def run(
        self, part: Layer, path: str, params: Params, cache: Cache, g: Arrays, wants: Wants
    ) -> tuple[Arrays, Record]:
        """Visit a layer, or all its parts."""
        made = composition_of(part)
        if made is None:
            return self.leaf(part, path, params, to_tuple(cache), g, wants)
        if self.owns_cache:
            cache = take_ownership(cache)
        visit = PartsBack(made, self, path, params, wants)
        dx, records = made.walk_back(visit, params, cache, g)
        if self.gather is not None:
            records = self.gather(made, params, records) if wants.dparams else None
        return (dx if wants.dx else None), records
