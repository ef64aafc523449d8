"""Which torch's private parts this library has been tried with.

Every torch that pyproject.toml admits compiles steps. What else is done with Inductor's insides is
done from the version on with which it has been tried: its C++ code calls this library's loops, its
libraries are found on disk, and a state is updated within the graph. An older Inductor lets the
update of W come before a product that still reads W.
"""

from __future__ import annotations

from typing import Final

import torch

IS_KNOWN: Final = torch.__version__ >= "2.13"
