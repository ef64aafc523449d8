"""The folder of torch's compiler, which torch makes as soon as a product is on `meta`.

torch computes a product's shape there by parts of its compiler, and the import of these makes the
folder. So where it cannot be made, nothing could be initialised.
"""

from __future__ import annotations

import os
import tempfile
import warnings
from functools import cache
from pathlib import Path
from typing import Final

VARIABLE: Final = "TORCHINDUCTOR_CACHE_DIR"


# A memo: torch makes the folder once a process, and finds it by the variable.
@cache
def make_cache_folder() -> None:
    """Make torch's cache folder; if that cannot be, have torch use a temporary one."""
    folder = Path(os.environ.get(VARIABLE) or tempfile.gettempdir())  # torch's own is in there
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        warnings.warn(
            f"compiled steps are not stored on disk, because {folder} cannot be made:"
            f" {error.strerror}; set {VARIABLE} to another folder",
            stacklevel=2,
        )
        os.environ[VARIABLE] = temporary_folder().name


# A memo: one folder for each process, which is removed when the process ends.
@cache
def temporary_folder() -> tempfile.TemporaryDirectory[str]:
    """Make a folder that nobody else can write to."""
    return tempfile.TemporaryDirectory(prefix="lincoln_fn_")
