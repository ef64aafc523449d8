"""Linear scan: h_t = a_t h_(t-1) + b_t, element by element, in chunks.

Derivation. h_t enters h_(t+1), and is an output. So its gradient is

    dh_t = g_t + a_(t+1) dh_(t+1)

This is a linear scan, too, from the end, with a moved by one step. The other gradients follow:

    da_t = dh_t h_(t-1)
    db_t = dh_t
    dh_0 = a_1 dh_1    h_0 is the state before the first step

The steps of a chunk, from s + 1 to e, together are one step. From a state of zeros they lead to
s_e, and they multiply the state before them by p_e:

    s_t = a_t s_(t-1) + b_t
    p_t = a_t p_(t-1)
    h_e = p_e h_s + s_e

So a scan is computed in three parts: s_e and p_e of all chunks side by side, a step for each chunk,
and then h_t of all chunks side by side. For n steps in chunks of c, that is 2 c + n / c operations
in turn, in place of n. Nothing is divided, so an a_t of 0 is no special case.

bfloat16 and float16 are computed in float32, since a product of many factors loses its digits.

Cache: a, h and the first state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn.core import Layer, PositiveInt, bare, constructor, record, static, wrong_shape
from lincoln_fn.layers.common import sequences
from lincoln_fn.layers.common.normalisation import widened
from lincoln_fn.layers.common.sequences import Form, Gradients, first_state, form_of

NAME = "linear_scan"

T = TypeVar("T")
States: TypeAlias = Float[Tensor, " batch length *features"]
State: TypeAlias = Float[Tensor, " batch *features"]
Inputs: TypeAlias = tuple[States, States] | tuple[States, States, State | None]
Outputs: TypeAlias = States | tuple[States, State]
# (a, b, first, chunk_size=c, reverse=r) -> h; `scan`, or a faster function in its place.
Scan: TypeAlias = Callable[..., Tensor]


@record
class Cache:
    a: States
    h: States
    first: State
    form: Form
    chunk_size: int = static()
    # Which entries of x relevance goes to.
    signals: tuple[int, ...] = static(default=(1, 2))


def scan(a: States, b: States, first: State, *, chunk_size: int, reverse: bool = False) -> States:
    """Compute h_t = a_t h_(t-1) + b_t, or h_t = a_t h_(t+1) + b_t if reversed."""
    length = a.shape[1]
    if length <= chunk_size:
        states = _steps(a.unbind(1), b.unbind(1), first, reverse)
        return torch.stack(states, 1) if states else b
    a, b = chunks(a, chunk_size, 1.0), chunks(b, chunk_size)
    steps = a.unbind(2), b.unbind(2)
    s, p = torch.zeros_like(steps[1][0]), torch.ones_like(steps[0][0])
    for a_t, b_t in _in_order(zip(*steps, strict=True), reverse):
        s, p = torch.addcmul(b_t, a_t, s), p * a_t
    ends = _steps(p.unbind(1), s.unbind(1), first, reverse)
    starts = torch.stack([*ends[1:], first] if reverse else [first, *ends[:-1]], 1)
    states = _steps(*steps, starts, reverse)
    return torch.stack(states, 2).flatten(1, 2)[:, :length]


def scan_backward(
    a: States, g: States, dlast: State | None, *, chunk_size: int, scan: Scan = scan
) -> States:
    """Compute dh_t = g_t + a_(t+1) dh_(t+1); `dlast` is what the last state gets besides."""
    last = first_state(dlast, g[:, 0])
    after = torch.cat([a[:, 1:], torch.ones_like(a[:, :1])], 1)
    return scan(after, g, last, chunk_size=chunk_size, reverse=True)


def before(h: States, first: State) -> States:
    """Return h_(t-1) of each step."""
    return torch.cat([first.unsqueeze(1), h[:, :-1]], 1)


def forward(
    params: tuple[()], x: Inputs, *, chunk_size: int, scan: Scan = scan
) -> tuple[Outputs, Cache]:
    """Compute h_t = a_t h_(t-1) + b_t."""
    (a, b), state = sequences.unpacked(NAME, x, ("a", "b"))
    if b.ndim < 2 or b.shape[1] == 0:
        raise wrong_shape(NAME, "b", b, "(batch, length, ...) with at least one step")
    shape = (b.shape[0], *b.shape[2:])
    sequences.check_shapes(NAME, a=(a, b.shape), state=(state, shape))
    wide_a, wide_b = widened(a), widened(b)
    first = first_state(state, wide_b[:, 0])
    h = scan(wide_a, wide_b, first, chunk_size=chunk_size)
    form = form_of(x, 2, tuple(b.shape), shape)
    return form.outputs(h, h[:, -1]), Cache(wide_a, h, first, form, chunk_size)


def backward(
    params: tuple[()], cache: Cache, g: Outputs, *, scan: Scan = scan
) -> tuple[Gradients, tuple[()]]:
    """Compute da_t = dh_t h_(t-1) and db_t = dh_t, from dh_t = g_t + a_(t+1) dh_(t+1)."""
    dy, dlast = cache.form.cotangents(NAME, g)
    dh = scan_backward(cache.a, dy, dlast, chunk_size=cache.chunk_size, scan=scan)
    da, dfirst = dh * before(cache.h, cache.first), cache.a[:, 0] * dh[:, 0]
    return cache.form.gradients(da, dh, state=dfirst), ()


@constructor(kind="gated")
def linear_scan(*, chunk_size: PositiveInt = 16) -> Layer:
    """Compute h_t = a_t h_(t-1) + b_t along a sequence, element by element.

    x is (a, b), both of shape (batch, length, *features), and y is all h_t, of the same shape, from
    a state of zeros. Or x is (a, b, state), with the state before the first step, (batch,
    *features), or None for zeros; then y is (all h_t, the last of them). Source: Blelloch, "Prefix
    Sums and Their Applications", 1990, section 1.4.1.

    Args:
        chunk_size: how many steps are computed one after the other, for all chunks side by side.

    Example:
        >>> a, b = torch.full((1, 4), 0.5), torch.ones(1, 4)
        >>> linear_scan().predict((), (a, b))
        tensor([[1.0000, 1.5000, 1.7500, 1.8750]])
    """
    return bare(Layer, forward, backward)


def _steps(a: Iterable[Tensor], b: Iterable[Tensor], h: Tensor, reverse: bool) -> list[Tensor]:
    states = []
    for a_t, b_t in _in_order(zip(a, b, strict=True), reverse):
        h = torch.addcmul(b_t, a_t, h)
        states.append(h)
    return _in_order(states, reverse)


def _in_order(steps: Iterable[T], reverse: bool) -> list[T]:
    return [*steps][::-1] if reverse else [*steps]


def chunks(x: States, size: int, fill: float = 0.0) -> Float[Tensor, " batch n size *features"]:
    """Divide the steps into n chunks; the last is filled up with steps that change no state."""
    if rest := -x.shape[1] % size:
        x = torch.cat([x, x.new_full((x.shape[0], rest, *x.shape[2:]), fill)], 1)
    return x.reshape(x.shape[0], x.shape[1] // size, size, *x.shape[2:])
