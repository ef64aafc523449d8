"""Operations of this library's own, which torch, and so a traced step, knows by a name."""

from __future__ import annotations

from typing import Final

import torch
from torch.library import Library

from lincoln_fn.fastpath.twin import Function, Operation

# The names live as long as the library object.
_LIBRARY: Final[Operation] = Library("lincoln_fn", "FRAGMENT")  # type: ignore[no-untyped-call]  # torch's


def operation(
    schema: str, kernel: Function, like: Function | None = None, *, any_strides: bool = False
) -> Operation:
    """Register an operation, once, when a module is imported. Inductor does not compile it."""
    # `like` makes tensors like the results on `meta`; None if the kernel itself does. Inductor need
    # not copy arguments that may have any strides.
    name = schema.partition("(")[0]
    _LIBRARY.define(schema, tags=(torch.Tag.flexible_layout,) if any_strides else ())
    _LIBRARY.impl(name, kernel, "CPU" if like else "CompositeExplicitAutograd")
    if like:
        _LIBRARY.impl(name, like, "Meta")
    return getattr(torch.ops.lincoln_fn, name).default
