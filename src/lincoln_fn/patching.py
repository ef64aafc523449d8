"""Run a network with outputs, gradients or cache entries changed at chosen paths.

A path names a layer or a composition, as in `lf.summary`: "2.0" is the first part of the third
part, and "" is the network. `patched` returns a network, so a patched
network is used like any other: by `predict`, `forward` and `backward`, by `lf.inspect.trace`, or in
a step. Its params are those of the network given, and nothing needs to be undone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, TypeAlias

import attrs
import torch
from torch import Tensor

from lincoln_fn import tree
from lincoln_fn._kinds import check_kinds, wrong_kind
from lincoln_fn.layer import Arrays, Cache, Layer, Params
from lincoln_fn.paths import map_paths, paths, unknown_path
from lincoln_fn.record import brief
from lincoln_fn.shapes import LayerError

# What takes the place of a value, or a function from the value to what takes its place.
Patch: TypeAlias = Arrays | Callable[[Arrays], Arrays]


def patched(
    net: Layer,
    outputs: Mapping[str, Patch] | None = None,
    *,
    gradients: Mapping[str, Patch] | None = None,
    caches: Mapping[str, Patch] | None = None,
) -> Layer:
    """Make the same network with outputs, gradients or cache entries changed.

    A patch is a value, which replaces the old one, or a function from the old value to the new one.
    It applies to every use of the layer at its path.

    The backward pass goes through a patched output as follows. A value does not depend on x, so g
    becomes 0 there. A function counts as a shift, y + delta, so g is unchanged. For a function with
    another derivative, patch the gradient at the same path, too.

    Args:
        net: the network.
        outputs: patches of y by the path of a layer or a composition. `forward` and `predict` use
            them.
        gradients: patches of g = dL/dy by the path of a layer or a composition, for `backward`,
            `input_grad` and `grads`.
        caches: patches of cache entries, by the path of a single layer, a dot and the entry's own
            path, such as "2.x_hat". If the cache is one tensor, the layer's path alone.

    Returns:
        The network, with the params of net.

    Raises:
        LayerError: if net has no such path, or there is no patch; from its functions, if a cache
            has no such entry, or a new value has another shape, dtype or device than the old.

    Example:
        >>> net, x = lf.serial(lf.dense(3), lf.relu(), lf.dense(2)), torch.ones(1, 4)
        >>> params = net.init(lf.Key(0), x)
        >>> ablated = patched(net, {"1": torch.zeros_like})
        >>> torch.equal(ablated.predict(params, x)[0], params[2].bias)
        True
    """
    check_kinds("patched", "(net, outputs)", net=(net, Layer))
    given = [dict(patches or {}) for patches in (outputs, gradients, caches)]
    if not any(given):
        raise LayerError("patched", "expected at least one patch, got none")
    named = dict(paths(net))
    for path in (*given[0], *given[1]):
        if path not in named:
            raise unknown_path("patched", path, named)
    entries: dict[str, dict[str, Patch]] = {}
    for key, patch in given[2].items():
        path, entry = _cache_entry(key, named)
        entries.setdefault(path, {})[entry] = patch

    def changed(layer: Layer, path: str) -> Layer:
        of_output, of_gradient = given[0].get(path, _KEEP), given[1].get(path, _KEEP)
        if of_output is _KEEP and of_gradient is _KEEP and path not in entries:
            return layer
        return _patched_layer(layer, _Patches(path, of_output, of_gradient, entries.get(path, {})))

    return map_paths(changed, net)


def outputs(net: Layer, params: Params, x: Arrays) -> dict[str, Arrays]:
    """Compute the output of every layer and every composition, as `predict` computes it.

    Args:
        net: the network.
        params: its parameters.
        x: its input.

    Returns:
        y by path, in the order in which they are computed; "" is the network's own. The second use
        of a layer has the path "3, use 2", and so on.

    Raises:
        LayerError: as the network does.

    Example:
        >>> net, x = lf.serial(lf.tanh(), lf.residual(lf.relu())), torch.ones(2)
        >>> list(outputs(net, net.init(lf.Key(0), x), x))
        ['0', '1.0', '1.1', '1.2', '1', '']
    """
    seen: dict[str, Arrays] = {}
    patched(net, {path: partial(noted, seen, path) for path, _ in paths(net)}).predict(params, x)
    return seen


def noted(seen: dict[str, Arrays], path: str, y: Arrays) -> Arrays:
    """Add a layer's output to those seen.

    Args:
        seen: outputs by label: the path, or for a second use "path, use 2", and so on.
        path: the layer's path.
        y: its output.

    Returns:
        y.

    Example:
        >>> seen = {"0": 1.0}
        >>> noted(seen, "0", 2.0), seen
        (2.0, {'0': 1.0, '0, use 2': 2.0})
    """
    uses = len(labels_of(path, seen))
    seen[f"{path}, use {uses + 1}" if uses else path] = y
    return y


def labels_of(path: str, seen: Iterable[str]) -> list[str]:
    """List the labels of a layer's uses, as `noted` makes them.

    Args:
        path: the layer's path.
        seen: the labels of all layers.

    Returns:
        The labels.

    Example:
        >>> labels_of("1", ["0", "1", "1, use 2", "1.0"])
        ['1', '1, use 2']
    """
    return [label for label in seen if label == path or label.startswith(f"{path}, use ")]


_KEEP: Any = object()  # Any: takes the place of a patch, and means that there is none


@attrs.frozen(eq=False)
class _Patches:
    """The patches of one layer."""

    path: str
    output: Patch
    gradient: Patch
    entries: Mapping[str, Patch]

    def leave(self, y: Arrays, cache: Cache) -> tuple[Arrays, Cache]:
        """Change y and the cache, behind `forward`."""
        if self.entries:
            cache = _patched_cache(self.path, cache, self.entries)
        return self.patched_output(y), cache

    def patched_output(self, y: Arrays) -> Arrays:
        """Change y."""
        return y if self.output is _KEEP else _new_value(self.path, "y", y, self.output)

    def enter(self, g: Arrays) -> Arrays:
        """Change g, before `backward`."""
        if self.gradient is not _KEEP:
            return _new_value(self.path, "g", g, self.gradient)
        if self.output is _KEEP or callable(self.output):
            return g
        return tree.map(torch.zeros_like, g)


def _patched_layer(layer: Layer, patches: _Patches) -> Layer:
    made = layer.composition
    if made is not None:
        return layer.rebuild(
            layer.parts,
            there=lambda visit, params, x: patches.leave(*made.there(visit, params, x)),
            back=lambda visit, params, cache, g: made.back(visit, params, cache, patches.enter(g)),
            predict=lambda visit, params, x: patches.leave(*made.predict_there(visit, params, x)),
        )

    def entered(function: Callable[..., Any]) -> Callable[..., Any]:  # Any: of the protocol
        return lambda params, cache, g: function(params, cache, patches.enter(g))

    return layer.replace(
        forward=lambda params, x: patches.leave(*layer.forward(params, x)),
        predict=lambda params, x: patches.patched_output(layer.predict(params, x)),
        backward=entered(layer.backward),
        input_grad=entered(layer.input_grad),
        grads=entered(layer.grads),
    )


def _new_value(path: str, what: str, old: Arrays, patch: Patch) -> Arrays:
    """Return the new value, of the old one's structure, shapes, dtypes and devices."""
    new = patch(old) if callable(patch) else patch
    pairs = zip(tree.leaves(new), tree.leaves(old), strict=False)
    if not tree.same_structure(new, old) or not all(_is_like(a, b) for a, b in pairs):
        problem = f"expected a new {what} like the old, {brief(old)}, got {brief(new)}"
        raise LayerError(f"patched {path!r}", problem)
    return new


