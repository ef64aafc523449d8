"""A gradient bug of a public history: the function before and after its repair."""

from collections.abc import Callable
from itertools import count
from typing import Any

import attrs
import torch
from torch import Tensor
from torch.autograd import Function

from helpers.cases.case import normal


@attrs.frozen(eq=False)
class Pair:
    """A function before and after the repair of its gradient.

    Args:
        name: what is wrong before.
        source: the repository and the number of its issue or pull request.
        make: fixed -> the function; or its (forward, backward) in numpy.
        inputs: arguments with which it is wrong, or, where sizes decide, with which it seems right.
        says: a pattern that a true sentence about it has.
        reference: the plain function; None where forward itself is one.
        options: further ones of the check.
    """

    name: str
    source: str
    make: Callable[[bool], Any]
    inputs: tuple[Any, ...]
    says: str
    reference: Callable[..., Any] | None = None
    options: dict[str, Any] = attrs.field(factory=dict)

    def __str__(self) -> str:
        return f"{self.source}-{self.name}"

    def fresh(self) -> tuple[Any, ...]:
        """Copy the inputs: a bug may write into them."""
        return tuple(
            x.detach().clone().requires_grad_(x.requires_grad) if isinstance(x, Tensor) else x
            for x in self.inputs
        )


def table(pairs: list[Pair]) -> Callable[..., Any]:
    """Make the decorator that enters a function fixed -> function into a list of pairs.

    It is given the source, a pattern of what is said, and the inputs, where "4 3" draws a leaf.
    """

    def pair(
        source: str, says: str, *inputs: Any, dtype: torch.dtype = torch.float32, **more: Any
    ) -> Any:
        def enter(make: Callable[[bool], Any]) -> Callable[[bool], Any]:
            pairs.append(
                Pair(make.__name__, source, make, drawn(*inputs, dtype=dtype), says, **more)
            )
            return make

        return enter

    return pair


def function(forward: Callable[..., Any], backward: Callable[..., Any], **more: Any) -> Any:
    """Make an autograd.Function, named as the function in which its backward is."""
    methods = {"forward": forward, "backward": backward, **more}
    name = backward.__qualname__.partition(".")[0]
    return type(name, (Function,), {name: staticmethod(f) for name, f in methods.items()})


def product(ctx: Any, x: Tensor, w: Tensor) -> Tensor:
    """Compute x w, the forward that many of the functions have."""
    ctx.save_for_backward(x, w)
    return x * w


def rms_norm(ctx: Any, x: Tensor) -> Tensor:
    """Divide each row by its root mean square, and save x and the factors."""
    r = (x.square().mean(-1, keepdim=True) + 1e-6).rsqrt()
    ctx.save_for_backward(x, r)
    return x * r


def leaf(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Draw an input that has a gradient."""
    return normal(*shape, seed=seed).to(dtype).requires_grad_()


def drawn(*inputs: Any, dtype: torch.dtype = torch.float32) -> tuple[Any, ...]:
    """Draw a leaf for each shape, such as "4 3", each from a seed of its own."""
    seeds = count()
    return tuple(
        leaf(*map(int, x.split()), seed=next(seeds), dtype=dtype) if isinstance(x, str) else x
        for x in inputs
    )


def read(x: Tensor, strides: tuple[int, ...] | None = None) -> Tensor:
    """Read what a kernel finds that takes these strides for x's, nan behind the end of its memory.

    Args:
        strides: None for those of a contiguous tensor.
    """
    if not x.numel():
        return x.clone()
    where = torch.zeros((), dtype=torch.long)
    for size, stride in zip(x.shape, strides or torch.empty(x.shape).stride(), strict=True):
        where = where[..., None] + torch.arange(size) * stride
    memory = torch.empty(0, dtype=x.dtype).set_(x.untyped_storage())[x.storage_offset() :]
    found = memory[where.clamp(max=len(memory) - 1)]
    return found.masked_fill(where >= len(memory), torch.nan)
