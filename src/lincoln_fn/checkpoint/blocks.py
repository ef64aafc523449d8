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
    """Split a tensor into views of at most one MiB, in the order of its elements."""
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
    """Copy a block to the CPU, and read it as bytes."""
    raw = torch.empty(block.nbytes, dtype=torch.uint8, device="cpu")
    raw.view(block.dtype).view(block.shape).copy_(block.detach())
    return raw


def record_strides(tensors: Mapping[str, Tensor]) -> dict[str, list[int]]:
    """Record the strides of dense tensors with permuted axes, such as channels-last weights."""
    # Kernels choose their order of summation by the strides, so a run resumed without them would
    # differ.
    kept = {name: torch.empty_like(t, device="meta").stride() for name, t in tensors.items()}
    plain = {name: torch.empty(t.shape, device="meta").stride() for name, t in tensors.items()}
    return {name: list(kept[name]) for name in kept if kept[name] != plain[name]}


def check_strides(strides: Mapping[str, object], places: Mapping[str, Place]) -> None:
    """Check the strides in a file before they are used to allocate memory: they may be forged."""
    for name, stride in strides.items():
        shape = list(places[name].shape) if name in places else None
        if shape is None or not (isinstance(stride, list) and _is_dense(shape, stride)):
            raise ValueError(
                f"is damaged: no tensor {name} of shape {shape} has the strides {stride}"
            )


def _is_dense(shape: Sequence[int], stride: Sequence[int]) -> bool:
    """Return whether each element has its own position in memory, without gaps."""
    # From the axis with the smallest stride on, each stride is the size of all axes before it. An
    # axis of length 1, or an empty tensor, may have any stride.
    if len(shape) != len(stride) or not all(map(is_count, stride)):
        return False
    size = 1
    for step, length in sorted(zip(stride, shape, strict=True)):
        if length != 1 and 0 not in shape:
            if step != size:
                return False
            size *= length
    return True
