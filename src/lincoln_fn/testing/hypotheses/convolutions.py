"""Convolutions and matrix products: a kernel not flipped, a transposition missing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeAlias

import attrs
from torch import Tensor
from torch.nn import functional

from lincoln_fn.testing.call import Call
from lincoln_fn.testing.evidence import Evidence
from lincoln_fn.testing.hypotheses.hypothesis import Cost, Guess, Hypothesis, guess_alone
from lincoln_fn.testing.hypotheses.local import Local, guesses_if, list_groups, local, make_table
from lincoln_fn.testing.hypotheses.windows import CONVOLUTIONS, axes
from lincoln_fn.testing.oracles import vjp

_ALL = (*CONVOLUTIONS, "conv_transpose1d", "conv_transpose2d", "conv_transpose3d")


def _read_options(call: Call) -> dict[str, Any]:  # Any: tensors, numbers, tuples of them, or a word
    names = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
    args, kwargs = call.arguments()
    return dict(zip(names, args, strict=False)) | kwargs


def _read_each(call: Call, option: str, default: int) -> tuple[int, ...] | None:
    """Return an option for each axis; None for padding by a word."""
    value = _read_options(call).get(option, default)
    if isinstance(value, str):
        return None
    return (value,) * axes(call) if isinstance(value, int) else tuple(value)


def _convolve(call: Call, **changed: object) -> Tensor:
    """Run a convolution with some options changed."""
    made: Tensor = getattr(functional, call.name)(
        **{**_read_options(call), "bias": None, **changed}
    )
    return made


def _change_kernel(call: Local, change: Callable[[Tensor], Tensor]) -> Tensor | None:
    """Compute the gradient of x with another kernel."""
    values = [value.detach() for value in call.call.inputs]
    if call.k or len(values) < 2:
        return None
    values[1] = change(values[1])
    return call.call.vjp(call.gs, values)[0]


def _leave_unflipped(call: Local) -> Tensor | None:
    """Correlate g with the kernel, or give the kernel's gradient flipped."""
    kernel = _read_options(call.call)["weight"]
    spatial = tuple(range(2, kernel.ndim))
    if call.call.inputs[call.k] is kernel:
        return call.right.flip(spatial)
    return _change_kernel(call, lambda kernel: kernel.flip(spatial))


def _change_input(call: Local, change: Callable[[Call], dict[str, object] | None]) -> Tensor | None:
    """Compute the gradient of a kernel with another x, or other options."""
    is_kernel = call.call.inputs[call.k] is _read_options(call.call)["weight"]
    changed = change(call.call) if is_kernel else None
    if changed is None:
        return None
    return vjp(lambda kernel: _convolve(call.call, weight=kernel, **changed), call.u, call.g)


def _drop_stride(call: Call) -> dict[str, object] | None:
    """Take the windows of x side by side."""
    strides, padding = _read_each(call, "stride", 1), _read_each(call, "padding", 0)
    if padding is None or set(strides or ()) == {1}:
        return None
    x = functional.pad(
        _read_options(call)["input"].detach(), [p for n in reversed(padding) for p in (n, n)]
    )
    sizes = zip(_read_options(call)["weight"].shape[2:], call.outputs[0].shape[2:], strict=True)
    for axis, (size, count) in enumerate(sizes, 2):
        x = x.narrow(axis, 0, size + count - 1)
    return {"input": x, "stride": 1, "padding": 0}


def _fit_into(found: Tensor, padding: tuple[int, ...], u: Tensor) -> Tensor:
    """Cut padding off the start, and what is too long off the end; what is missing is zero."""
    for axis, size in enumerate(padding, 2):
        found = found.narrow(axis, size, max(0, found.shape[axis] - size))
    wrong = u * 0
    both = tuple(slice(0, min(a, b)) for a, b in zip(found.shape, wrong.shape, strict=True))
    wrong[both] = found[both]
    return wrong


def _pad_one_side(call: Call, side: int) -> dict[str, object] | None:
    """Put all padding of x on one side."""
    each = _read_each(call, "padding", 0)
    if not any(each or ()):
        return None
    pads = [p for n in reversed(each or ()) for p in ((0, 2 * n) if side else (2 * n, 0))]
    return {"input": functional.pad(_read_options(call)["input"].detach(), pads), "padding": 0}


def _drop_option(call: Local, option: str) -> Tensor | None:
    """Compute the gradient of a convolution's input as if an option were 1."""
    options, padding = _read_options(call.call), _read_each(call.call, "padding", 0)
    if call.k or padding is None or set(_read_each(call.call, option, 1) or ()) == {1}:
        return None
    kept = {str(k): options[k] for k in ("stride", "dilation", "groups") if k in options}
    kept[option] = 1
    transposed = getattr(functional, f"conv_transpose{axes(call.call)}d")
    found: Tensor = transposed(call.g, options["weight"].detach(), **kept)
    return _fit_into(found, padding, call.u)


