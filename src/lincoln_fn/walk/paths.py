"""The paths of a network's layers, and the same network with layers and params changed by path.

A path names a layer or a composition by its positions in `parts`, from the outermost: "2.0" is the
first part of the third part, and "" is the network itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import TypeAlias

from lincoln_fn.core import Key, Layer, LayerError, Params, checked, format_briefly, unexpected
from lincoln_fn.walk.composition import composition_of
from lincoln_fn.walk.parts import inside


def paths(net: Layer, path: str = "") -> Iterable[tuple[str, Layer]]:
    """List the layers and compositions of a network with their paths, each before its parts.

    Example:
        >>> list(paths(lf.serial(lf.tanh())))
        [('', serial(tanh())), ('0', tanh())]
    """
    yield path, net
    for i, part in enumerate(net.parts):
        yield from paths(part, inside(path, i))


def map_paths(f: Callable[[Layer, str], Layer], net: Layer, path: str = "") -> Layer:
    """Replace every layer and composition of a network by f(layer, path), parts first.

    A composition of the same parts as before is the same object.
    """
    parts = tuple(map_paths(f, part, inside(path, i)) for i, part in enumerate(net.parts))
    is_same = all(new is old for new, old in zip(parts, net.parts, strict=True))
    return f(net if is_same else net.rebuild(parts), path)


def is_target(path: str, targets: tuple[str, ...]) -> bool:
    """Return whether a path fits one of the patterns; "*.query" fits "query" alone, too."""
    return any(fnmatchcase(path, each) or fnmatchcase(f".{path}", each) for each in targets)


def unknown_path(where: str, path: object, known: Iterable[str]) -> LayerError:
    """Make the error about a path that a network does not have; it lists the nearest paths."""
    near = get_close_matches(path, known, cutoff=0.5) if isinstance(path, str) else []
    listed = ", ".join(map(repr, near or [*known][:6]))
    hint = f"near it are {listed}" if near else f"there are {listed}"
    return unexpected(where, "the path of a layer", f"{path!r}", hint)


Pair: TypeAlias = tuple[Layer, Params]
# (layer, path, params, key) -> (layer, params), or None to change the parts of a composition.
Change: TypeAlias = Callable[[Layer, str, Params, Key | None], Pair | None]


@checked
def map_params(
    f: Callable[..., Pair],  # with a key, if one is given
    net: Layer,
    params: Params,
    key: Key | None = None,
) -> tuple[Layer, Params]:
    """Replace every single layer of a network together with its params.

    `lf.map_layers` changes layers and keeps their params.

    Args:
        f: (layer, path, params) -> (layer, params), or (layer, path, params, key) if there is a
            key. A path such as "2.0.query" is made of positions, and of names where the parts of a
            composition have names.
        key: from which each call of f gets a key of its own; None for an f that draws nothing.

    Raises:
        LayerError: if f gives params to a part for which the composition's params have no place.

    Example:
        >>> net, x = lf.serial(lf.dense(2), lf.tanh()), torch.ones(1, 3)
        >>> def freeze(layer, path, params):
        ...     return lf.frozen(layer), lf.frozen(layer).init(lf.Key(0), x)
        >>> map_params(lambda *given: freeze(*given) if given[1] == "0" else given[::2], net,
        ...     net.init(lf.Key(0), x))
        (serial(frozen(dense(2)), tanh()), (FrozenParams(params=Params(weight=float32[3, 2], \
bias=float32[2])), ()))
    """

    def change(layer: Layer, path: str, params: Params, key: Key | None) -> Pair | None:
        if layer.composition is not None:
            return None
        pair: Pair = f(layer, path, params) if key is None else f(layer, path, params, key)
        return pair

    return change_parts(change, net, "", params, key)


def change_parts(f: Change, layer: Layer, path: str, params: Params, key: Key | None) -> Pair:
    """Change a layer and its params by f or, where f returns None, its parts."""
    pair = f(layer, path, params, key)
    made = composition_of(layer)
    if pair is not None or made is None:
        return (layer, params) if pair is None else pair
    entries = made.split_params(params)
    pairs = [
        change_parts(f, part, made.inside(path, i), entry, None if key is None else key.fold_in(i))
        for i, (part, entry) in enumerate(zip(made.parts, entries, strict=True))
    ]
    new = tuple(entry for _, entry in pairs)
    joined = made.arrange.join(new, params)
    for i, (given, entry) in enumerate(zip(new, made.split_params(joined), strict=True)):
        if entry is not given:
            expected = f"params () for {made.parts[i]}, which has no place for others"
            raise unexpected(f"{made.label}[{i}]", expected, format_briefly(given))
    return layer.rebuild(tuple(part for part, _ in pairs)), joined
