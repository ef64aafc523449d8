"""The IPython shell or notebook in which the code runs, without importing IPython."""

from __future__ import annotations

import sys
from typing import Any


def current_shell() -> Any:  # Any: an InteractiveShell, whose package is not a dependency
    """Return the shell of IPython, or None outside of it."""
    get_ipython = getattr(sys.modules.get("IPython"), "get_ipython", None)
    return None if get_ipython is None else get_ipython()


def in_notebook() -> bool:
    """Return whether the code runs in the kernel of a notebook."""
    shell = current_shell()
    return shell is not None and "IPKernelApp" in shell.config
