"""Which torch's private parts this library has been tried with.

Every torch that pyproject.toml admits compiles steps. Three things need a version of Inductor with
which they have been tried: its C++ code calls this library's kernels, its libraries are found on
disk, and a state is updated within the graph. An older Inductor may update W before a product that
still reads W.
"""

from __future__ import annotations

from typing import Final

import torch

IS_KNOWN: Final = torch.__version__ >= "2.13"
