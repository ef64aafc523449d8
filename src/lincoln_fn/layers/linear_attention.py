"""Linear attention: attention without a softmax, as a recurrence whose state is a matrix.

(Katharopoulos and others, "Transformers are RNNs: Fast Autoregressive Transformers with Linear
Attention", 2020; with decay: Yang and others, "Gated Linear Attention Transformers with
Hardware-Efficient Training", 2024, and Dao and Gu, "Transformers are SSMs", 2024.)

The features of queries, keys and values stand side by side, head after head, as in
`attention_heads`. In each head, with A_t the diagonal matrix of e^(l_t), and l_t the logarithm of
the decay,

    S_t = A_t S_(t-1) + k_t^T v_t
    y_t = q_t S_t

A chunk is some steps after each other. i and j are steps in it, and l has one number for each
feature n of a key, or one for all. With the sums of l after step j, up to i, and up to i from the
chunk's begin,

    P_(ijn) = e^(l_(j+1,n) + ... + l_(in))    for j <= i, else 0
    W_(ij) = sum_n q_(in) k_(jn) P_(ijn)
    hat q_(in) = q_(in) e^(l_(1n) + ... + l_(in))
    hat k_(jn) = k_(jn) P_(cjn)    with c the last step of the chunk

S before the chunk is S_0. Then y of the chunk, and S after it, are products of matrices:

    y = W v + hat q S_0
    S_c = e^(l_1 + ... + l_c) S_0 + hat k^T v

The last line is a linear scan over the chunks, which `linear_scan` computes. No exponent is above
0 where no l is, so nothing overflows. The sums are not differences of sums from the begin: these
would lose the digits of a small one after a large one.

Derivation. By the rules of products, with dS_c of each chunk from the scan's own backward, and dS_0
what the chunk's own outputs give to S_0,

    dS_0 = hat q^T dy
    dv = W^T dy + hat k dS_c
    dW = dy v^T
    dq_(in) = sum_j dW_(ij) k_(jn) P_(ijn) + (dy S_0^T)_(in) e^(l_(1n) + ... + l_(in))
    dk_(jn) = sum_i dW_(ij) q_(in) P_(ijn) + (v dS_c^T)_(jn) P_(cjn)

l_t has four parts. It stands in P for j < t <= i, in hat q for t <= i, in hat k for j < t, and
in the factor of S_0 for every t:

    dl_t = sum_(j < t <= i) E_(ij) + sum_(i >= t) F_i + sum_(j < t) G_j + H
    E_(ijn) = dW_(ij) q_(in) k_(jn) P_(ijn)
    F_(in) = (dy S_0^T)_(in) hat q_(in)
    G_(jn) = (v dS_c^T)_(jn) hat k_(jn)
    H_n = e^(l_(1n) + ... + l_(cn)) sum_m S_(0 nm) dS_(c nm)

If l has one number for all features, they are summed over n.

Cache: q, k, v and l by head and in chunks, and S before each chunk.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import Layer, PositiveInt, Sequence, bare, record, static, unexpected
from lincoln_fn.layers.attention_heads import merge_heads, split_heads
from lincoln_fn.layers.common import sequences
from lincoln_fn.layers.common.inputs import check_inputs
from lincoln_fn.layers.common.normalisation import widened
from lincoln_fn.layers.common.sequences import Form, Gradients, first_state, form_of, one_batch
from lincoln_fn.layers.linear_scan import Scan, before, chunks, scan, scan_backward

NAME = "linear_attention"

State: TypeAlias = Float[Tensor, "*batch heads key_features value_features"]
Chunks: TypeAlias = Float[Tensor, "batch chunks steps features"]
Pairs: TypeAlias = Float[Tensor, "batch chunks steps steps features"]
Inputs: TypeAlias = (
    tuple[Sequence, Sequence, Sequence]
    | tuple[Sequence, Sequence, Sequence, Sequence | None]
    | tuple[Sequence, Sequence, Sequence, Sequence | None, State | None]
)
Outputs: TypeAlias = Sequence | tuple[Sequence, State]


@record
class Cache:
    """The inputs by head and in chunks, S before each chunk, and the form of x."""

    q: Chunks
    k: Chunks
    v: Chunks
    log_decay: Chunks
    before: Float[Tensor, "batch chunks key_features value_features"]
    form: Form
    entries: int = static()
    has_decay: bool = static()
    signals: tuple[int, ...] = static(default=(2, 4))


class _Decays(NamedTuple):
    """P, and what is left of S_0 and of a key."""

    pairs: Pairs  # P
    of_first: Chunks  # e^(l_1 + ... + l_i)
    of_key: Chunks  # P_cj
    whole: Float[Tensor, "batch chunks features 1"]  # e^(l_1 + ... + l_c)


def forward(
    params: tuple[()], x: Inputs, *, num_heads: int, chunk_size: int, scan: Scan = scan
) -> tuple[Outputs, Cache]:
    """Compute y = W v + hat q S_0 in each chunk."""
    (query, key, value), log_decay, state = _unpacked(x, num_heads)
    decay = torch.zeros_like(query[..., :num_heads]) if log_decay is None else log_decay
    length = query.shape[-2]
    parts = [split_heads(widened(part), num_heads) for part in (query, key, value, decay)]
    lead = parts[2].shape[:-2]
    size = min(chunk_size, length)
    q, k, v, log_decay_ = (chunks(one_batch(part), size) for part in parts)
    decays = _decays(log_decay_)
    inflow = (k * decays.of_key).mT @ v
    first = first_state(state, inflow[:, 0])
    after = scan(decays.whole.expand_as(inflow), inflow, first, chunk_size=chunk_size)
    s = before(after, first)
    y = _weights(q, k, decays) @ v + (q * decays.of_first) @ s
    form = form_of(x, 4, tuple(value.shape), (*lead, *s.shape[2:]))
    cache = Cache(q, k, v, log_decay_, s, form, len(x), log_decay is not None)
    return form.outputs(_merged(y, lead, length), after[:, -1]), cache


def backward(
    params: tuple[()], cache: Cache, g: Outputs, *, scan: Scan = scan
) -> tuple[Gradients, tuple[()]]:
    """Compute dq, dk, dv and dl by the products of each chunk."""
    q, k, v, s, form = cache.q, cache.k, cache.v, cache.before, cache.form
    length, lead = form.y.shape[-2], form.last.shape[:-2]
    dy, dlast = form.cotangents(NAME, g)
    dy = chunks(one_batch(split_heads(dy, lead[-1])), q.shape[2])
    decays = _decays(cache.log_decay)
    # What S after each chunk gets from the next chunk's outputs, or as the last state.
    of_next = (q * decays.of_first).mT @ dy
    of_chunk = torch.cat([of_next[:, 1:], torch.zeros_like(of_next[:, :1])], 1)
    whole = decays.whole.expand_as(of_chunk)
    ds = scan_backward(whole, of_chunk, dlast, chunk_size=q.shape[1], scan=scan)
    dv = _weights(q, k, decays).mT @ dy + k * decays.of_key @ ds
    dq_first, dk_last = dy @ s.mT * decays.of_first, v @ ds.mT * decays.of_key
    dq, dk, e = _weights_backward(q, k, decays, dw=dy @ v.mT)
    of_decay = None
    if cache.has_decay:
        h = (decays.whole * s * ds).sum(-1)
        of_decay = _of_decay(e, q * dq_first, k * dk_last, h, decays.of_key.shape[-1])
    dx = (
        None if part is None else _merged(part, lead, length).to(form.y.dtype)
        for part in (dq + dq_first, dk + dk_last, dv, of_decay)
    )
    of_state = form.of_state(decays.whole[:, 0] * ds[:, 0] + of_next[:, 0])
    return (*dx, of_state)[: cache.entries], ()


def _merged(x: Chunks, lead: tuple[int, ...], length: int) -> Sequence:
    """Put chunks one after the other, and heads side by side."""
    return merge_heads(x.flatten(1, 2)[:, :length].reshape(*lead, length, x.shape[-1]))


def _weights(q: Chunks, k: Chunks, decays: _Decays) -> Float[Tensor, "batch chunks steps steps"]:
    """Compute W_ij = sum_n q_in k_jn P_ijn."""
    if decays.pairs.shape[-1] == 1:
        return q @ k.mT * decays.pairs.squeeze(-1)
    return (q.unsqueeze(3) * k.unsqueeze(2) * decays.pairs).sum(-1)


def _weights_backward(
    q: Chunks, k: Chunks, decays: _Decays, dw: Float[Tensor, "batch chunks steps steps"]
) -> tuple[Chunks, Chunks, Pairs]:
    """Compute the parts of dq and dk that go through W, and E."""
    if decays.pairs.shape[-1] == 1:
        dscores = dw * decays.pairs.squeeze(-1)
        return dscores @ k, dscores.mT @ q, (dscores * (q @ k.mT)).unsqueeze(-1)
    dscores = dw.unsqueeze(-1) * decays.pairs
    of_q, of_k = dscores * k.unsqueeze(2), dscores * q.unsqueeze(3)
    return of_q.sum(3), of_k.sum(2), of_q * q.unsqueeze(3)


def _of_decay(e: Pairs, f: Chunks, g: Chunks, h: Tensor, features: int) -> Chunks:
    """Compute dl_t from E, F, G and H."""
    f, g, h = (x if features > 1 else x.sum(-1, keepdim=True) for x in (f, g, h))
    steps = e.shape[2]
    is_before = torch.ones(steps, steps, dtype=torch.bool, device=e.device).tril(-1)
    within = (_from_step(e) * is_before.unsqueeze(-1)).sum(3)
    of_keys = torch.cat([torch.zeros_like(g[:, :, :1]), g.cumsum(2)[:, :, :-1]], 2)
    return within + _from_step(f) + of_keys + h.unsqueeze(2)


def _from_step(x: Tensor) -> Tensor:
    return x.flip(2).cumsum(2).flip(2)


def _decays(log_decay: Chunks) -> _Decays:
    """Compute P and its like, each exponent as a sum of the decays that it has."""
    steps = log_decay.shape[2]
    is_after = torch.ones(steps, steps, dtype=torch.bool, device=log_decay.device).tril(-1)
    rows = torch.where(is_after.unsqueeze(-1), log_decay.unsqueeze(3), 0)
    may_see = is_after | torch.eye(steps, dtype=torch.bool, device=log_decay.device)
    pairs = torch.where(may_see.unsqueeze(-1), rows.cumsum(2).exp(), 0)
    of_first = log_decay.cumsum(2).exp()
    return _Decays(pairs, of_first, pairs[:, :, -1], of_first[:, :, -1].unsqueeze(-1))


def _unpacked(
    x: Inputs, num_heads: int
) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor | None, Tensor | None]:
    if type(x) is not tuple or not 3 <= len(x) <= 5:
        expected = "x to be (query, key, value[, log_decay[, state]])"
        raise unexpected(NAME, expected, core.describe_non_tuple(x))
    query, key, value, log_decay, state = (*x, None, None)[:5]
    check_inputs(NAME, (*x[:3], *(part for part in x[3:] if part is not None)))
    widths = [part.shape[-1] if part.ndim > 1 else 0 for part in (query, value)]
    if min(widths) == 0 or query.shape[-2] == 0 or any(n % num_heads for n in widths):
        wanted = f"query and value of shape (..., length, features in {num_heads} heads)"
        got = f"{tuple(query.shape)} and {tuple(value.shape)}"
        raise unexpected(NAME, f"{wanted}, with at least one step", got)
    lead, (n, m) = query.shape[:-1], (width // num_heads for width in widths)
    sequences.check_shapes(
        NAME, key=(key, query.shape), value=(value, (*lead, widths[1])),
        state=(state, (*lead[:-1], num_heads, n, m)),
    )  # fmt: skip
    if log_decay is not None and log_decay.shape not in ((*lead, num_heads), query.shape):
        shapes = f"{(*lead, num_heads)} or {tuple(query.shape)}"
        raise core.wrong_shape(NAME, "log_decay", log_decay, shapes)
    return (query, key, value), log_decay, state


@core.constructor(kind="gated", along="rows")
def linear_attention(num_heads: PositiveInt, *, chunk_size: PositiveInt = 32) -> Layer:
    """Compute causal attention without a softmax, in time that grows as the length does.

    x is (query, key, value), with any number of equal leading axes: query and key (..., length,
    num_heads n), value (..., length, num_heads m), the heads' features side by side. y has shape
    (..., length, num_heads m): y_t = q_t S_t in each head, with S_t = S_(t-1) + k_t^T v_t.

    x may have a fourth entry, log_decay, the logarithm l_t of what S_(t-1) is multiplied by, or
    None for 0: (..., length, num_heads), one number for each head as in RetNet and Mamba 2, or
    (..., length, num_heads n), one for each feature of a key as in gated linear attention. It is at
    most 0. And a fifth, the state S before the first step, (..., num_heads, n, m), or None for
    zeros. Then y is (outputs, last state).

    Args:
        chunk_size: how many steps are computed together. It decides only time and memory.

    Example:
        >>> ones = torch.ones(3, 1)
        >>> linear_attention(1).predict((), (ones, ones, ones)).flatten()
        tensor([1., 2., 3.])
    """
    return bare(Layer, forward, backward)
