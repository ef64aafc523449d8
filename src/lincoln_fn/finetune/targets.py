"""The layers that are fine-tuned, by patterns of their paths, and what has a matrix."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, TypeAlias

from torch import Tensor

from lincoln_fn.core import NOT_EMPTY, Layer, LayerError, Params
from lincoln_fn.finetune import quantized_dense
from lincoln_fn.layers import dense
from lincoln_fn.walk.internal import composition_of, is_target

# Such as "*.query": of paths with the names of parts where they have some.
Targets: TypeAlias = Annotated[tuple[str, ...], NOT_EMPTY]


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


def has_matrix(params: Params) -> bool:
    """Return whether params are those of a dense layer, of any number of bits."""
    return isinstance(params, dense.Params | quantized_dense.Params)


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
