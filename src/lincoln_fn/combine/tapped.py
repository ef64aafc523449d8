"""Inner activations as outputs of a network: y = (net(x), (a_1, ..., a_n)).

Derivation. Let a_j be the output of a part, which is also what the network goes on with. The loss
depends on it in two ways, so the part's g is a sum: what arrives from the network behind it, and
the gradient of the output,

    g = g_"behind" + g_j

Each composition on the way to such a part says where its outputs are (`Composition.taps`). Its
visitors take a_j out on the way there and add g_j on the way back; its loops see neither.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Final, TypeAlias

from lincoln_fn import core
from lincoln_fn.combine.fixed_point import fixed_point
from lincoln_fn.combine.ode import ode
from lincoln_fn.combine.reversible import reversible
from lincoln_fn.combine.scan import scan
from lincoln_fn.combine.shared import shared
from lincoln_fn.core import Arrays, Cache, Key, Layer, LayerError, Params, Spec, call_of, made_by
from lincoln_fn.walk import VisitBack, VisitThere, check_entries, internal
from lincoln_fn.walk.internal import Record, Tap, around, composition_of

Outputs: TypeAlias = tuple[Arrays, tuple[Arrays, ...]]
# Compositions that run a part several times, or at other points on the way back.
_REPEATING: Final = (fixed_point, ode, reversible, scan, shared)


def _there(
    visit: VisitThere, params: Params, x: Arrays, *, order: tuple[int, ...]
) -> tuple[Outputs, Record]:
    (y, outputs), record = visit(0, params, x)
    return (y, tuple(outputs[j] for j in order)), record


def _back(
    visit: VisitBack, params: Params, cache: Cache, g: Outputs, *, order: tuple[int, ...]
) -> tuple[Arrays, Record]:
    check_entries("tapped", "g", g, 2)
    check_entries("tapped", "g[1]", g[1], len(order))
    gs: list[Arrays] = [None] * len(order)
    for j, g_j in zip(order, g[1], strict=True):
        gs[j] = g_j
    return visit(0, params, cache, (g[0], tuple(gs)))


def _init(parts: tuple[Layer, ...], key: Key, x: Arrays) -> Params:
    """Initialise the network as it is without outputs: parts get each other's plain outputs."""
    init = parts[0].init
    if isinstance(init, internal.Placed):
        init = init.function  # which closing replaces, if it is the composition's own
    (placed,) = internal.place_parts("tapped", [_close(parts[0].replace(init=init))])
    return placed.init(key, x)


def _chosen(net: Layer, patterns: tuple[str, ...]) -> tuple[str, ...]:
    """List the paths that fit the patterns, in the order of the patterns and then of the walk."""
    closed = {path: around for path, around in _named_paths(net, "", None) if path}
    chosen: dict[str, None] = {}
    for pattern in patterns:
        fitting = [path for path in closed if internal.is_target(path, (pattern,))]
        if not fitting:
            problem = internal.unknown_path("tapped", pattern, closed).problem
            raise LayerError("tapped", problem.replace("the path of a layer", "paths of layers"))
        chosen |= dict.fromkeys(fitting)
    for path in chosen:
        around = closed[path]
        if around is not None and around.spec is not None:
            mend = "it runs its parts several times; take the output of all of it"
            if made_by(around, tapped):
                mend = "give all paths to one tapped"
            expected = f"paths outside of {around.spec.of.__name__}"
            raise core.unexpected("tapped", expected, repr(path), mend)
    return tuple(chosen)


def _named_paths(
    layer: Layer, path: str, closed: Layer | None
) -> Iterator[tuple[str, Layer | None]]:
    """List the paths of a network, each with the first composition around it that is refused."""
    yield path, closed
    composed = composition_of(layer)
    if composed is not None:
        closed = closed or (layer if made_by(layer, *_REPEATING, tapped) else None)
        for i, part in enumerate(composed.parts):
            yield from _named_paths(part, composed.inside(path, i), closed)


def _open_to(layer: Layer, path: str, chosen: tuple[str, ...]) -> tuple[Layer, list[str]]:
    """Make a layer that returns the outputs at some paths within it, and list them in order."""
    composed = composition_of(layer)
    if composed is None:
        return layer, []
    parts, found, taps = list(composed.parts), list[str](), dict[int, Tap]()
    for i, part in enumerate(composed.parts):
        own_path = composed.inside(path, i)
        parts[i], within = _open_to(part, own_path, chosen)
        here = [own_path] if own_path in chosen else []
        if here or within:
            taps[i] = Tap(len(found), len(here) + len(within), bool(here))
            found += here + within
    if not taps:
        return layer, []
    return layer.rebuild(tuple(parts), taps=taps), found


def _close(layer: Layer) -> Layer:
    """Make the layer that `_open_to` was given, of the parts that the opened one has now."""
    composed = composition_of(layer)
    if composed is None or not composed.taps:
        return layer
    return layer.rebuild(tuple(map(_close, composed.parts)), taps={})


@core.constructor
def tapped(net: Layer, *paths: str) -> Layer:
    """Return inner activations beside a network's output: y = (net(x), (output at path_1, ...)).

    Then a loss on an activation is a loss like any other. `losses.weighted` adds the losses up: an
    auxiliary classifier, a penalty on activations, the load of the experts of a mixture.

    `predict` returns the same structure as `forward`, so that `evaluate` can compute the training
    loss. net itself, with the same params, gives its plain output.

    Args:
        net: a composition of layers.
        *paths: of layers or compositions in it, such as "2.0" or "1.0.query", made of positions,
            and of names where parts have names; or patterns, in which `*` stands for any text, such
            as "*.router". A pattern stands for all paths that fit it, in the order of the network.

    Raises:
        LayerError: if a path fits nothing, or lies in `scan`, `shared`, `fixed_point`, `ode` or
            `reversible`, which run their parts several times.

    Example:
        >>> net, x = lf.serial(lf.dense(4), lf.relu(), lf.dense(2)), torch.ones(1, 3)
        >>> with_features = tapped(net, "1")
        >>> y, (features,) = with_features.predict(with_features.init(lf.Key(0), x), x)
        >>> y.shape, features.shape
        (torch.Size([1, 2]), torch.Size([1, 4]))
    """
    if composition_of(net) is None:
        raise core.unexpected("tapped", "a composition of layers", net.name)
    if not paths:
        raise core.unexpected("tapped", "at least one path", "none")
    chosen = _chosen(net, paths)
    opened, found = _open_to(net, "", chosen)
    order = tuple(map(found.index, chosen))
    loops = {"there": partial(_there, order=order), "back": partial(_back, order=order)}
    return core.bare(partial(around, part=opened), **loops, init=_init, call=_call)


def _call(parts: tuple[Layer, ...], *, paths: tuple[str, ...]) -> Spec:
    return call_of(tapped, _close(parts[0]), *paths)
