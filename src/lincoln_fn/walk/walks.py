"""The two walks through a network, for a visitor of your own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import attrs

from lincoln_fn.core.layer import Arrays, Cache, Layer, Params, unchanged
from lincoln_fn.walk.composition import Composition, composition_of
from lincoln_fn.walk.parts import (
    ERRORS,
    make_readable,
    place_error,
    take_ownership,
    to_tuple,
)
from lincoln_fn.walk.visits import Record, keep
from lincoln_fn.walk.wants import ALL, NOTHING, Wants, wants_of_part

ThereVisitor: TypeAlias = Callable[[Layer, str, Params, Arrays], tuple[Arrays, Record]]
BackVisitor: TypeAlias = Callable[[Layer, str, Params, Cache, Arrays], tuple[Arrays, Record]]
# How a state advances between two uses of one layer, from the visitor's record of the first.
Advance: TypeAlias = Callable[[Layer, Params, Record], Params]
# Any: (y, record), as the walk through the composition returns them.
Around: TypeAlias = Callable[[Layer, str, Params, Callable[[], Any]], Any]


def _advance(layer: Layer, params: Params, record: Record) -> Params:
    return layer.advance(params, record)


# Any: as `Around` says.
def _straight(layer: Layer, path: str, params: Params, walk: Callable[[], Any]) -> Any:
    return walk()


def there(
    visit: ThereVisitor,
    net: Layer,
    params: Params,
    x: Arrays,
    *,
    advance: Advance = _advance,
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
    return walker.run(net, "", params, x)


@attrs.frozen(eq=False)
class _Walker:
    """The visitor, and the other functions of a forward walk."""

    visit: ThereVisitor
    advance: Advance
    around: Around

    def run(self, layer: Layer, path: str, params: Params, x: Arrays) -> tuple[Arrays, Record]:
        """Visit a layer, or all its parts."""
        made = composition_of(layer)
        if made is None:
            return self.visit(layer, path, params, x)
        visit = _Parts(made, path, self)
        result: tuple[Arrays, Record] = self.around(
            layer, path, params, lambda: made.there(visit, params, x)
        )
        return result


# Never changed, but not frozen: one is made for each composition of each walk, and `frozen` would
# double the time.
@attrs.define(eq=False)
class _Parts:
    """The visitor that the loop of one composition gets in a forward walk."""

    composition: Composition
    path: str
    walker: Any  # Any: a _Walker, or a BackWalker, whose `run` takes other arguments

    @property
    def label(self) -> str:
        """The composition's name in errors."""
        return self.composition.label

    @property
    def parts(self) -> tuple[Layer, ...]:
        """The parts; their errors name their position."""
        return self.composition.placed

    def __call__(self, i: int, params: Params, x: Arrays) -> tuple[Arrays, Record]:
        """Visit part i."""
        part = self.composition.parts[i]
        try:
            result: tuple[Arrays, Record] = self.walker.run(part, inside(self.path, i), params, x)
        except ERRORS as error:
            placed_error = place_error(error, f"{self.label}[{i}]", part.name, "forward", x)
            raise placed_error from placed_error.__cause__
        return result

    def advance(self, i: int, params: Params, record: Record) -> Params:
        """Advance the state of part i."""
        part = self.composition.parts[i]
        made = composition_of(part)
        if part.advance is unchanged:
            return params
        if made is None:
            advanced: Params = self.walker.advance(part, params, to_tuple(record))
            return advanced
        within = _Parts(made, inside(self.path, i), self.walker)
        return made.advance(within, params, make_readable(record, made.label))


def inside(path: str, i: int) -> str:
    """Return the path of part i of the composition at a path."""
    return f"{path}.{i}" if path else str(i)


def back(
    visit: BackVisitor,
    net: Layer,
    params: Params,
    cache: Cache,
    g: Arrays,
    *,
    advance: Advance = _advance,
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
    advance: Advance = _advance  # as `there` takes it
    # (composition, params, records) -> record of the composition, where dparams are wanted; None
    # keeps the records as they are
    gather: Callable[[Composition, Params, Record], Record] | None = None
    # (record, later) -> records of a part that is used several times, as `VisitBack.add` says
    add: Callable[[Record, tuple[Record, ...]], tuple[Record, ...]] = keep

    def run(
        self, layer: Layer, path: str, params: Params, cache: Cache, g: Arrays, wants: Wants
    ) -> tuple[Arrays, Record]:
        """Visit a layer, or all its parts."""
        made = composition_of(layer)
        if made is None:
            return self.leaf(layer, path, params, to_tuple(cache), g, wants)
        if self.owns_cache:
            cache = take_ownership(cache)
        visit = _PartsBack(made, path, self, params, wants)
        dx, records = made.walk_back(visit, params, cache, g)
        if self.gather is not None:
            records = self.gather(made, params, records) if wants.dparams else None
        return (dx if wants.dx else None), records


@attrs.define(eq=False)
class _PartsBack(_Parts):
    """The visitor that the loop of one composition gets in a backward walk."""

    params: Params
    wants: Wants

    def __call__(  # type: ignore[override]  # as the loop back calls it
        self, i: int, params: Params, cache: Cache, g: Arrays, train: bool = True
    ) -> tuple[Arrays, Record]:
        """Visit part i."""
        made, skip = self.composition, self.walker.skip
        part, path = made.parts[i], inside(self.path, i)
        wants = wants_of_part(made.needs_dx, i, self.params, params, self.wants, train)
        if wants is NOTHING and skip is not None:
            return None, skip(part, path, params)
        try:
            result: tuple[Arrays, Record] = self.walker.run(part, path, params, cache, g, wants)
        except ERRORS as error:
            placed_error = place_error(error, f"{self.label}[{i}]", part.name, "backward", g)
            raise placed_error from placed_error.__cause__
        return result

    def add(self, record: Record, later: tuple[Record, ...]) -> tuple[Record, ...]:
        """Add the record of one use of a part to those of its later uses."""
        added: tuple[Record, ...] = self.walker.add(record, later)
        return added
