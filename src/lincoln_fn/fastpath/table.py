"""The table of faster functions, one row for each layer, and `fast`, which applies it.

ReLU goes behind max-pooling, too. Derivation. ReLU is monotonic: max_i relu(x_i) = relu(max_i x_i).
The gradient goes to the same x_i: if the largest element exceeds 0, its ReLU is the largest, too;
otherwise the gradient is 0 in both orders. After the pooling there are fewer elements, a quarter
for windows of 2 x 2. Neither layer has params; only the caches differ.

An eager step of lenet-128 takes a fiftieth less time. A compiled step needs the pooling right after
the convolution, for `compiler/passes/pooling.py`, which says what that gains.
"""

from __future__ import annotations

from types import ModuleType
from typing import Final

from lincoln_fn.combine import is_serial
from lincoln_fn.core import Layer, checked, file_of, made_by
from lincoln_fn.fastpath import (
    activations,
    attention,
    batch_norm,
    convolution,
    embedding,
    linear_scan,
    lstm,
    normalisation,
    pooling,
    product,
)
from lincoln_fn.fastpath.experts import give_own_tokens
from lincoln_fn.fastpath.twin import Twin
from lincoln_fn.layers import max_pool
from lincoln_fn.layers.relu import relu
from lincoln_fn.walk.internal import map_paths

TWINS: Final[tuple[Twin, ...]] = (
    *activations.TWINS, *attention.TWINS, *batch_norm.TWINS, *convolution.TWINS,
    *embedding.TWINS, *linear_scan.TWINS, *lstm.TWINS, *normalisation.TWINS, *pooling.TWINS,
    *product.TWINS,
)  # fmt: skip
_BY_FILE: Final[dict[ModuleType | None, Twin]] = {twin.formula: twin for twin in TWINS}


@checked
def fast(net: Layer) -> Layer:
    """Make the same network of faster functions: the same params, y, dx and dparams.

    `make_step`, `fit` and `compile` call it by themselves, unless told `fast=False`. A layer whose
    functions are a user's own stays as it is. Caches may hold other tensors than those of net.

    Example:
        >>> net = lf.serial(lf.dense(10), lf.relu())
        >>> fast(net)
        serial(dense(10), relu())
    """
    return map_paths(lambda layer, path: give_own_tokens(layer), fast_by_example(net))


def fast_by_example(net: Layer) -> Layer:
    """Make the network of faster functions in which each part still gets all examples."""
    return _faster(rearrange(net))


def _faster(layer: Layer) -> Layer:
    if layer.composition is not None:
        return layer.rebuild(tuple(map(_faster, layer.parts)))
    twin = _BY_FILE.get(file_of(layer))
    return layer if twin is None else twin.faster(layer)


def rearrange(net: Layer) -> Layer:
    """Exchange every ReLU of this library and the max-pooling that follows it."""
    parts = [rearrange(part) for part in net.parts]
    if is_serial(net):
        for i in range(len(parts) - 1):
            if made_by(parts[i], relu) and _is_max_pool(parts[i + 1]):
                parts[i], parts[i + 1] = parts[i + 1], parts[i]
    is_same = all(new is old for new, old in zip(parts, net.parts, strict=True))
    return net if is_same else net.rebuild(tuple(parts))


def _is_max_pool(layer: Layer) -> bool:
    """Return whether a layer is max-pooling whose windows all contain some of x."""
    if layer.spec is None or file_of(layer) is not max_pool or layer.spec["return_indices"]:
        return False
    is_padded = layer.spec["padding"] not in (0, (0,), (0, 0), (0, 0, 0))
    return not is_padded or layer.spec["dilation"] in (1, (1,), (1, 1), (1, 1, 1))
