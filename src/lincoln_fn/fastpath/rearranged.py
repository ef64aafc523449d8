"""The same network in an order that takes less time: ReLU after max-pooling.

Derivation. ReLU is monotonic, so the largest ReLU of a window is the ReLU of its largest element:
max_i relu(x_i) = relu(max_i x_i). The gradient goes to the same x_i: if the largest element exceeds
0, its ReLU is the largest, too; otherwise the gradient is 0 in both orders. After the pooling there
are fewer elements, a quarter for windows of 2 x 2.

The params are the same, because neither layer has any. Only the caches differ.

An eager step of lenet-128 takes a fiftieth less time. A compiled step needs the pooling right after
the convolution, for `compiler/passes/pooled_convolution.py`, which says what that gains.
"""

from __future__ import annotations

from lincoln_fn.combine import is_serial
from lincoln_fn.core import Layer, file_of, made_by
from lincoln_fn.layers import max_pool
from lincoln_fn.layers.relu import relu


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
