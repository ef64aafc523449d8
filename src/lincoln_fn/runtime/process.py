"""What the process has: memory that it keeps, a shell, and how exact its products are. Not pure.

On Linux the C library returns large blocks of memory to the system as soon as they are free. The
next training step then needs new memory, page by page.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
import warnings
from functools import cache
from typing import Any, Final

import torch
from torch.autograd import forward_ad

# Any: torch writes no types for it.
_MKLDNN: Final[Any] = torch.backends.mkldnn

# Parameters of mallopt, as glibc's malloc.h numbers them.
_TOP_PAD: Final = -2
_MMAP_MAX: Final = -4
# glibc's default number of mappings.
_USUAL_MAPPINGS: Final = 65536
# Of <sys/mman.h>, in Linux.
_MADV_HUGEPAGE: Final = 14


@cache
def load_forward_mode() -> None:
    """Load torch's forward mode, which warns of a function of its own that it has deprecated."""
    if forward_ad._current_level < 0:  # within a level, it is loaded
        with warnings.catch_warnings(), forward_ad.dual_level():
            warnings.filterwarnings("ignore", ".*torch.jit.script")
            forward_ad.make_dual(torch.zeros(1), torch.zeros(1))


def keep_freed_memory(bytes: int = 2**30) -> bool:  # noqa: A002  # the unit says what it is
    """Let this process keep freed memory for its next use, instead of returning it at once.

    A step whose tensors are large takes less time: a quarter less in an eager convolutional
    network, a seventh less in a compiled transformer. The memory kept is in large pages, where
    Linux grants them on request. Some systems take long to find these, so read large data before
    the call. Other code in the process keeps its memory too. No result changes.

    Args:
        bytes: how much freed memory to keep; below 2**31.

    Returns:
        Whether the C library supports this. glibc does, which nearly every Linux has, unless the
        process may not use this much memory. Other libraries may keep freed memory by default.

    Example:
        >>> kept = keep_freed_memory()
    """
    # Before a setting is changed.
    if not isinstance(bytes, int) or not 0 <= bytes < 2**31:
        problem = f"expected a whole number, from 0 to {2**31 - 1} bytes, got {bytes!r}"
        raise ValueError(f"keep_freed_memory: {problem}; write 2**30 for a gibibyte")
    libc = ctypes.pythonapi
    mallopt = getattr(libc, "mallopt", None)
    # No block gets its own mapping, which would be returned to the system when it is freed.
    if mallopt is None or not mallopt(_MMAP_MAX, 0):
        return False
    address = ctypes.c_void_p
    allocate = ctypes.PYFUNCTYPE(address, ctypes.c_size_t)(("malloc", libc))
    advise = ctypes.PYFUNCTYPE(ctypes.c_int, address, ctypes.c_size_t, ctypes.c_int)
    free = ctypes.PYFUNCTYPE(None, address)(("free", libc))
    begin = allocate(bytes)
    if not begin:
        mallopt(_MMAP_MAX, _USUAL_MAPPINGS)
        return False
    # For memory allocated from now on. A system without large pages refuses, which does no harm.
    whole = -(-begin // mmap.PAGESIZE) * mmap.PAGESIZE
    advise(("madvise", libc))(whole, max(bytes - mmap.PAGESIZE, 0), _MADV_HUGEPAGE)
    kept = mallopt(_TOP_PAD, bytes)
    free(begin)
    return bool(kept)


def precision() -> str:
    """Return how exact oneDNN's products have to be: "bf16" or "tf32" if it may round factors."""
    return str(_MKLDNN.matmul.fp32_precision)


def current_shell() -> Any:  # Any: an InteractiveShell, whose package is not a dependency
    """Return the shell of IPython, or None outside of it."""
    get_ipython = getattr(sys.modules.get("IPython"), "get_ipython", None)
    return None if get_ipython is None else get_ipython()


def in_notebook() -> bool:
    """Return whether the code runs in the kernel of a notebook."""
    shell = current_shell()
    return shell is not None and "IPKernelApp" in shell.config
