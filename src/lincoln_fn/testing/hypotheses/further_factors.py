"""A whole gradient with a factor too many: x, a parameter, or the derivative of a sigmoid."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from lincoln_fn.testing.evidence import Evidence
from lincoln_fn.testing.hypotheses.hypothesis import Candidates, Guess, Hypothesis, alone

FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "exp": torch.exp,
    "relu": torch.relu,
    "softmax": lambda x: torch.softmax(x, -1),
}
SLOPES: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": lambda x: torch.sigmoid(x) * torch.sigmoid(-x),
    "tanh": lambda x: 1 - torch.tanh(x) ** 2,
    "exp": torch.exp,
}


def _each_array(change: Callable[[Tensor, Tensor], Tensor | None]) -> Candidates:
    """Make the candidate from (array, right gradient)."""

    def candidates(evidence: Evidence) -> Iterator[Guess]:
        pairs = zip(evidence.sample.arrays, evidence.expected, strict=True)
        yield Guess([change(array, right) for array, right in pairs])

    return candidates


def _through_sigmoid(p: Tensor, right: Tensor) -> Tensor | None:
    """Differentiate by the score that the sigmoid makes p of."""
    return right * p * (1 - p) if bool(((p > 0) & (p < 1)).all()) else None


def _through_log_softmax(x: Tensor, right: Tensor) -> Tensor | None:
    """Differentiate by the scores that log-softmax makes x of."""
    if not x.ndim or not torch.allclose(x.exp().sum(-1), x.new_ones(())):
        return None
    return right - x.exp() * right.sum(-1, keepdim=True)


def _with_slope(x: Tensor, right: Tensor, slope: Callable[[Tensor], Tensor], power: int) -> Tensor:
    return right * slope(x) ** power


def _multiplied(evidence: Evidence) -> Iterator[Guess]:
    """Multiply or divide a gradient by an array, or by y."""
    arrays = zip(evidence.sample.names, evidence.sample.arrays, strict=True)
    known = [(name.removeprefix("d"), array) for name, array in arrays]
    known += [("y", y) for y in evidence.y]
    known += [(f"(1 - {words})", 1 - a) for words, a in known if bool(((a > 0) & (a < 1)).all())]
    for words, factor in known:
        for how, made in (
            (f"has the further factor {words}", [_times(r, factor) for r in evidence.expected]),
            (f"is divided by {words}", [_times(r, 1 / factor) for r in evidence.expected]),
        ):
            yield Guess([*made], {"how": how})


def _times(right: Tensor, factor: Tensor) -> Tensor | None:
    fits = factor.ndim <= right.ndim and all(
        n in (1, m)
        for n, m in zip(reversed(factor.shape), reversed(right.shape), strict=False)
    )  # fmt: skip
    return right * factor if fits and factor.numel() > 1 else None


def _function_missing(evidence: Evidence) -> Iterator[Guess]:
    """Use x where a function of x belongs, in a gradient such as s (sigmoid(x) - t)."""
    for name, function in FUNCTIONS.items():
        for i, (given, right) in enumerate(evidence.pairs()):
            x = evidence.sample.arrays[i]
            if given.shape != right.shape or not x.ndim or x.numel() < 4:
                continue
            more = x - function(x)
            scale = ((given - right) * more).sum() / more.square().sum().clamp_min(1e-300)
            words = {"x": evidence.sample.names[i].removeprefix("d"), "function": name}
            yield alone(evidence, i, right + scale * more, **words)


HYPOTHESES = [
    Hypothesis("gradient by the score", "is the gradient by the score that sigmoid makes x of",
               _each_array(_through_sigmoid)),
    Hypothesis("gradient by the score", "is the gradient by the scores that log-softmax makes x of",
               _each_array(_through_log_softmax)),
    *(
        Hypothesis("derivative twice", f"has the derivative of {name} as a further factor",
                   _each_array(partial(_with_slope, slope=slope, power=1)))
        for name, slope in SLOPES.items()
    ),
    *(
        Hypothesis("derivative missing", f"is divided by the derivative of {name}: is it by its "
                   "output, not by x?",
                   _each_array(partial(_with_slope, slope=slope, power=-1)))
        for name, slope in SLOPES.items()
    ),
    Hypothesis("function missing", "takes {x} where {function}({x}) belongs", _function_missing),
    Hypothesis("further factor", "{how}", _multiplied),
]  # fmt: skip
