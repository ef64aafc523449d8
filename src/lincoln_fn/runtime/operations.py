"""Operations of this library in torch's graphs: work that is due at some steps only.

    @when_due
    def eigenvectors(matrix, old):
        return (eigh(matrix)[1],)

    (vectors,) = eigenvectors(step % 10 == 0, matrix, old=vectors)

Where the tensor of the first argument is True, these are copies of what the function returns; else
of the arguments by keyword, in their order. The function may not change its arguments.

Outside of a graph, Python looks at that tensor. In the graph of a compiled step, the work is one
operation of this library, which looks at it when the graph runs. So the step pays for the work only
when it is due, and there is one graph. Under `torch.func.vmap`, where each case has its own answer,
and in a graph for another process, both are computed, and `torch.where` chooses.

`operation` registers every operation of this library: here, and in the rooms of kernels.

The decompositions are nan for a matrix that is not finite. torch refuses such a matrix by an error
about its eigenvalues. With nan, a step finds that its loss is not finite, and says so.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from functools import partial, wraps
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from lincoln_fn.core import Function, called, is_traced, is_transformed

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
    name = called(schema)
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
    made = work(*given, **dict(zip(olds, kept, strict=True))) if bool(is_due.item()) else kept
    return [torch.empty_like(before).copy_(after) for after, before in zip(made, kept, strict=True)]


def _run_on_meta(kept: int, is_due: Tensor, *tensors: Tensor) -> list[Tensor]:
    return list(map(torch.empty_like, tensors[-kept:]))


def eigh(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the eigenvalues of a symmetric matrix, ascending, and the eigenvectors as columns."""
    values, vectors = _if_finite(torch.linalg.eigh, matrix)
    return values, vectors


def svd(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the reduced U, the singular values, descending, and V^T."""
    u, values, vt = _if_finite(partial(torch.linalg.svd, full_matrices=False), matrix)
    return u, values, vt


def _if_finite(decompose: Callable[[Tensor], Iterable[Tensor]], matrix: Tensor) -> list[Tensor]:
    is_finite = matrix.isfinite().all()
    # Both are computed: a branch on a tensor's value could not be traced.
    parts = decompose(torch.where(is_finite, matrix, 0))
    return [torch.where(is_finite, part, torch.nan) for part in parts]


class RunsHere(FakeTensorMode):  # type: ignore[no-untyped-call]  # torch's own
    """The mode of fake tensors for a step that will run in this process, and not be exported."""

    # Whether the compiler supports loops whose body is traced once (combine/_steps.py).
    has_loops = False
    supports_higher_order_operators = True

    def __init__(self, **options: Any) -> None:  # Any: torch's own
        super().__init__(**options)
        # Losses of steps within the function. Where one is not finite, the function is run as it
        # is, so that its step raises the error.
        self.losses: list[Tensor] = []


def runs_here(x: Tensor) -> bool:
    """Return whether x's step runs in this process, which knows this library's operations."""
    return not isinstance(x, FakeTensor) or isinstance(x.fake_mode, RunsHere)


def losses_of(x: Tensor) -> list[Tensor]:
    """Return the list of losses of x's tracer; an empty one if there is no tracer."""
    mode = x.fake_mode if isinstance(x, FakeTensor) else None
    return mode.losses if isinstance(mode, RunsHere) else []
