"""A network as a tree that folds: each layer by the call that makes it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from textwrap import shorten
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor

from lincoln_fn.core import Arrays, Cache, Layer, Params, format_briefly, html, tree
from lincoln_fn.notebook.markup import Markup, element, fade, fold, wrap
from lincoln_fn.notebook.trees import tensor_cells
from lincoln_fn.walk.internal import inside, paths
from lincoln_fn.walk.walks import there

# A longer call is cut; a composition's parts follow below it, and its tooltip is the whole call.
_LONGEST: Final = 72
# A network of more layers is folded below its first level.
_OPEN: Final = 40


# The params and the output of one use of a layer or a composition in a forward pass.
Use: TypeAlias = tuple[Params, Arrays]


@html.register(Layer)
def layer_html(net: Layer, uses: Mapping[str, list[Use]] | None = None) -> Markup:
    """Show a network as a tree."""
    is_open = sum(1 for _ in paths(net)) <= _OPEN
    return wrap(_tree(net, "", uses or {}, is_open))


def _tree(layer: Layer, path: str, uses: Mapping[str, list[Use]], is_open: bool) -> Markup:
    called = element("b", shorten(layer.name, _LONGEST, placeholder=" …"), title=layer.name)
    place = [fade(f"{path} ")] if path else []
    line = element("span", *place, called, *_describe_uses(layer, uses.get(path, [])))
    if not layer.parts:
        return element("div", line)
    parts = (_tree(part, inside(path, i), uses, is_open) for i, part in enumerate(layer.parts))
    return fold(line, *parts, is_open=is_open or not path)


def _describe_uses(layer: Layer, uses: list[Use]) -> list[str]:
    """Describe what a layer computes; for a single layer also its params, and a histogram of y."""
    if not uses:
        return []
    described = [f"used {len(uses)} times"] if len(uses) > 1 else []
    params, y = uses[0]
    names, leaves = tree.paths(params, states=True), tree.leaves(params, states=True)
    if not layer.parts:
        described += [
            f"{name} {format_briefly(leaf)}" for name, leaf in zip(names, leaves, strict=True)
        ]
    else:
        described.append(f"{sum(leaf.numel() for leaf in leaves):,} numbers in params")
    shown: list[str] = [fade(f"  y {format_briefly(y)} ")]
    if not layer.parts and isinstance(y, Tensor):
        _, picture, _, _, lost = tensor_cells(y)
        shown += [picture if isinstance(picture, Markup) else fade(picture), lost]
    return [*shown, *(fade(f" · {text}") for text in described)]


def uses_of(net: Layer, params: Params, x: Arrays) -> dict[str, list[Use]]:
    """Run a network forward, as in training, and note each use of each layer."""
    uses: dict[str, list[Use]] = defaultdict(list)

    # Any: (y, record), as the walk through a composition returns them.
    def around(layer: Layer, path: str, params: Params, walk: Callable[[], Any]) -> Any:
        y, record = walk()
        uses[path].append((params, y))
        return y, record

    def single(layer: Layer, path: str, params: Params, x: Arrays) -> tuple[Arrays, Cache]:
        y, cache = around(layer, path, params, lambda: layer.forward(params, x))
        return y, cache

    with torch.no_grad():
        there(single, net, params, x, around=around)
    return dict(uses)
