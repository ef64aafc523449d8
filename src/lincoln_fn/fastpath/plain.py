"""Whether autograd, torch.func or a tracer sees what is computed, or another process runs it."""

from __future__ import annotations

from torch import Tensor

from lincoln_fn.core.autodiff import is_transformed
from lincoln_fn.core.tracing import RunsHere as RunsHere
from lincoln_fn.core.tracing import is_traced as is_traced
from lincoln_fn.core.tracing import runs_here as runs_here


def is_plain(*tensors: Tensor | None) -> bool:
    """Return whether no autograd, torch.func or tracer sees what is computed from the tensors."""
    return not (is_transformed(*tensors) or is_traced(*tensors))
