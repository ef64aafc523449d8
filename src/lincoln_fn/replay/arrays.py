"""All arrays that a step computes, in the order in which it computes them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, Literal, TypeAlias

import attrs
import torch

from lincoln_fn.core import Arrays, Cache, Layer, Params
from lincoln_fn.replay.run import Run, State
from lincoln_fn.walk.internal import ALL, Wants, walk_back
from lincoln_fn.walk.walks import there

MadeBy: TypeAlias = Literal["start", "data", "forward", "loss", "backward", "update", "record"]


@attrs.frozen(eq=False)
class Site:
    """One use of a single layer in the backward pass."""

    layer: Layer
    params: Params
    cache: Cache
    g: Arrays


@attrs.frozen(eq=False)
class Array:
    """An array, or a tree of arrays, of a step: what it is, and what made it."""

    made_by: MadeBy  # which part of the step
    name: str  # "x", "y", "dparams", and so on
    values: Arrays
    path: str = ""  # the layer's position in the network
    layer: str = ""
    use: int = 1  # the number of the use of that layer, from 1
    site: Site | None = None  # where the array comes from the backward pass of a layer

    @property
    def key(self) -> tuple[str, str, str, int]:
        """What two runs have in common."""
        return self.made_by, self.path, self.name, self.use


def arrays_of_step(run: Run, state: State) -> Iterator[Array]:
    """Repeat the step after a state, and yield what it computes before its update."""
    batch: Any = run.batch(int(state.step))  # Any: of a step of the user's own
    if run.parts is None:
        yield Array("data", "batch", batch)
        return
    x, target = batch
    yield Array("data", "x", x)
    yield Array("data", "target", target)
    net, loss = run.parts
    with torch.no_grad():
        outputs: list[Array] = []
        y, cache = _forward(net, state.params, x, outputs)
        yield from outputs
        value, loss_cache = loss.forward(y, target)
        yield Array("loss", "value", value)
        g = loss.backward(loss_cache)
        yield Array("loss", "g", g)
        gradients: list[Array] = []
        _backward(net, state.params, cache, g, gradients)
        yield from gradients


def _forward(net: Layer, params: Params, x: Arrays, found: list[Array]) -> tuple[Arrays, Cache]:
    uses: Counter[str] = Counter()

    def visit(layer: Layer, path: str, params: Params, x: Arrays) -> tuple[Arrays, Cache]:
        y, cache = layer.forward(params, x)
        uses[path] += 1
        found.append(Array("forward", "y", y, path, layer.name, uses[path]))
        return y, cache

    return there(visit, net, params, x)


def _backward(net: Layer, params: Params, cache: Cache, g: Arrays, found: list[Array]) -> None:
    uses: Counter[str] = Counter()

    def leaf(
        layer: Layer, path: str, params: Params, cache: Cache, g: Arrays, wants: Wants
    ) -> tuple[Arrays, None]:
        site = Site(layer, params, cache, g)
        dx, dparams = layer.backward(params, cache, g)
        uses[path] += 1
        made = {"g": g, "dx": dx, "dparams": dparams} if wants.dparams else {"g": g, "dx": dx}
        for name, values in made.items():
            found.append(Array("backward", name, values, path, layer.name, uses[path], site))
        return dx, None

    walk_back(leaf, net, params, cache, g, ALL)
