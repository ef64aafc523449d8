"""Run a network with outputs, gradients or cache entries changed at chosen paths.

A path names a layer or a composition, as in `lf.summary`: "2.0" is the first part of the third
part, and "" is the network. `patched` returns a network that is used like any other, also by
`lf.inspect.trace` or in a step. Its params are those of the network given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeAlias

import attrs
import torch
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import Arrays, Cache, Layer, LayerError, Params, tree, unexpected
from lincoln_fn.inspect.records import note
from lincoln_fn.walk import VisitBack, is_trained
from lincoln_fn.walk.internal import Record, composition_of, inside, map_paths, paths, unknown_path

# The new value, or a function from the old value to the new one.
Patch: TypeAlias = Arrays | Callable[[Arrays], Arrays]
Patches: TypeAlias = Mapping[str, Patch]


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
        outputs: patches of y, by the path of a layer or a composition, for `forward` and `predict`.
        gradients: patches of g = dL/dy, likewise, for `backward`, `input_grad` and `grads`.
        caches: patches of cache entries, by the path of a single layer, a dot and the entry's own
            path, such as "2.x_hat". If the cache is one tensor, the layer's path alone.

    Raises:
        LayerError: if net has no such path, or there is no patch; from its functions, if a cache
            has no such entry, a new value has another shape, dtype or device, or no gradient
            depends on a patch of g, as in `grads` before the first trained layer.

    Example:
        >>> net, x = lf.serial(lf.dense(3), lf.relu(), lf.dense(2)), torch.ones(1, 4)
        >>> params = net.init(lf.Key(0), x)
        >>> ablated = patched(net, {"1": torch.zeros_like})
        >>> torch.equal(ablated.predict(params, x)[0], params[2].bias)
        True
    """
    core.check_argument("patched", "net", Layer, net, ("net", "outputs"))
    arguments = {"outputs": outputs, "gradients": gradients, "caches": caches}
    for name, patches in arguments.items():
        if patches is not None and not isinstance(patches, Mapping):
            raise core.wrong_kind("patched", name, patches, "a mapping of patches by path")
    given = [dict(patches or {}) for patches in arguments.values()]
    if not any(given):
        raise unexpected("patched", "at least one patch", "none")
    named = dict(paths(net))
    for path in (*given[0], *given[1]):
        if path not in named:
            raise unknown_path("patched", path, named)
    entries: dict[str, dict[str, Patch]] = {}
    for key, patch in given[2].items():
        path, entry = _cache_entry(key, named)
        entries.setdefault(path, {})[entry] = patch

    return map_paths(partial(_patch_layer, given[0], given[1], entries), net)


def _patch_layer(
    outputs: Patches, gradients: Patches, entries: Mapping[str, Patches], layer: Layer, path: str
) -> Layer:
    """Make a layer whose functions apply the patches of its y, its g and its cache's entries."""
    parts = [inside(path, i) for i in range(len(layer.parts))]
    pairs = ((i, at) for i in range(len(parts)) for at in reversed([*gradients]))
    within = {i: at for i, at in pairs if f"{at}.".startswith(f"{parts[i]}.")}
    if not (within or path in outputs or path in gradients or path in entries):
        return layer

    def patch_output(y: Arrays) -> Arrays:
        return _new_value(path, "y", y, outputs[path]) if path in outputs else y

    def leave(y: Arrays, cache: Cache) -> tuple[Arrays, Cache]:
        return patch_output(y), _patch_cache(path, cache, entries.get(path, {}))

    def enter(g: Arrays) -> Arrays:
        if path in gradients:
            return _new_value(path, "g", g, gradients[path])
        is_value = path in outputs and not callable(outputs[path])
        return tree.map(torch.zeros_like, g) if is_value else g

    made = composition_of(layer)
    if made is not None:
        back: Any = made.back  # Any: a `_Refusing` stands for a VisitBack
        return layer.rebuild(
            layer.parts,
            there=lambda visit, params, x: leave(*made.there(visit, params, x)),
            back=lambda visit, params, cache, g: back(
                _Refusing(visit, within), params, cache, enter(g)
            ),
            predict=lambda visit, params, x: leave(*made.predict_there(visit, params, x)),
        )

    def entering(function: Callable[..., Any]) -> Callable[..., Any]:  # Any: of the protocol
        return lambda params, cache, g: function(params, cache, enter(g))

    return layer.replace(
        forward=lambda params, x: leave(*layer.forward(params, x)),
        predict=lambda params, x: patch_output(layer.predict(params, x)),
        **{name: entering(getattr(layer, name)) for name in ("backward", "input_grad", "grads")},
    )


