"""One layer or composition with patches of its y, its g and the entries of its cache."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import attrs
import torch
from torch import Tensor

from lincoln_fn.core import Arrays, Cache, Layer, LayerError, Params, format_briefly, tree
from lincoln_fn.walk import is_trained
from lincoln_fn.walk.internal import Around, Record, composition_of

# The new value, or a function from the old value to the new one.
Patch: TypeAlias = Arrays | Callable[[Arrays], Arrays]
KEEP: Any = object()  # Any: stands for a patch of any type, and means that there is none


@attrs.frozen(eq=False)
class Patches:
    """The patches of one layer."""

    path: str
    output: Patch
    gradient: Patch
    entries: Mapping[str, Patch]
    # of a composition: by a part's position, the path of a patch of g inside
    within: Mapping[int, str]

    def leave(self, y: Arrays, cache: Cache) -> tuple[Arrays, Cache]:
        """Change y and the cache, after `forward`."""
        if self.entries:
            cache = _patch_cache(self.path, cache, self.entries)
        return self.patch_output(y), cache

    def patch_output(self, y: Arrays) -> Arrays:
        """Change y."""
        return y if self.output is KEEP else _new_value(self.path, "y", y, self.output)

    def enter(self, g: Arrays) -> Arrays:
        """Change g, before `backward`."""
        if self.gradient is not KEEP:
            return _new_value(self.path, "g", g, self.gradient)
        if self.output is KEEP or callable(self.output):
            return g
        return tree.map(torch.zeros_like, g)


@attrs.frozen(eq=False)
class _Refusing(Around):
    """A visitor of a loop back that refuses a patch of g on which no gradient depends."""

    within: Mapping[int, str]

    def __call__(
        self, i: int, params: Params, cache: Cache, g: Arrays, train: bool = True
    ) -> tuple[Arrays, Record]:
        dx, record = self.visit(i, params, cache, g, train)
        if i in self.within and dx is None and not (train and is_trained(params)):
            problem = f"the patch of g at {self.within[i]!r} has no effect: no layer up to it is"
            mend = "trained, and dx is not computed; call backward or input_grad"
            raise LayerError("patched", f"{problem} {mend}")
        return dx, record


def patch_layer(layer: Layer, patches: Patches) -> Layer:
    """Make a layer whose functions apply the patches."""
    made = composition_of(layer)
    if made is not None:
        back: Any = made.back  # Any: a `_Refusing` stands for a VisitBack
        return layer.rebuild(
            layer.parts,
            there=lambda visit, params, x: patches.leave(*made.there(visit, params, x)),
            back=lambda visit, params, cache, g: back(
                _Refusing(visit, patches.within), params, cache, patches.enter(g)
            ),
            predict=lambda visit, params, x: patches.leave(*made.predict_there(visit, params, x)),
        )

    def enter(function: Callable[..., Any]) -> Callable[..., Any]:  # Any: of the protocol
        return lambda params, cache, g: function(params, cache, patches.enter(g))

    return layer.replace(
        forward=lambda params, x: patches.leave(*layer.forward(params, x)),
        predict=lambda params, x: patches.patch_output(layer.predict(params, x)),
        backward=enter(layer.backward),
        input_grad=enter(layer.input_grad),
        grads=enter(layer.grads),
    )


def _new_value(path: str, what: str, old: Arrays, patch: Patch) -> Arrays:
    """Return the new value, of the old one's structure, shapes, dtypes and devices."""
    new = patch(old) if callable(patch) else patch
    pairs = zip(tree.leaves(new), tree.leaves(old), strict=False)
    if not tree.same_structure(new, old) or not all(_is_like(a, b) for a, b in pairs):
        problem = (
            f"expected a new {what} like the old, {format_briefly(old)}, got {format_briefly(new)}"
        )
        raise LayerError(f"patched {path!r}", problem)
    return new


def _is_like(new: object, old: Tensor) -> bool:
    both = isinstance(new, Tensor) and isinstance(old, Tensor)
    return both and all(getattr(new, n) == getattr(old, n) for n in ("shape", "dtype", "device"))


def _patch_cache(path: str, cache: Cache, patches: Mapping[str, Patch]) -> Cache:
    names = tree.paths(cache, states=True)
    for entry in patches:
        if entry not in names:
            listed = ", ".join(map(repr, names)) or "which has none"
            problem = f"expected an entry of the cache, {listed}, got {entry!r}"
            raise LayerError(f"patched {path!r}", problem)
    upcoming = iter(names)

    def change(leaf: Tensor) -> Tensor:
        name = next(upcoming)
        if name not in patches:
            return leaf
        new: Tensor = _new_value(path, f"cache entry {name!r}", leaf, patches[name])
        return new

    return tree.map(change, cache, states=True)
