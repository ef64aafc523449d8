"""What a gradient would be if forward's operations had another derivative, one place at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TypeAlias

import attrs
import torch
from torch import Tensor
from torch.nn import functional

from lincoln_fn.testing.tape import Call, Tape, describe
from lincoln_fn.testing.terms import CUT, Hand, fits

# For one input of a call, from the gradient of the output and the right one, a wrong one.
Wrong: TypeAlias = Callable[[Call, int, Tensor, Tensor], "Tensor | None"]
Row: TypeAlias = tuple[str, str, Wrong]
# A name, a sentence, and the gradients that the mistake would give.
Guess: TypeAlias = tuple[str, str, list[Tensor]]
# Names with a value for each round of a loop.
Rounds: TypeAlias = Sequence[tuple[str, list[Tensor]]]

MOST_SITES = 60
# A loop of more rounds is tried with few mistakes, and one of these rounds with none.
MANY_ROUNDS, MOST_ROUNDS = 16, 400
_PRODUCTS = ("mul", "matmul", "linear", "einsum", "conv1d", "conv2d", "conv3d")
_COPIES = ("clone", "to", "contiguous")
_REDUCTIONS = ("mean", "sum", "var", "std", "norm", "max", "amax")


def guesses(tape: Tape, to: Sequence[Tensor], hand: Hand, rounds: Rounds) -> Iterator[Guess]:
    """List mistakes in the derivative of the operations of forward, the simple ones first."""
    sites = [c for c in tape.sites.values() if c[0].name not in _COPIES]
    sites = [calls for calls in sites if len(calls) <= MOST_ROUNDS][:MOST_SITES]
    # A mistake in a mean is said to be there, not in what is averaged.
    sites.sort(key=lambda calls: calls[0].name not in _REDUCTIONS)
    right = tape.flow(tape.outputs, tape.cotangents, to)
    for calls, row in _rows(sites, hand, rounds):
        for name, said, changes in _attempt(tape, calls, to, row):
            yield name, said, [a + b for a, b in zip(right, changes, strict=True)]


def _rows(
    sites: Sequence[list[Call]], hand: Hand, rounds: Rounds
) -> Iterator[tuple[list[Call], Row]]:
    for calls in sites:
        yield calls, _PATH
    for calls in sites:
        for row in _WRITTEN if len(calls) <= MANY_ROUNDS else _WRITTEN[:1]:
            yield calls, row
    for calls in sites:
        for where, given_to in _ELSEWHERE.items() if calls[0].name in _AVERAGES else ():
            said = f"sends the gradient of OF {where}"
            yield calls, ("maximum", said, partial(_sent, given_to))
    for calls in sites:
        for row in _of_values(hand) if len(calls) <= MANY_ROUNDS else ():
            yield calls, row
    for calls in sites:
        for name, values in rounds if 1 < len(calls) <= MANY_ROUNDS else ():
            if len(values) == len(calls):
                said = f"takes {name} for the other factor of OF"
                yield calls, ("another factor", said, partial(_by_round, calls, values))


def _attempt(tape: Tape, calls: Sequence[Call], to: Sequence[Tensor], row: Row) -> Iterator[Guess]:
    name, said, wrong = row
    what = "other factor" if calls[0].name in _PRODUCTS else "derivative"
    for place in sorted({place for call in calls for place in call.tracked}):
        made = 0

        def mistake(
            call: Call, gs: list[Tensor], rights: list[Tensor], place: int = place
        ) -> list[Tensor | None]:
            nonlocal made
            changed: list[Tensor | None] = [None] * len(call.tracked)
            if place in call.tracked and len(gs) == 1:
                k = call.tracked.index(place)
                guess = wrong(call, k, gs[0], rights[k])
                changed[k] = guess if guess is None else guess.sum_to_size(rights[k].shape)
                made += guess is not None
            return changed

        try:
            found = tape.changes_if(calls, mistake, to)
        except (RuntimeError, TypeError, ValueError, IndexError):  # shapes do not fit
            continue
        if made:
            yield name, said.replace("WHAT", what).replace("OF", describe(calls[0])), found


def _cut(call: Call, k: int, g: Tensor, right: Tensor) -> Tensor:
    return torch.zeros_like(right)


def _written(formula: Callable[[Tensor, Tensor], Tensor]) -> Wrong:
    """Make the mistake of another derivative, a formula of the input and the output."""

    def wrong(call: Call, k: int, g: Tensor, right: Tensor) -> Tensor | None:
        u, v = call.inputs[k].detach(), call.outputs[0].detach()
        return g * formula(u, v) if fits(u.shape, v.shape) else None

    return wrong


def _sloped(formula: Callable[[Tensor, Tensor], Tensor]) -> Wrong:
    """Make a mistake of g and g d, where d is the derivative."""
    return lambda call, k, g, right: formula(g, right) if g.shape == right.shape else None


_PATH: Row = (CUT, "OF", _cut)
_INSTEAD = "has {} in place of the WHAT of OF, with x its input and y its output"
_WRITTEN: list[Row] = [
    ("derivative missing", "lacks the WHAT of OF", _written(lambda x, y: torch.ones_like(y))),
    ("mask inverted", "has 1 - d in place of the WHAT d of OF: is a mask inverted?",
        _sloped(lambda g, gd: g - gd)),
    ("derivative twice", "has the WHAT of OF twice", _sloped(lambda g, gd: gd * gd / g)),
    *(("derivative", _INSTEAD.format(said), _written(formula)) for said, formula in {
        "x": lambda x, y: x, "y": lambda x, y: y, "1 - y": lambda x, y: 1 - y,
        "y (1 - y)": lambda x, y: y * (1 - y), "x (1 - x)": lambda x, y: x * (1 - x),
        "1 - y^2": lambda x, y: 1 - y * y, "1 - x^2": lambda x, y: 1 - x * x,
    }.items()),
]  # fmt: skip


def _of_values(hand: Hand) -> Iterator[Row]:
    """Take a value at hand for an input of an operation, or its own in another order."""
    orders: dict[str, Callable[[Tensor], Tensor]] = {
        "without its transposition": lambda o: o.transpose(-1, -2),
        "reversed along its last axis": lambda o: o.flip(-1),
        "reversed along its last axes": lambda o: o.flip((-2, -1)),
        "with its first axes exchanged": lambda o: o.transpose(0, 1),
        "reversed, and with its first axes exchanged": lambda o: o.transpose(0, 1).flip((-2, -1)),
    }
    for said, order in orders.items():
        yield "transposed", f"takes the other factor of OF {said}", partial(_by_other, order)
    for name, value in hand:
        said = f"takes the derivative of OF at {name}, not at its own input"
        yield "at other values", said, partial(_at_value, value)
        said = f"takes {name} for the other factor of OF"
        yield "another factor", said, partial(_by_other, partial(_put, value))


def _put(value: Tensor, other: Tensor) -> Tensor:
    return value


def _at_value(value: Tensor, call: Call, k: int, g: Tensor, right: Tensor) -> Tensor | None:
    values = [u.detach() for u in call.inputs]
    if values[k].shape != value.shape or torch.equal(values[k], value):
        return None
    values[k] = value
    return call.vjp([g], values)[k]


def _by_other(
    order: Callable[[Tensor], Tensor], call: Call, k: int, g: Tensor, right: Tensor
) -> Tensor | None:
    """Take the other tensor of a call in another order, or a value in its place."""
    for n, leaf in enumerate(call.leaves):
        if isinstance(leaf, Tensor) and n != call.tracked[k] and leaf.is_floating_point():
            try:
                new = order(leaf.detach())
            except (RuntimeError, IndexError):  # it has too few axes
                continue
            if new.shape == leaf.shape and not torch.equal(new, leaf):
                leaves = [*call.leaves]
                leaves[n] = new.clone().requires_grad_(leaf.requires_grad)
                return attrs.evolve(call, leaves=leaves).vjp([g])[k]
    return None


def _by_round(
    calls: list[Call], values: list[Tensor], call: Call, k: int, g: Tensor, right: Tensor
) -> Tensor | None:
    return _by_other(partial(_put, values[calls.index(call)].detach()), call, k, g, right)


def _of_windows(pool: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda x, kernel, *args, **options: pool(x, kernel, *args)


_AVERAGES: dict[str, Callable[..., Tensor]] = {
    "max": torch.mean, "amax": torch.mean, "max_pool1d": _of_windows(functional.avg_pool1d),
    "max_pool2d": _of_windows(functional.avg_pool2d),
}  # fmt: skip
# Where the gradient of a maximum of n numbers is sent, by that of their average.
_ELSEWHERE: dict[str, Callable[[Tensor, float, Tensor], Tensor]] = {
    "to all its inputs, not to the largest alone": lambda even, n, right: n * even,
    "evenly to all its inputs, not to the largest alone": lambda even, n, right: even,
    "to all but the largest: is the mask inverted?": lambda even, n, right: n * even - right,
}


def _sent(
    to: Callable[[Tensor, float, Tensor], Tensor], call: Call, k: int, g: Tensor, right: Tensor
) -> Tensor:
    even = attrs.evolve(call, function=_AVERAGES[call.name]).vjp([g])[k]
    return to(even, right.numel() / g.numel(), right)
