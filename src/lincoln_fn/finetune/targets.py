"""The layers that are fine-tuned, by patterns of their paths."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, TypeAlias

from lincoln_fn.core import NOT_EMPTY, Layer, Params, unexpected
from lincoln_fn.walk.internal import composition_of, is_target

# Such as "*.query": of paths with the names of parts where they have some.
Targets: TypeAlias = Annotated[tuple[str, ...], NOT_EMPTY]


def named_params(layer: Layer, params: Params, path: str = "") -> Iterator[tuple[str, Params]]:
    """Find the params of each single layer by its path, with the names of parts."""
    whole = composition_of(layer)
    if whole is None:
        yield path, params
        return
    for i, (part, entry) in enumerate(zip(whole.parts, whole.split_params(params), strict=True)):
        yield from named_params(part, entry, whole.inside(path, i))


def check_targets(
    where: str, targets: Targets, net: Layer, params: Params, *kinds: type
) -> list[str]:
    """List the layers with params of some kinds, by path; check that each pattern fits one."""
    suitable = [path for path, own in named_params(net, params) if isinstance(own, kinds)]
    for pattern in targets:
        if not any(is_target(path, (pattern,)) for path in suitable):
            listed = ", ".join(map(repr, suitable[:12])) + (", ..." if suitable[12:] else "")
            expected = "targets that fit the path of a dense layer"
            raise unexpected(where, expected, repr(pattern), f"there are {listed or 'none'}")
    return suitable