@attrs.frozen(eq=False)
class _Refusing:
    """A visitor of a loop back that refuses a patch of g on which no gradient depends."""

    visit: VisitBack
    within: Mapping[int, str]

    def __getattr__(self, name: str) -> Any:  # Any: its label, its parts, `advance` and `add`
        return getattr(self.visit, name)

    def __call__(
        self, i: int, params: Params, cache: Cache, g: Arrays, train: bool = True
    ) -> tuple[Arrays, Record]:
        dx, record = self.visit(i, params, cache, g, train)
        if i in self.within and dx is None and not (train and is_trained(params)):
            problem = f"the patch of g at {self.within[i]!r} has no effect: no layer up to it is"
            mend = "trained, and dx is not computed; call backward or input_grad"
            raise LayerError("patched", f"{problem} {mend}")
        return dx, record


def _new_value(path: str, what: str, old: Arrays, patch: Patch) -> Arrays:
    """Return the new value, of the old one's structure, shapes, dtypes and devices."""
    new = patch(old) if callable(patch) else patch
    pairs = zip(tree.leaves(new), tree.leaves(old), strict=False)
    if not tree.same_structure(new, old) or not all(_is_like(a, b) for a, b in pairs):
        like, got = map(core.format_briefly, (old, new))
        raise core.unexpected(f"patched {path!r}", f"a new {what} like the old, {like}", got)
    return new


def _is_like(new: object, old: Tensor) -> bool:
    both = isinstance(new, Tensor) and isinstance(old, Tensor)
    return both and all(getattr(new, n) == getattr(old, n) for n in ("shape", "dtype", "device"))


def _patch_cache(path: str, cache: Cache, patches: Patches) -> Cache:
    if not patches:
        return cache
    names = tree.paths(cache, states=True)
    for entry in patches:
        if entry not in names:
            listed = ", ".join(map(repr, names)) or "which has none"
            raise unexpected(f"patched {path!r}", f"an entry of the cache, {listed}", repr(entry))
    new = [
        _new_value(path, f"cache entry {name!r}", leaf, patches[name]) if name in patches else leaf
        for name, leaf in zip(names, tree.leaves(cache, states=True), strict=True)
    ]
    return tree.unflatten(cache, new, states=True)


@core.checked
def outputs(net: Layer, params: Params, x: Arrays) -> dict[str, Arrays]:
    """Compute the output of every layer and every composition, as `predict` computes it.

    Returns:
        y by path, in the order in which they are computed; "" is the network's own. The second use
        of a layer has the path "3, use 2", and so on.

    Example:
        >>> net, x = lf.serial(lf.tanh(), lf.residual(lf.relu())), torch.ones(2)
        >>> list(outputs(net, net.init(lf.Key(0), x), x))
        ['0', '1.0', '1.1', '1.2', '1', '']
    """
    seen: dict[str, Arrays] = {}

    def noted(path: str, y: Arrays) -> Arrays:
        note(seen, path, y)
        return y

    patched(net, {path: partial(noted, path) for path, _ in paths(net)}).predict(params, x)
    return seen


def _cache_entry(key: object, named: Mapping[str, Layer]) -> tuple[str, str]:
    """Split a key into the path of a single layer and the path of an entry of its cache."""
    if not isinstance(key, str):
        raise core.wrong_kind("patched", "a key of caches", key, "str")
    singles = [path for path, layer in named.items() if layer.composition is None]
    for path in singles:
        within = f"{path}." if path else ""
        if key == path or key.startswith(within):
            return path, key[len(within) :]
    raise unknown_path("patched", key, singles)
