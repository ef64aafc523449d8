"""Shared by the transformations that adapt some layers of a network and freeze all others."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from lincoln_fn.combine import FrozenParams, constant, frozen
from lincoln_fn.core import Key, Layer, Params, made_by
from lincoln_fn.finetune.targets import Targets, check_targets, has_matrix, named_params
from lincoln_fn.walk import is_trained
from lincoln_fn.walk.internal import Pair, change_parts, composition_of, is_target

# (layer, params, key) -> the adapted layer and its params
Adapt: TypeAlias = Callable[[Layer, Params, Key], Pair]


def adapt(
    where: str, adapted: Adapt, net: Layer, params: Params, key: Key, targets: Targets
) -> Pair:
    """Adapt the dense layers that are targets, and freeze everything else."""
    suitable = [path for path, own in named_params(net, params) if has_matrix(own)]
    check_targets(where, targets, suitable)
    chosen = [path for path in suitable if is_target(path, targets)]

    def change(layer: Layer, path: str, params: Params, key: Key | None) -> Pair | None:
        assert key is not None, "it was given"
        if path in chosen:
            return adapted(layer, params, key)
        inside = f"{path}." if path else ""
        made = composition_of(layer)
        if made is not None and any(each.startswith(inside) for each in chosen):
            if made_by(layer, frozen, constant):  # the adapter inside is trained
                return change_parts(change, made.parts[0], made.inside(path, 0), params.params, key)
            return None
        if not is_trained(params):  # nothing to freeze
            return layer, params
        return frozen(layer), FrozenParams(params)

    return change_parts(change, net, "", params, key)
