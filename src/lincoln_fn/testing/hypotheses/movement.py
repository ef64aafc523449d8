"""Operations that only move numbers: repeated entries overwritten, parts exchanged."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import combinations

import torch
from torch import Tensor

from lincoln_fn.testing.call import Call
from lincoln_fn.testing.evidence import Evidence
from lincoln_fn.testing.hypotheses.hypothesis import Cost, Guess, Hypothesis, guess_alone
from lincoln_fn.testing.hypotheses.local import Local, list_groups, local

# Each use takes one backward pass.
MOST_USES = 30


def find_positions(call: Local) -> Tensor | None:
    """Return from where each number of the output comes; None if the call does more than move."""
    u = call.u
    numbers = torch.arange(u.numel(), dtype=u.dtype, device=u.device).view(u.shape)
    inputs = [value.detach() for value in call.call.inputs]
    inputs[call.k] = numbers
    (moved,) = call.call.run(inputs)
    found = moved.detach().long().clamp(0, max(0, u.numel() - 1))
    return found if torch.equal(u.flatten()[found], call.v) else None


def _find_repeated(call: Local) -> Tensor | None:
    """Return the positions of a call that takes some numbers several times."""
    found = find_positions(call)
    return None if found is None or len({*found.flatten().tolist()}) == found.numel() else found


def _keep_last(call: Local, first: bool) -> Tensor | None:
    """Assign, so that of equal positions one stays."""
    found = _find_repeated(call)
    if found is None:
        return None
    taken, g = found.flatten(), call.g.flatten()
    if first:
        taken, g = taken.flip(0), g.flip(0)
    wrong = torch.zeros_like(call.u).flatten()
    order = torch.arange(taken.numel(), device=taken.device)
    last = torch.full_like(wrong, -1, dtype=torch.int64).scatter_reduce(0, taken, order, "amax")
    used = last >= 0
    wrong[used] = g[last[used]]
    return wrong.view(call.u.shape)


def _exchange_parts(evidence: Evidence) -> Iterator[Guess]:
    """Exchange the gradients of two outputs of one call, or of two inputs."""
    for tape, calls, _ in list_groups(evidence):
        call = calls[0]
        is_joined = call.name in ("cat", "stack", "concat", "concatenate")
        for parts, of in (
            (call.outputs, _exchange_outputs),
            (call.inputs * is_joined, _exchange_inputs),
        ):
            for i, j in combinations(range(len(parts)), 2):
                if parts[i].shape == parts[j].shape:
                    found = tape.gradients_if(calls, partial(of, i, j))
                    yield Guess([*found], {"i": i, "j": j, "at": f"the parts of {call.name}()"})


def _exchange_outputs(
    i: int, j: int, call: Call, gs: list[Tensor], right: list[Tensor]
) -> list[Tensor]:
    return call.vjp(_swap(gs, i, j))


def _exchange_inputs(
    i: int, j: int, call: Call, gs: list[Tensor], right: list[Tensor]
) -> list[Tensor]:
    return _swap(right, i, j)


def _swap(parts: list[Tensor], i: int, j: int) -> list[Tensor]:
    mixed = list(parts)
    mixed[i], mixed[j] = parts[j], parts[i]
    return mixed


def _keep_use(evidence: Evidence) -> Iterator[Guess]:
    """Of an array that is used several times, keep one use, or leave one out, or average."""
    for tape in evidence.tapes[:1]:
        for i, array in enumerate(tape.arrays):
            uses = [call for call in tape.calls if any(u is array for u in call.inputs)]
            if not 1 < len(uses) < MOST_USES:
                continue
            parts = [_sum_part(tape.arrived(call), call, array) for call in uses]
            total = torch.stack(parts).sum(0)
            average = f"the average over its {len(uses)} uses"
            yield guess_alone(evidence, i, total / len(uses), how=average)
            for n, part in enumerate(parts):
                for guess, how in (
                    (part, "the gradient of use {} of {} only, as if overwritten"),
                    (total - part, "the gradient without use {} of {}"),
                ):
                    yield guess_alone(evidence, i, guess, how=how.format(n + 1, len(uses)))


def _sum_part(gs: list[Tensor], call: Call, array: Tensor) -> Tensor:
    right = call.vjp(gs)
    return torch.stack([r for r, u in zip(right, call.inputs, strict=True) if u is array]).sum(0)


def _sum_all_steps(call: Local) -> Tensor | None:
    """Give each step the sum of g over all steps, not over the later ones alone."""
    dim = next((leaf for leaf in call.call.leaves if type(leaf) is int), 0)
    return call.g.sum(dim, keepdim=True).expand_as(call.u)


_EXCHANGES = ("transpose", "permute", "mT", "T", "t", "movedim", "swapaxes", "moveaxis")
HYPOTHESES = [
    *(local("overwritten", "is overwritten at repeated positions of {at}(), where it should add up",
            partial(_keep_last, first=first)) for first in (False, True)),
    local("all steps", "sums g over all steps, where {at}() needs the later ones alone",
          _sum_all_steps, only=("cumsum",)),
    local("reshaped", "is reshaped where {at}() should be undone by exchanging the axes",
          lambda call: call.g.reshape(call.u.shape), only=_EXCHANGES, grouped=True),
    Hypothesis("parts exchanged", "exchanges {at}, numbers {i} and {j}", _exchange_parts,
               Cost.OPERATION),
]  # fmt: skip
# A part of what flows to an array is missing: paths are named first.
USES = [
    Hypothesis("one use", "is {how}: the gradients of all uses must add up", _keep_use,
        Cost.OPERATION),
]  # fmt: skip
