"""A tensor in blocks, and the strides that it may have in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import torch
from torch import Tensor

from lincoln_fn.checkpoint.places import Place, is_count

# The extra memory that a save or a load takes: large enough for a disk, small enough for a cache.
BLOCK: Final = 2**20


def blocks(tensor: Tensor) -> Iterator[Tensor]:
    """Split a tensor into views of at most one MiB, in the order of its elements.

    Args:
        tensor: of any strides.

    Yields:
        The views.

    Example:
        >>> [tuple(block.shape) for block in blocks(torch.zeros(3, 2**17))]
        [(2, 131072), (1, 131072)]
    """
    if tensor.nbytes <= BLOCK:
        yield tensor
        return
    row = tensor.nbytes // len(tensor)
    if row <= BLOCK:
        yield from torch.split(tensor, BLOCK // row)
    else:
        for part in tensor:
            yield from blocks(part)


def bytes_of(block: Tensor) -> Tensor:
    """Copy a block to the CPU, and read it as bytes.

    Args:
        block: of any strides and device.

    Returns:
        Its bytes, of dtype uint8, in new memory.

    Example:
        >>> bytes_of(torch.tensor([[1, 256]], dtype=torch.int16))
        tensor([1, 0, 0, 1], dtype=torch.uint8)
    """
    raw = torch.empty(block.nbytes, dtype=torch.uint8, device="cpu")
    raw.view(block.dtype).view(block.shape).copy_(block.detach())
    return raw


def kept_strides(tensors: Mapping[str, Tensor]) -> dict[str, list[int]]:
    """Record the strides of dense tensors with permuted axes, such as channels-last weights.

    Kernels choose their order of summation by the strides, so a run resumed without them would
    differ.

    Args:
        tensors: by name.

    Returns:
        The strides of those that differ from a new tensor's.

    Example:
        >>> kept_strides({"a": torch.zeros(2, 3), "b": torch.zeros(2, 3).T})
        {'b': [1, 3]}
    """
    kept = {name: torch.empty_like(t, device="meta").stride() for name, t in tensors.items()}
    plain = {name: torch.empty(t.shape, device="meta").stride() for name, t in tensors.items()}
    return {name: list(kept[name]) for name in kept if kept[name] != plain[name]}


def check_strides(strides: Mapping[str, object], places: Mapping[str, Place]) -> None:
    """Check the strides in a file before they are used to allocate memory: they may be forged.

    Args:
        strides: by name.
        places: of the file's tensors.

    Raises:
        ValueError: if some are not the strides of a tensor of that shape that uses each element of
            its memory once.

    Example:
        >>> check_strides({"a": [0, 1]}, {"a": Place(torch.int8, (2, 3), 0, 6)})
        Traceback (most recent call last):
        ValueError: is damaged: no tensor a of shape [2, 3] has the strides [0, 1]
    """
    for name, stride in strides.items():
        shape = list(places[name].shape) if name in places else None
        if shape is None or not (isinstance(stride, list) and _is_dense(shape, stride)):
            raise ValueError(
                f"is damaged: no tensor {name} of shape {shape} has the strides {stride}"
            )


def _is_dense(shape: Sequence[int], stride: Sequence[int]) -> bool:
    """Return whether each element has its own position in memory, without gaps.

    From the axis with the smallest stride on, each stride is the size of all axes before it. An
    axis of length 1, or an empty tensor, may have any stride.
    """
    if len(shape) != len(stride) or not all(map(is_count, stride)):
        return False
    size = 1
    for step, length in sorted(zip(stride, shape, strict=True)):
        if length != 1 and 0 not in shape:
            if step != size:
                return False
            size *= length
    return True
