"""ATen's flash kernel for attention on the CPU, which computes the weights block by block.

It keeps y and the logarithm of the sum of each query's e^scores, from which its backward pass
computes the weights again. So nothing grows with the square of the length, apart from a mask of
places: without batch and heads, and only for a window, or for a causal query that is not at the
place of the key with its number.

In a traced step, the kernel is an operation of this library's, which computes the formula where the
scores are too large. Where the weights are few, Inductor's code for the formula is faster.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import pad

from lincoln_fn.core import is_between, is_traced
from lincoln_fn.layers import scaled_dot_product_attention as sdpa
from lincoln_fn.runtime import operation, runs_here

aten = torch.ops.aten
# On its way back, the kernel computes the weights again, as e^(score - logsumexp). Two roundings of
# a score differ by up to eps times the score, and the weights by that share: here, 6e-5 in float32.
LARGEST: Final = 1000.0
# In a graph, the kernel is for at least so many weights of a head. For 128 positions, a step of
# LoRA on SmolLM2 took .92 and .98 of torch's time with it, in two runs, and .90 with the formula.
LEAST_IN_GRAPH: Final = 2**16

Gradients: TypeAlias = tuple[Tensor, Tensor, Tensor]


class Form(NamedTuple):
    """What a query attends to, and the factor of the scores."""

    # Added to the scores, of as many axes as these; None for no mask. Not one that is trained: the
    # kernel has no gradient for it.
    mask: Tensor | None
    # Whether query i attends to keys 0 to i only, in addition to the mask.
    is_causal: bool
    scale: float


def supports(x: object) -> bool:
    """Return whether the kernel computes the attention of x, and its gradient."""
    if type(x) is not tuple or len(x) not in (3, 4):
        return False
    query, _, _, mask = (*x, None)[:4]
    is_bool = mask is None or (isinstance(mask, Tensor) and mask.dtype is torch.bool)
    if not (is_bool and all(isinstance(part, Tensor) for part in x[:3])):
        return False
    if query.device.type != "cpu" or not all(part.numel() > 0 for part in x[:3]):
        return False
    if not is_traced(query):
        return True
    is_long = query.shape[-2] * x[1].shape[-2] >= LEAST_IN_GRAPH
    return is_long and not torch.compiler.is_compiling() and runs_here(query)


def added(allowed: Tensor | None, like: Tensor) -> Tensor | None:
    """Make a mask to add, of one that is True where attention is allowed."""
    if allowed is None:
        return None
    zeros = torch.zeros(allowed.shape, dtype=like.dtype, device=like.device)
    return zeros.masked_fill(~allowed, -torch.inf)[(None,) * (like.ndim - allowed.ndim)]


def attend(q: Tensor, k: Tensor, v: Tensor, form: Form) -> tuple[Tensor, Tensor] | None:
    """Compute y and logsumexp; None if the scores are too large for the kernel."""
    # q (..., heads, length, n) is not yet scaled. k (..., heads, key length, n), and v of m
    # features, may have fewer heads: each is for several of q in a row. y is (..., heads, length,
    # m). All may be without the axis of heads.
    run: Callable[..., tuple[Tensor, Tensor]] = _in_graph if is_traced(q) else _forward
    options = _mask(form, q), form.is_causal, form.scale
    y, logsumexp = run(*map(_four, (q, k, v)), *options)
    if run is _forward and _are_too_large(logsumexp):
        return None
    return _as_before(y, q), logsumexp


def attend_backward(
    g: Tensor, q: Tensor, k: Tensor, v: Tensor, y: Tensor, logsumexp: Tensor, form: Form
) -> Gradients:
    """Compute dq, dk and dv, given what `attend` was given and has returned."""
    run: Callable[..., Gradients] = _in_graph_backward if is_traced(q) else _backward
    dq, dk, dv = run(
        *map(_four, (g, q, k, v, y)), logsumexp, _mask(form, q), form.is_causal, form.scale
    )
    return _as_before(dq, q), _as_before(dk, k), _as_before(dv, v)


def _forward(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, is_causal: bool, scale: float
) -> tuple[Tensor, Tensor]:
    """Compute y and logsumexp of (batch, heads, length, features)."""
    y, logsumexp = aten._scaled_dot_product_flash_attention_for_cpu(
        *_alike(q, k, v), 0.0, is_causal, attn_mask=mask, scale=scale
    )
    return _narrowed(y, v), logsumexp


def _backward(
    g: Tensor, q: Tensor, k: Tensor, v: Tensor, y: Tensor, logsumexp: Tensor,
    mask: Tensor | None, is_causal: bool, scale: float,
) -> Gradients:  # fmt: skip
    """Compute dq, dk and dv of (batch, heads, length, features)."""
    alike = _alike(q, k, v)
    n = alike[0].shape[-1]
    dq, dk, dv = aten._scaled_dot_product_flash_attention_for_cpu_backward(
        _padded(g, n), *alike, _padded(y, n), logsumexp, 0.0, is_causal, attn_mask=mask, scale=scale
    )
    return _narrowed(dq, q), _narrowed(_summed(dk, k), k), _narrowed(_summed(dv, v), v)


def _are_too_large(logsumexp: Tensor) -> bool:
    least, largest = logsumexp.aminmax()
    are_small = is_between(-LARGEST, least, LARGEST) and is_between(-LARGEST, largest, LARGEST)
    return not are_small  # or nan


def _checked(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, is_causal: bool, scale: float
) -> tuple[Tensor, Tensor]:
    """Compute y and logsumexp; y by the formula if the scores are too large."""
    y, logsumexp = _forward(q, k, v, mask, is_causal, scale)
    if _are_too_large(logsumexp):
        x = q, _repeated(k, q), _repeated(v, q), mask
        y.copy_(sdpa.forward((), x, is_causal=is_causal, scale=scale)[0])
    return y, logsumexp


def _checked_backward(
    g: Tensor, q: Tensor, k: Tensor, v: Tensor, y: Tensor, logsumexp: Tensor,
    mask: Tensor | None, is_causal: bool, scale: float,
) -> Gradients:  # fmt: skip
    """Compute dq, dk and dv; by the formula if the scores are too large."""
    made = _backward(g, q, k, v, y, logsumexp, mask, is_causal, scale)
    if _are_too_large(logsumexp):
        x = q, _repeated(k, q), _repeated(v, q), mask
        _, cache = sdpa.forward((), x, is_causal=is_causal, scale=scale)
        dx = sdpa.backward((), cache, g)[0][:3]  # without dmask
        for own, exact, like in zip(made, dx, (q, k, v), strict=True):
            own.copy_(_summed(exact, like))
    return made


_OPTIONS: Final = "Tensor? mask, bool is_causal, float scale"
_in_graph: Final[Callable[..., tuple[Tensor, Tensor]]] = operation(
    f"flash_attention(Tensor q, Tensor k, Tensor v, {_OPTIONS}) -> (Tensor, Tensor)",
    _checked,
    _forward,
)
_in_graph_backward: Final[Callable[..., Gradients]] = operation(
    "flash_attention_backward(Tensor g, Tensor q, Tensor k, Tensor v, Tensor y, Tensor logsumexp, "
    f"{_OPTIONS}) -> (Tensor, Tensor, Tensor)",
    _checked_backward,
    _backward,
)


def _alike(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Give all as many heads and features, as the kernel needs."""
    n = max(q.shape[-1], v.shape[-1])
    return _padded(q, n), _repeated(_padded(k, n), q), _repeated(_padded(v, n), q)


