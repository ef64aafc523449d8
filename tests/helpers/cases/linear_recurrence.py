"""Recurrences that are linear in their state, each beside its steps one by one."""

import torch
from torch.nn.functional import softplus

import lincoln_fn as lf
from helpers.cases.case import Case, normal, uniform


def stepped(first, step, xs):
    """Run steps one by one: (state, entries of x at t) -> (state, y_t)."""
    state, outputs = first, []
    for x_t in zip(*(x.unbind(-2) for x in xs), strict=True):
        state, y = step(state, *x_t)
        outputs.append(y)
    return torch.stack(outputs, -2), state


def with_form(x, count, outputs, last):
    return (outputs, last) if len(x) > count else outputs


def scanned(params, x):
    a, b, state = (*x, None)[:3]
    flat = [part.flatten(2) for part in (a, b)]
    first = torch.zeros_like(flat[1][:, 0]) if state is None else state.flatten(1)
    h, last = stepped(first, lambda h, a_t, b_t: (a_t * h + b_t,) * 2, flat)
    return with_form(x, 2, h.view(b.shape), last.view(b[:, 0].shape))


def selected(params, x):
    u, delta, b, c, state = (*x, None)[:5]
    rate = params.log_rate.exp()
    first = u.new_zeros(*u.shape[:-2], *rate.shape) if state is None else state

    def step(h, u_t, delta_t, b_t, c_t):
        inflow = (delta_t * u_t).unsqueeze(-2) * b_t.unsqueeze(-1)
        h = (-delta_t.unsqueeze(-2) * rate).exp() * h + inflow
        return h, (h * c_t.unsqueeze(-1)).sum(-2) + params.skip * u_t

    return with_form(x, 4, *stepped(first, step, (u, delta, b, c)))


def gated(params, x):
    u, r, i, state = (*x, None)[:4]
    first = torch.zeros_like(u[..., 0, :]) if state is None else state

    def step(h, u_t, r_t, i_t):
        a = (-8 * softplus(params.decay) * r_t.sigmoid()).exp()
        return (a * h + (1 - a**2).sqrt() * i_t.sigmoid() * u_t,) * 2

    return with_form(x, 3, *stepped(first, step, (u, r, i)))


def attended(heads):
    def run(params, x):
        query, key, value, log_decay, state = (*x, None, None)[:5]
        if log_decay is None:
            log_decay = torch.zeros_like(query[..., :heads])
        n, m = query.shape[-1] // heads, value.shape[-1] // heads
        lead = query.shape[:-2]
        first = value.new_zeros(*lead, heads, n, m) if state is None else state

        def step(s, *given):
            q, k, v, l_t = (part.unflatten(-1, (heads, -1)) for part in given)
            s = l_t.exp().unsqueeze(-1) * s + k.unsqueeze(-1) * v.unsqueeze(-2)
            return s, (q.unsqueeze(-2) @ s).flatten(-3)

        return with_form(x, 4, *stepped(first, step, (query, key, value, log_decay)))

    return run


A, B = uniform(2, 7, 3, seed=1), normal(2, 7, 3, seed=2)
OF_STATE = normal(2, 7, 4, seed=3), normal(2, 7, 4, seed=4)
DELTA = uniform(2, 7, 3, low=0.1, seed=5)
GATES = normal(2, 7, 3, seed=6), normal(2, 7, 3, seed=7)
HEADS = normal(2, 7, 6, seed=8), normal(2, 7, 6, seed=9), normal(2, 7, 4, seed=10)
OF_HEADS = uniform(2, 7, 2, low=-1.0, high=0.0, seed=11)
OF_FEATURES = uniform(2, 7, 6, low=-1.0, high=0.0, seed=12)

CASES = [
    Case(lf.linear_scan(), (A, B), scanned),
    Case(lf.linear_scan(chunk_size=3),
        (A.unflatten(-1, (1, 3)), B.unflatten(-1, (1, 3)), normal(2, 1, 3)), scanned),
    Case(lf.selective_scan(4), (B, DELTA, *OF_STATE), selected),
    Case(lf.selective_scan(4, chunk_size=3), (B, DELTA, *OF_STATE, normal(2, 4, 3)), selected,
        note="state"),
    Case(lf.gated_linear_recurrence(), (B, *GATES), gated),
    Case(lf.gated_linear_recurrence(chunk_size=3), (B, *GATES, normal(2, 3)), gated, note="state"),
    Case(lf.linear_attention(2), HEADS, attended(2)),
    Case(lf.linear_attention(2, chunk_size=3), (*HEADS, OF_HEADS, None), attended(2),
        note="decay of heads"),
    Case(lf.linear_attention(2, chunk_size=3), (*HEADS, OF_FEATURES, normal(2, 2, 3, 2)),
        attended(2), note="decay of features, state"),
]  # fmt: skip
