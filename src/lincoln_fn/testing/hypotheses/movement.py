"""Operations that only move numbers: repeated entries overwritten, parts exchanged."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import combinations

import torch
from torch import Tensor

from lincoln_fn.testing.call import Call
from lincoln_fn.testing.evidence import Evidence
from lincoln_fn.testing.hypotheses.hypothesis import Cost, Guess, Hypothesis, alone
from lincoln_fn.testing.hypotheses.local import Local, groups, local

MOST_COPIES = 2000
# Each use takes one backward pass.
MOST_USES = 30


def positions(call: Local) -> Tensor | None:
    """Return from where each number of the output comes; None if the call does more than move."""
    u = call.u
    numbers = torch.arange(u.numel(), dtype=u.dtype, device=u.device).view(u.shape)
    inputs = [value.detach() for value in call.call.inputs]
    inputs[call.k] = numbers
    (moved,) = call.call.run(inputs)
    found = moved.detach().long().clamp(0, max(0, u.numel() - 1))
    return found if torch.equal(u.flatten()[found], call.v) else None


def _repeated(call: Local) -> Tensor | None:
    """Return the positions of a call that takes some numbers several times."""
    found = positions(call)
    return None if found is None or len({*found.flatten().tolist()}) == found.numel() else found


def _last_one(call: Local, axis: int, first: bool) -> Tensor | None:
    """Assign along an axis, so that of equal positions one stays."""
    found = _repeated(call)
    if found is None or axis >= found.ndim:
        return None
    taken, g = found.movedim(axis, 0).flatten(), call.g.movedim(axis, 0).flatten()
    if first:
        taken, g = taken.flip(0), g.flip(0)
    wrong = torch.zeros_like(call.u).flatten()
    order = torch.arange(taken.numel(), device=taken.device)
    last = torch.full_like(wrong, -1, dtype=torch.int64).scatter_reduce(0, taken, order, "amax")
    used = last >= 0
    wrong[used] = g[last[used]]
    return wrong.view(call.u.shape)


def _counted(call: Local) -> Tensor | None:
    """Divide by the number of copies of each number."""
    found = positions(call)
    if found is None:
        return None
    counts = torch.bincount(found.flatten(), minlength=call.u.numel()).clamp_min(1)
    return call.right / counts.view(call.u.shape)


def _overwritten_in_rows(call: Local) -> Tensor | None:
    """Assign within each row of the positions, and add up the rows."""
    found = _repeated(call)
    if found is None or found.ndim < 3:
        return None
    wrong = torch.zeros_like(call.u).flatten()
    for row, g in zip(found, call.g, strict=True):
        alone = torch.zeros_like(wrong)
        alone[row.flatten()] = g.flatten()
        wrong += alone
    return wrong.view(call.u.shape)


def _one_of_many(evidence: Evidence) -> Iterator[Guess]:
    """Keep, of the gradients of all copies of a number, the one that was submitted."""
    for tape, calls, at in groups(evidence):
        call = calls[0]
        i = next((i for i, array in enumerate(tape.arrays) if array is call.inputs[0]), None)
        if i is None or len(calls) > 1 or len(call.outputs) != 1 or len(call.tracked) != 1:
            continue
        gs = tape.arrived(call)
        found, given = _repeated(Local(tape, call, 0, gs, [])), evidence.given[i]
        if found is None or given.shape != evidence.expected[i].shape:
            continue
        taken, g = found.flatten(), gs[0].flatten()
        # Assigned from the most to the least different, so that the nearest stays.
        order = (g - given.flatten()[taken]).abs().argsort(descending=True)
        wrong = torch.zeros_like(given).flatten()
        for n in order.tolist() if g.numel() <= MOST_COPIES else ():
            wrong[taken[n]] = g[n]
        yield alone(evidence, i, wrong.view(given.shape), at=at)


def _exchanged_parts(evidence: Evidence) -> Iterator[Guess]:
    """Exchange the gradients of two outputs of one call, or of two inputs."""
    for tape, calls, _ in groups(evidence):
        call = calls[0]
        is_joined = call.name in ("cat", "stack", "concat", "concatenate")
        for parts, of in ((call.outputs, _of_outputs), (call.inputs * is_joined, _of_inputs)):
            for i, j in combinations(range(len(parts)), 2):
                if parts[i].shape == parts[j].shape:
                    found = tape.gradients_if(calls, partial(of, i, j))
                    yield Guess([*found], {"i": i, "j": j, "at": f"the parts of {call.name}()"})


def _of_outputs(i: int, j: int, call: Call, gs: list[Tensor], right: list[Tensor]) -> list[Tensor]:
    return call.vjp(_swapped(gs, i, j))


def _of_inputs(i: int, j: int, call: Call, gs: list[Tensor], right: list[Tensor]) -> list[Tensor]:
    return _swapped(right, i, j)


def _swapped(parts: list[Tensor], i: int, j: int) -> list[Tensor]:
    mixed = list(parts)
    mixed[i], mixed[j] = parts[j], parts[i]
    return mixed


def _uses(evidence: Evidence) -> Iterator[Guess]:
    """Of an array that is used several times, keep one use, or leave one out, or average."""
    for tape in evidence.tapes[:1]:
        for i, array in enumerate(tape.arrays):
            uses = [call for call in tape.calls if any(u is array for u in call.inputs)]
            if not 1 < len(uses) < MOST_USES:
                continue
            parts = [_part(tape.arrived(call), call, array) for call in uses]
            total = torch.stack(parts).sum(0)
            average = f"the average over its {len(uses)} uses"
            yield alone(evidence, i, total / len(uses), how=average)
            for n, part in enumerate(parts):
                for guess, how in (
                    (part, "the gradient of use {} of {} only, as if overwritten"),
                    (total - part, "the gradient without use {} of {}"),
                ):
                    yield alone(evidence, i, guess, how=how.format(n + 1, len(uses)))


def _part(gs: list[Tensor], call: Call, array: Tensor) -> Tensor:
    right = call.vjp(gs)
    return torch.stack([r for r, u in zip(right, call.inputs, strict=True) if u is array]).sum(0)


def _all_steps(call: Local) -> Tensor | None:
    """Give each step the sum of g over all steps, not over the later ones alone."""
    dim = next((leaf for leaf in call.call.leaves if type(leaf) is int), 0)
    return call.g.sum(dim, keepdim=True).expand_as(call.u)


_OVERWRITTEN = "is overwritten at repeated positions of {at}(), where it should add up"
_EXCHANGES = ("transpose", "permute", "mT", "T", "t", "movedim", "swapaxes", "moveaxis")
HYPOTHESES = [
    *(
        local("overwritten", _OVERWRITTEN, partial(_last_one, axis=axis, first=first))
        for axis in range(4)
        for first in (False, True)
    ),
    Hypothesis("overwritten", _OVERWRITTEN, _one_of_many, Cost.OPERATION),
    local("overwritten", _OVERWRITTEN, _overwritten_in_rows),
    local("all steps", "sums g over all steps, where {at}() needs the later ones alone", _all_steps,
          only=("cumsum",)),
    local("averaged", "is averaged over repeated positions of {at}(), where it should add up",
          _counted),
    local("reshaped", "is reshaped where {at}() should be undone by exchanging the axes",
          lambda call: call.g.reshape(call.u.shape), only=_EXCHANGES, grouped=True),
    Hypothesis("parts exchanged", "exchanges {at}, numbers {i} and {j}", _exchanged_parts,
               Cost.OPERATION),
]  # fmt: skip
# A part of what flows to an array is missing: paths are named first.
USES = [
    Hypothesis("one use", "is {how}: the gradients of all uses must add up", _uses, Cost.OPERATION),
]
