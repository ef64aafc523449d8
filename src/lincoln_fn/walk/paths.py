"""The paths of a network's layers, and the same network with layers changed by path.

A path names a layer or a composition by its positions in `parts`, from the outermost: "2.0" is the
first part of the third part, and "" is the network itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from difflib import get_close_matches
from fnmatch import fnmatchcase

from lincoln_fn.core import Layer, LayerError
from lincoln_fn.walk.parts import inside


def paths(net: Layer, path: str = "") -> Iterable[tuple[str, Layer]]:
    """List the layers and compositions of a network with their paths, each before its parts.

    Args:
        path: the network's own.

    Example:
        >>> list(paths(lf.serial(lf.tanh())))
        [('', serial(tanh())), ('0', tanh())]
    """
    yield path, net
    for i, part in enumerate(net.parts):
        yield from paths(part, inside(path, i))


def map_paths(f: Callable[[Layer, str], Layer], net: Layer, path: str = "") -> Layer:
    """Replace every layer and every composition of a network, parts first.

    Args:
        f: (layer, path) -> layer. A composition has its new parts already.

    Returns:
        The network. A composition of the same parts as before is the same object.

    Example:
        >>> map_paths(lambda layer, path: lf.relu() if path == "0" else layer, lf.serial(lf.tanh()))
        serial(relu())
    """
    parts = tuple(map_paths(f, part, inside(path, i)) for i, part in enumerate(net.parts))
    is_same = all(new is old for new, old in zip(parts, net.parts, strict=True))
    return f(net if is_same else net.rebuild(parts), path)


def is_target(path: str, targets: tuple[str, ...]) -> bool:
    """Return whether a path fits one of the patterns; "*.query" fits "query" alone, too.

    Args:
        path: of a layer, with the names of parts where they have some.
        targets: patterns, in which `*` stands for any text.

    Example:
        >>> is_target("1.0.query", ("*.query",)), is_target("query_norm", ("*.query",))
        (True, False)
    """
    return any(fnmatchcase(path, each) or fnmatchcase(f".{path}", each) for each in targets)


def unknown_path(where: str, path: object, known: Iterable[str]) -> LayerError:
    """Make the error about a path that a network does not have; it lists the nearest paths."""
    near = get_close_matches(path, known, cutoff=0.5) if isinstance(path, str) else []
    listed = ", ".join(map(repr, near or [*known][:6]))
    hint = f"near it are {listed}" if near else f"there are {listed}"
    return LayerError(where, f"expected the path of a layer, got {path!r}; {hint}")
