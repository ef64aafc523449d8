"""Work that is due at some steps only, such as the eigenvectors of a matrix.

    @when_due
    def eigenvectors(matrix, old):
        return (torch.linalg.eigh(matrix).eigenvectors,)

    (vectors,) = eigenvectors(step % 10 == 0, matrix, old=vectors)

Where the tensor of the first argument is True, these are copies of what the function returns; else
of the arguments by keyword, in their order. The function may not change its arguments.

Outside of a graph, Python looks at that tensor. In the graph of a compiled step, the work is one
operation of this library, which looks at it when the graph runs. So the step pays for the work only
when it is due, and there is one graph. Under `torch.func.vmap`, where each case has its own answer,
and in a graph for another process, both are computed, and `torch.where` chooses.

`operation` registers every operation of this library: here, and in the rooms of kernels.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial, wraps
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor

from lincoln_fn.core.tracing import is_traced, is_transformed, runs_here
from lincoln_fn.errors.annotations import Function

# Any: torch writes no types for these. The names live as long as the library object.
_OF_TORCH: Any = torch.library
_LIBRARY: Final[Any] = _OF_TORCH.Library("lincoln_fn", "FRAGMENT")
Operation: TypeAlias = Any
_KEYWORD: Final = inspect.Parameter.KEYWORD_ONLY

# Of as many tensors as the function has parameters.
Work: TypeAlias = Callable[..., tuple[Tensor, ...]]


def operation(
    schema: str, kernel: Function, like: Function | None = None, *, any_strides: bool = False
) -> Operation:
    """Register an operation, once, when a module is imported. Inductor does not compile it."""
    # `like` makes tensors like the results on `meta`; None if the kernel itself does. Inductor need
    # not copy arguments that may have any strides.
    name = schema.partition("(")[0]
    _LIBRARY.define(schema, tags=(torch.Tag.flexible_layout,) if any_strides else ())
    _LIBRARY.impl(name, kernel, "CompositeExplicitAutograd")
    if like:
        _LIBRARY.impl(name, like, "Meta")
    return getattr(torch.ops.lincoln_fn, name).default


def when_due(work: Work) -> Work:
    """Make a function (is_due, *tensors, **old) -> tensors of one (*tensors, **old) -> tensors."""
    parameters = inspect.signature(work).parameters
    olds = [name for name, each in parameters.items() if each.kind is _KEYWORD]
    arguments = ", ".join(f"Tensor {name}" for name in ("is_due", *parameters))
    in_graph = operation(
        f"{work.__name__.strip('_')}_when_due({arguments}) -> Tensor[]",
        partial(_run, work, olds),
        partial(_run_on_meta, len(olds)),
    )

    @wraps(work)
    def choose(is_due: Tensor, *given: Tensor, **old: Tensor) -> tuple[Tensor, ...]:
        kept = tuple(old[name] for name in olds)
        tensors = (is_due, *given, *kept)
        has_graph = is_traced(*tensors)
        if has_graph and all(map(runs_here, tensors)):
            return tuple(in_graph(*tensors))
        if has_graph or is_transformed(is_due):
            pairs = zip(work(*given, **old), kept, strict=True)
            return tuple(torch.where(is_due, new, before) for new, before in pairs)
        # Each gets memory of its own: a view would keep the whole of a larger tensor.
        return tuple(map(torch.clone, work(*given, **old) if is_due else kept))

    return choose


def _run(work: Work, olds: list[str], is_due: Tensor, *tensors: Tensor) -> list[Tensor]:
    """Do the work if it is due; results share no memory with the arguments."""
    given, kept = tensors[: -len(olds)], tensors[-len(olds) :]
    due = bool(is_due.item())
    made = work(*given, **dict(zip(olds, kept, strict=True))) if due else kept
    return [torch.empty_like(before).copy_(after) for after, before in zip(made, kept, strict=True)]


def _run_on_meta(kept: int, is_due: Tensor, *tensors: Tensor) -> list[Tensor]:
    return list(map(torch.empty_like, tensors[-kept:]))
