"""Watching a network: what each run of a layer gave in a forward pass, and got in the backward."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import attrs

from lincoln_fn._paths import map_with_paths
from lincoln_fn.layer import Arrays, Cache, Layer, Params, unchanged


@attrs.frozen(eq=False)
class Visit:
    """One run of a layer's forward.

    `end` is the number that the visit after the last one within it has; visits are numbered by
    their beginnings.
    """

    path: str
    layer: Layer
    y: Arrays
    end: int


# Of a visit: dL/dy, and dparams, or None where nobody asked for them.
Gradients: TypeAlias = tuple[Arrays, Params]


@attrs.frozen(eq=False)
class _Numbered:
    """A layer's cache, and the number of the visit that it is from; None if nobody watched it."""

    number: int | None
    cache: Cache


def visits(
    net: Layer, params: Params, x: Arrays, turn: Callable[[Arrays], Arrays]
) -> tuple[dict[int, Visit], dict[int, Gradients]]:
    """Run a network forward and back, and tell of every layer and composition in it.

    A composition that runs its parts again within its backward, as `checkpointed` does, makes no
    new visits: being pure, they give what they gave, and what they get is told of the first.

    Args:
        net: the network.
        params: its parameters.
        x: its input.
        turn: what makes dL/dy of y, at the point of turning back.

    Returns:
        The visits in the order of their ends, and their gradients, both by number; a visit whose
        layer no backward pass came by has no gradients.
    """
    paths: list[str] = []
    ended: dict[int, Visit] = {}
    gradients: dict[int, Gradients] = {}
    # On the way back: the visits within the composition that is at work, first the one to be run
    # again first.
    inside: list[int] | None = None

    def watched(path: str, layer: Layer) -> Layer:
        def forward(params: Params, x: Arrays) -> tuple[Arrays, _Numbered]:
            if inside is not None:
                number = next((n for n in inside if paths[n] == path), None)
                if number is not None:  # the last to be taken when that path is run once more
                    inside.remove(number)
                    inside.append(number)
                y, cache = layer.forward(params, x)
                return y, _Numbered(number, cache)
            paths.append(path)
            number = len(paths) - 1
            y, cache = layer.forward(params, x)
            ended[number] = Visit(path, layer, y, len(paths))
            return y, _Numbered(number, cache)

        def backward(params: Params, cache: _Numbered, g: Arrays) -> tuple[Arrays, Params]:
            dx, dparams = within(cache.number, lambda: layer.backward(params, cache.cache, g))
            return dx, noted(cache.number, g, dparams)

        def input_grad(params: Params, cache: _Numbered, g: Arrays) -> Arrays:
            noted(cache.number, g, None)
            return within(cache.number, lambda: layer.input_grad(params, cache.cache, g))

        def grads(params: Params, cache: _Numbered, g: Arrays) -> Params:
            dparams = within(cache.number, lambda: layer.grads(params, cache.cache, g))
            return noted(cache.number, g, dparams)

        def advance(params: Params, cache: _Numbered) -> Params:
            return layer.advance(params, cache.cache)

        return layer.replace(
            forward=forward,
            backward=backward,
            predict=layer.predict,
            input_grad=input_grad,
            grads=grads,
            advance=unchanged if layer.advance is unchanged else advance,
        )

    def within(number: int | None, run: Callable[[], Arrays]) -> Arrays:
        nonlocal inside
        outside = inside
        inside = [] if number is None else list(range(number + 1, ended[number].end))
        result = run()
        inside = outside
        return result

    def noted(number: int | None, g: Arrays, dparams: Params) -> Params:
        if number is not None:
            known = gradients.get(number, (None, None))[1]
            gradients[number] = g, known if dparams is None else dparams
        return dparams

    watching = map_with_paths(watched, net)
    y, cache = watching.forward(params, x)
    watching.backward(params, cache, turn(y))
    return ended, gradients