def _is_like(new: object, old: Tensor) -> bool:
    both = isinstance(new, Tensor) and isinstance(old, Tensor)
    return both and all(getattr(new, n) == getattr(old, n) for n in ("shape", "dtype", "device"))


def _patched_cache(path: str, cache: Cache, patches: Mapping[str, Patch]) -> Cache:
    names = tree.paths(cache, states=True)
    for entry in patches:
        if entry not in names:
            listed = ", ".join(map(repr, names)) or "which has none"
            problem = f"expected an entry of the cache, {listed}, got {entry!r}"
            raise LayerError(f"patched {path!r}", problem)
    upcoming = iter(names)

    def changed(leaf: Tensor) -> Tensor:
        name = next(upcoming)
        if name not in patches:
            return leaf
        new: Tensor = _new_value(path, f"cache entry {name!r}", leaf, patches[name])
        return new

    return tree.map(changed, cache, states=True)


def _cache_entry(key: object, named: Mapping[str, Layer]) -> tuple[str, str]:
    """Split a key into the path of a single layer and the path of an entry of its cache."""
    if not isinstance(key, str):
        raise wrong_kind("patched", "a key of caches", key, "str")
    for path, layer in named.items():
        within = f"{path}." if path else ""
        if layer.composition is None and (key == path or key.startswith(within)):
            return path, key[len(within) :]
    singles = [path for path, layer in named.items() if layer.composition is None]
    raise unknown_path("patched", key, singles)
