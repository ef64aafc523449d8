"""The layers that are fine-tuned, by patterns of their paths, and what has a matrix."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, TypeAlias

from torch import Tensor

from lincoln_fn.combine import FrozenParams, constant, frozen
from lincoln_fn.core import NOT_EMPTY, Key, Layer, LayerError, Params, made_by
from lincoln_fn.finetune import quantized_dense
from lincoln_fn.layers import dense
from lincoln_fn.walk import is_trained
from lincoln_fn.walk.internal import Pair, change_parts, composition_of, is_target

# Such as "*.query": of paths with the names of parts where they have some.
Targets: TypeAlias = Annotated[tuple[str, ...], NOT_EMPTY]
ATTENTION: Targets = ("*.query", "*.value")
# (layer, params, key) -> the adapted layer and its params
Adapt: TypeAlias = Callable[[Layer, Params, Key], Pair]


def named_params(layer: Layer, params: Params, path: str = "") -> Iterator[tuple[str, Params]]:
    """List the params of the single layers with their paths."""
    whole = composition_of(layer)
    if whole is None:
        yield path, params
        return
    for i, (part, entry) in enumerate(zip(whole.parts, whole.split_params(params), strict=True)):
        yield from named_params(part, entry, whole.inside(path, i))


def check_targets(where: str, targets: Targets, suitable: list[str]) -> None:
    """Check that each pattern fits a layer that can be changed."""
    for pattern in targets:
        if not any(is_target(path, (pattern,)) for path in suitable):
            listed = ", ".join(map(repr, suitable[:12])) + (", ..." if suitable[12:] else "")
            problem = f"expected targets that fit the path of a dense layer, got {pattern!r}"
            raise LayerError(where, f"{problem}; there are {listed or 'none'}")


def sizes_of(params: Params) -> tuple[int, int]:
    """Return the numbers of features of x and of y."""
    n_in, n_out = params.weight.shape if isinstance(params, dense.Params) else params.shape
    return n_in, n_out


def read_matrix(params: Params) -> Tensor:
    """Return W, of shape (n_in, n_out)."""
    if isinstance(params, dense.Params):
        return params.weight
    return quantized_dense.dequantize(params)


def dense_like(params: Params) -> Layer:
    """Make a dense layer of the sizes of one of any number of bits."""
    return dense.dense(sizes_of(params)[1], bias=params.bias is not None)


def adapt(
    where: str, adapted: Adapt, net: Layer, params: Params, key: Key, targets: Targets
) -> Pair:
    """Adapt the dense layers that are targets, and freeze everything else."""
    kinds = dense.Params, quantized_dense.Params
    suitable = [path for path, own in named_params(net, params) if isinstance(own, kinds)]
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