def _repeated(x: Tensor, q: Tensor) -> Tensor:
    """Repeat each head of keys or values for the heads of q that share it."""
    shared = q.shape[1] // x.shape[1]
    return x if shared == 1 else x.repeat_interleave(shared, 1)


def _summed(dx: Tensor, x: Tensor) -> Tensor:
    heads = x.shape[1]
    if dx.shape[1] == heads:
        return dx
    return dx.reshape(len(dx), heads, -1, *dx.shape[2:]).sum(2)


def _padded(x: Tensor, n: int) -> Tensor:
    """Append zeros up to n features, which change no score; the kernel needs them in a row."""
    x = pad(x, (0, n - x.shape[-1])) if x.shape[-1] < n else x  # pad keeps the order of memory
    return x if x.stride(-1) == 1 else x.contiguous()


def _narrowed(y: Tensor, like: Tensor) -> Tensor:
    n = like.shape[-1]
    return y if y.shape[-1] == n else y[..., :n]


# In a small network, a view that changes nothing takes time, too.
def _four(x: Tensor) -> Tensor:
    if x.ndim == 4:
        return x
    return x.flatten(0, -4) if x.ndim > 4 else x[(None,) * (4 - x.ndim)]


def _as_before(y: Tensor, x: Tensor) -> Tensor:
    return y if x.ndim == 4 else y.reshape(*x.shape[:-2], *y.shape[-2:])


def _mask(form: Form, q: Tensor) -> Tensor | None:
    mask = form.mask
    if mask is None or q.ndim <= 4:
        return None if mask is None else _four(mask)
    return mask.expand(*q.shape[:-3], *mask.shape[-3:]).flatten(0, -4)
