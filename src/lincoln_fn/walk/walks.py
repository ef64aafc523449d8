"""The two walks through a network, for a visitor of your own."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import attrs

from lincoln_fn.core.layer import Arrays, Cache, Layer, Params, unchanged
from lincoln_fn.walk.composition import Composition, composition_of
from lincoln_fn.walk.parts import make_readable, take_ownership, to_tuple
from lincoln_fn.walk.visits import (
    FORWARD,
    PartsBack,
    PartsThere,
    Record,
    WalkBack,
    WalkThere,
    advance_part,
    keep,
)
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
    advance: Advance = advance_part,
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
    walker = _Walker(visit, advance, around)
    return walker.run(net, "", params, x, ALL)


@attrs.frozen(eq=False)
class _Walker:
    """The visitor, and the other functions of a forward walk."""

    visit: ThereVisitor
    advance: Advance
    around: Around
    walk: WalkThere = attrs.field(init=False)

    @walk.default
    def _make_walk(self) -> WalkThere:
        return WalkThere(self.run, partial(_advance_within, self.advance))

    def run(
        self, layer: Layer, path: str, params: Params, x: Arrays, wants: Wants
    ) -> tuple[Arrays, Record]:
        """Visit a layer, or all its parts."""
        made = composition_of(layer)
        if made is None:
            return self.visit(layer, path, params, x)
        visit = PartsThere(made, self.walk, path)
        result: tuple[Arrays, Record] = self.around(
            layer, path, params, lambda: made.there(visit, params, x)
        )
        return result


def _advance_within(advance: Advance, layer: Layer, params: Params, record: Record) -> Params:
    """Advance a layer, or all its parts, from the records of a walk."""
    made = composition_of(layer)
    if layer.advance is unchanged:
        return params
    if made is None:
        return advance(layer, params, to_tuple(record))
    walk = WalkThere(FORWARD.at, partial(_advance_within, advance))
    return made.advance(PartsThere(made, walk), params, make_readable(record, made.label))


def back(
    visit: BackVisitor,
    net: Layer,
    params: Params,
    cache: Cache,
    g: Arrays,
    *,
    advance: Advance = advance_part,
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

    walker = BackWalker(leaf, skip=None, owns_cache=False, advance=advance)
    return walker.run(net, "", params, cache, g, ALL)


@attrs.frozen(eq=False)
class BackWalker:
    """A backward walk."""

    # (layer, path, params, cache, g, wants) -> (dx, record), for a single layer
    leaf: Callable[[Layer, str, Params, Cache, Arrays, Wants], tuple[Arrays, Record]]
    # (layer, path, params) -> record, for a part from which nothing is needed; None visits it
    # anyway
    skip: Callable[[Layer, str, Params], Record] | None
    # whether there are no other references to the caches: each is freed when its part is done
    owns_cache: bool = False
    advance: Advance = advance_part  # as `there` takes it
    # (composition, params, records) -> record of the composition, where dparams are wanted; None
    # keeps the records as they are
    gather: Callable[[Composition, Params, Record], Record] | None = None
    # (record, later) -> records of a part that is used several times, as `VisitBack.add` says
    add: Callable[[Record, tuple[Record, ...]], tuple[Record, ...]] = keep
    walk: WalkBack = attrs.field(init=False)

    @walk.default
    def _make_walk(self) -> WalkBack:
        return WalkBack(self.run, partial(_advance_within, self.advance), self.skip, self.add)

    def run(
        self, layer: Layer, path: str, params: Params, cache: Cache, g: Arrays, wants: Wants
    ) -> tuple[Arrays, Record]:
        """Visit a layer, or all its parts."""
        made = composition_of(layer)
        if made is None:
            return self.leaf(layer, path, params, to_tuple(cache), g, wants)
        if self.owns_cache:
            cache = take_ownership(cache)
        visit = PartsBack(made, self.walk, path, params, wants)
        dx, records = made.walk_back(visit, params, cache, g)
        if self.gather is not None:
            records = self.gather(made, params, records) if wants.dparams else None
        return (dx if wants.dx else None), records
