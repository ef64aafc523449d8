"""What the process has: the shell of IPython or a notebook, and how exact its products are."""

from __future__ import annotations

import sys
from typing import Any, Final

import torch

# Any: torch writes no types for it.
_MKLDNN: Final[Any] = torch.backends.mkldnn


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
