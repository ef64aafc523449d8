"""Run a network with outputs, gradients or cache entries changed at chosen paths.

A path names a layer or a composition, as in `lf.summary`: "2.0" is the first part of the third
part, and "" is the network. `patched` returns a network, so a patched
network is used like any other: by `predict`, `forward` and `backward`, by `lf.inspect.trace`, or in
a step. Its params are those of the network given, and nothing needs to be undone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial

from lincoln_fn.core import Arrays, Layer, LayerError, Params, check_argument, checked, wrong_kind
from lincoln_fn.inspect.patches import KEEP, Patch, Patches, patch_layer
from lincoln_fn.walk.internal import inside, map_paths, paths, unknown_path


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
            has no such entry, if a new value has another shape, dtype or device than the old, or if
            no gradient depends on a patch of g. `grads` does not compute dx, so it refuses such a
            patch before the first trained layer.

    Example:
        >>> net, x = lf.serial(lf.dense(3), lf.relu(), lf.dense(2)), torch.ones(1, 4)
        >>> params = net.init(lf.Key(0), x)
        >>> ablated = patched(net, {"1": torch.zeros_like})
        >>> torch.equal(ablated.predict(params, x)[0], params[2].bias)
        True
    """
    check_argument("patched", "net", Layer, net, ("net", "outputs"))
    arguments = {"outputs": outputs, "gradients": gradients, "caches": caches}
    for name, patches in arguments.items():
        if patches is not None and not isinstance(patches, Mapping):
            raise wrong_kind("patched", name, patches, "a mapping of patches by path")
    given = [dict(patches or {}) for patches in arguments.values()]
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
        of_output, of_gradient = given[0].get(path, KEEP), given[1].get(path, KEEP)
        within = _find_within(path, layer, given[1])
        if of_output is KEEP and of_gradient is KEEP and path not in entries and not within:
            return layer
        patches = Patches(path, of_output, of_gradient, entries.get(path, {}), within)
        return patch_layer(layer, patches)

    return map_paths(changed, net)


def _find_within(path: str, layer: Layer, patches: Iterable[str]) -> dict[int, str]:
    """Find the first patch within each part of a composition; return its path by the part."""
    found = {}
    for i in range(len(layer.parts)):
        part = inside(path, i)
        paths_within = [p for p in patches if p == part or p.startswith(f"{part}.")]
        if paths_within:
            found[i] = paths_within[0]
    return found


@checked
def outputs(net: Layer, params: Params, x: Arrays) -> dict[str, Arrays]:
    """Compute the output of every layer and every composition, as `predict` computes it.

    Returns:
        y by path, in the order in which they are computed; "" is the network's own. The second use
        of a layer has the path "3, use 2", and so on.

    Raises:
        LayerError: if net is not a layer; as the network does.

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


def note(seen: dict[str, Arrays], path: str, y: Arrays) -> str:
    """Add a layer's output to those seen, and return its label.

    It is the path, or for a second use "path, use 2", and so on.
    """
    uses = len(labels_of(path, seen))
    label = f"{path}, use {uses + 1}" if uses else path
    seen[label] = y
    return label


def labels_of(path: str, seen: Iterable[str]) -> list[str]:
    """List the labels of a layer's uses, as `note` makes them."""
    return [label for label in seen if label == path or label.startswith(f"{path}, use ")]


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
