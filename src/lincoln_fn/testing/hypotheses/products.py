"""Matrix products and convolutions: a transposition missing, a kernel not flipped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TypeAlias

import attrs
import torch
from torch import Tensor
from torch.nn import functional

from lincoln_fn.testing.call import Call
from lincoln_fn.testing.evidence import Evidence
from lincoln_fn.testing.hypotheses.hypothesis import Cost, Guess, Hypothesis, alone
from lincoln_fn.testing.hypotheses.local import Local, attempt, groups, local

Pairs: TypeAlias = tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]
_PRODUCTS = ("matmul",)
_ALONG_AN_AXIS = (
    "sum", "mean", "amax", "amin", "cumsum", "cumprod", "logsumexp", "softmax", "log_softmax",
    "norm", "std", "var", "prod",
)  # fmt: skip
_CONVOLUTIONS = ("conv1d", "conv2d", "conv3d")
_TRANSPOSED = ("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")


# For a product a b and its g, what the gradients of a and of b may be in place of g b^T and a^T g.
_WRONG_PRODUCTS: tuple[tuple[str, str, Callable[[Tensor, Tensor, Tensor], Pairs]], ...] = (
    ("not transposed", "lacks a transposition in {at}()",
     lambda a, b, g: ((g.mT, b.mT), (a.mT, g.mT))),
    ("not transposed", "lacks a transposition in {at}()", lambda a, b, g: ((g, b), (a, g))),
    ("order of factors", "multiplies in the wrong order in {at}()",
     lambda a, b, g: ((b.mT, g), (g, a.mT))),
)  # fmt: skip


def _wrong_product(call: Local, pairs: Callable[[Tensor, Tensor, Tensor], Pairs]) -> Tensor | None:
    a, b = (leaf.detach() for leaf in call.call.leaves if isinstance(leaf, Tensor))
    is_first = call.call.inputs[call.k] is call.call.leaves[0]
    left, right = pairs(a, b, call.g)[0 if is_first else 1]
    fits = left.shape[-1] == right.shape[-2]
    return (left @ right).sum_to_size(call.u.shape) if fits else None


def _unflipped(call: Local) -> Tensor | None:
    """Correlate g with the kernel, or give the kernel's gradient flipped."""
    args, _ = call.call.arguments()
    x, kernel = args[0], args[1]
    spatial = tuple(range(2, kernel.ndim))
    if call.call.inputs[call.k] is kernel:
        return call.right.flip(spatial)
    if call.call.inputs[call.k] is not x:
        return None
    values = [value.detach() for value in call.call.inputs]
    if len(values) < 2:
        return None
    values[1] = values[1].flip(spatial)
    return call.call.vjp(call.gs, values)[call.k]


def _channels_exchanged(call: Local) -> Tensor | None:
    values = [value.detach() for value in call.call.inputs]
    if call.k or len(values) < 2 or values[1].shape[0] != values[1].shape[1]:
        return None
    values[1] = values[1].transpose(0, 1)
    return call.call.vjp(call.gs, values)[0]


def _padding_crops(evidence: Evidence) -> Iterator[Guess]:
    """Cut the padding off at the wrong end of the gradient of the padded input."""
    for i, right in enumerate(evidence.expected):
        for n in range(1, min(3, right.ndim) + 1):
            for where, guess in _shifts(evidence, i, n):
                yield alone(evidence, i, guess, where=where)


def _shifts(evidence: Evidence, i: int, n: int) -> Iterator[tuple[str, Tensor]]:
    """Compute the gradient of padding around an array, cut at other places."""
    right = evidence.expected[i]
    for tape in evidence.tapes:
        for call in tape.calls:
            if call.name not in (*_CONVOLUTIONS, "pad") or call.inputs[0] is not tape.arrays[i]:
                continue
            wide = _padded_gradient(call, tape.arrived(call))
            if wide is None:
                continue
            axes = range(right.ndim - n, right.ndim)
            extra = [wide.shape[axis] - right.shape[axis] for axis in axes]
            for start in range(max(extra) + 1):
                cut = wide
                for axis, more in zip(axes, extra, strict=True):
                    cut = cut.narrow(axis, min(start, more), right.shape[axis])
                if cut.shape == right.shape:
                    at_end = "from the end" if start == max(extra) else f"from place {start}"
                    yield "from the start" if start == 0 else at_end, cut


def _padded_gradient(call: Call, gs: list[Tensor]) -> Tensor | None:
    args, kwargs = call.arguments()
    if call.name == "pad":
        return gs[0]
    n = int(call.name[-2])
    padding = kwargs.get("padding", args[4] if len(args) > 4 else 0)
    if isinstance(padding, str):
        return None
    each = (padding,) * n if isinstance(padding, int) else tuple(padding)
    if not any(each):
        return None
    x = functional.pad(args[0].detach(), [p for p in reversed(each) for _ in (0, 1)])
    rest = list(args)
    rest[0] = x.requires_grad_()
    if len(rest) > 4:
        rest[4] = 0
    options = {k: 0 if k == "padding" else v for k, v in kwargs.items()}
    with torch.enable_grad():
        y: Tensor = call.function(*rest, **options)
        return torch.autograd.grad(y, x, gs[0])[0]


def _on_another_axis(evidence: Evidence) -> Iterator[Guess]:
    """Run an operation along another axis."""
    for tape, calls, at in groups(evidence):
        if at not in _ALONG_AN_AXIS:
            continue
        ndim = calls[0].inputs[0].ndim
        for n, leaf in enumerate(calls[0].leaves):
            if type(leaf) is not int or not -ndim <= leaf < ndim:
                continue
            for axis in set(range(ndim)) - {leaf % ndim}:

                def moved(
                    call: Call, gs: list[Tensor], right: list[Tensor], n: int = n, axis: int = axis
                ) -> list[Tensor]:
                    leaves = [axis if m == n else leaf for m, leaf in enumerate(call.leaves)]
                    return attrs.evolve(call, leaves=leaves).vjp(gs)

                found = attempt(tape, calls, moved)
                if found is None:
                    continue
                said = {"at": at, "wrong": axis, "right": leaf % ndim, "code": calls[0].code}
                yield Guess([*found], said)


HYPOTHESES = [
    local("factor missing", "lacks the {factor} of {at}()",
          lambda call: call.g if call.g.shape == call.u.shape else None, only=_PRODUCTS),
    Hypothesis("another axis", "takes axis {wrong}, where {at}() takes axis {right}",
               _on_another_axis, Cost.OPERATION),
    *(local(name, sentence, partial(_wrong_product, pairs=pairs), only=_PRODUCTS)
      for name, sentence, pairs in _WRONG_PRODUCTS),
    local("kernel not flipped", "does not flip the kernel of {at}()", _unflipped,
          only=(*_CONVOLUTIONS, *_TRANSPOSED)),
    local("channels exchanged", "exchanges the channels of {at}()", _channels_exchanged,
          only=(*_CONVOLUTIONS, *_TRANSPOSED)),
    Hypothesis("padding", "cuts the padding off wrongly, {where}", _padding_crops, Cost.OPERATION),
]  # fmt: skip