def _cut_wrongly(evidence: Evidence) -> Iterator[Guess]:
    """Cut the padding off at the wrong end of the gradient of the padded input."""
    for i, right in enumerate(evidence.expected):
        wides = [*_find_padded(evidence, i)]
        for n in range(1, min(3, right.ndim) + 1):
            for wide in wides:
                yield from (
                    guess_alone(evidence, i, guess, where=where)
                    for where, guess in _cut(wide, right, n)
                )


def _cut(wide: Tensor, right: Tensor, n: int) -> Iterator[tuple[str, Tensor]]:
    """Cut the last n axes at every place."""
    axes = range(right.ndim - n, right.ndim)
    extra = [wide.shape[axis] - right.shape[axis] for axis in axes]
    for start in range(max(extra) + 1):
        cut = wide
        for axis, more in zip(axes, extra, strict=True):
            cut = cut.narrow(axis, min(start, more), right.shape[axis])
        if cut.shape == right.shape:
            at_end = "from the end" if start == max(extra) else f"from place {start}"
            yield "from the start" if start == 0 else at_end, cut


def _find_padded(evidence: Evidence, i: int) -> Iterator[Tensor]:
    """Find the gradients of an array with its padding."""
    for tape in evidence.tapes:
        for call in tape.calls:
            if call.inputs[0] is not tape.arrays[i]:
                continue
            if call.name == "pad":
                yield tape.arrived(call)[0]
            elif call.name in CONVOLUTIONS and any(each := _read_each(call, "padding", 0) or ()):
                x = functional.pad(call.inputs[0], [p for n in reversed(each) for p in (n, n)])
                g = tape.arrived(call)[0]
                yield vjp(partial(_convolve_unpadded, call), x, g)


def _convolve_unpadded(call: Call, x: Tensor) -> Tensor:
    return _convolve(call, input=x, padding=0)


_ONE_SIDE = "pads the input of {at}() on one side alone"
_NO_STRIDE = "forgets the stride of {at}()"
HYPOTHESES = [
    *make_table(
        ("kernel not flipped", "does not flip the kernel of {at}()", _leave_unflipped, _ALL),
        ("channels exchanged", "exchanges the channels of {at}()",
        partial(_change_kernel, change=lambda kernel: kernel.transpose(0, 1)), _ALL),
        ("stride forgotten", _NO_STRIDE, partial(_change_input, change=_drop_stride), CONVOLUTIONS),
        ("stride forgotten", _NO_STRIDE, partial(_drop_option, option="stride"), CONVOLUTIONS),
        *(("padding", _ONE_SIDE, partial(_change_input, change=partial(_pad_one_side, side=side)),
        CONVOLUTIONS) for side in (0, 1)),),
    Hypothesis("padding", "cuts the padding off wrongly, {where}", _cut_wrongly, Cost.OPERATION),
]  # fmt: skip


Pairs: TypeAlias = tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]
_MATMUL = ("matmul",)
_ALONG_AN_AXIS = (
    "sum", "mean", "amax", "amin", "cumsum", "cumprod", "logsumexp", "softmax", "log_softmax",
    "norm", "std", "var", "prod",
)  # fmt: skip


# For a product a b and its g, what the gradients of a and of b may be in place of g b^T and a^T g.
_WRONG_PRODUCTS: tuple[tuple[str, str, Callable[[Tensor, Tensor, Tensor], Pairs]], ...] = (
    ("not transposed", "lacks a transposition in {at}()",
     lambda a, b, g: ((g.mT, b.mT), (a.mT, g.mT))),
    ("not transposed", "lacks a transposition in {at}()", lambda a, b, g: ((g, b), (a, g))),
)  # fmt: skip


def _multiply_wrongly(
    call: Local, pairs: Callable[[Tensor, Tensor, Tensor], Pairs]
) -> Tensor | None:
    a, b = (leaf.detach() for leaf in call.call.leaves if isinstance(leaf, Tensor))
    is_first = call.call.inputs[call.k] is call.call.leaves[0]
    left, right = pairs(a, b, call.g)[0 if is_first else 1]
    fits = left.shape[-1] == right.shape[-2]
    return (left @ right).sum_to_size(call.u.shape) if fits else None


def _turn_axis(evidence: Evidence) -> Iterator[Guess]:
    """Run an operation along another axis."""
    for tape, calls, at in list_groups(evidence):
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

                yield from guesses_if(tape, calls, moved, wrong=axis, right=leaf % ndim)


PRODUCTS = [
    Hypothesis("another axis", "takes axis {wrong}, where {at}() takes axis {right}",
               _turn_axis, Cost.OPERATION),
    *(local(name, sentence, partial(_multiply_wrongly, pairs=pairs), only=_MATMUL)
      for name, sentence, pairs in _WRONG_PRODUCTS),
]  # fmt: skip
