"""Whether autograd, torch.func or a tracer sees what is computed."""

from __future__ import annotations

from torch import Tensor

from lincoln_fn.core.autodiff import is_transformed
from lincoln_fn.core.tracing import is_traced


def is_plain(*tensors: Tensor | None) -> bool:
    """Return whether no autograd, torch.func or tracer sees what is computed from the tensors."""
    return not (is_transformed(*tensors) or is_traced(*tensors))
